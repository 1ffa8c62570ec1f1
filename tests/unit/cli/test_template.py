"""Templates of `inspect -f`, as Docker's users write them."""

import pytest

from netkit.cli.template import fill
from netkit.errors import SpecError

VALUE = {
    "Id": "abc",
    "State": {"Pid": 7, "Running": True, "Error": None},
    "Networks": {"lan": {"IP": "10.0.0.2"}, "dmz": {"IP": "10.1.0.2"}},
    "Ports": {"80/tcp": [{"HostPort": "8080"}]},
    "Env": ["A=1", "B=2"],
    "Empty": [],
}

FILLED = {
    "{{.Id}}": "abc",
    "{{ .State.Pid }}": "7",
    "{{.State.Running}} {{.State.Error}}": "true <no value>",
    "{{json .Env}}": '["A=1", "B=2"]',
    "{{range .Networks}}{{.IP}} {{end}}": "10.1.0.2 10.0.0.2 ",
    "{{range $name, $net := .Networks}}{{$name}}={{$net.IP}};{{end}}": "dmz=10.1.0.2;lan=10.0.0.2;",
    "{{range $e := .Env}}{{$e}},{{end}}": "A=1,B=2,",
    "{{range .Env}}{{$.Id}}{{end}}": "abcabc",
    "{{range .Empty}}x{{else}}none{{end}}": "none",
    "{{if .State.Running}}up{{else}}down{{end}}": "up",
    "{{if .Empty}}a{{else}}{{if .Id}}b{{end}}c{{end}}d": "bcd",
    '{{(index (index .Ports "80/tcp") 0).HostPort}}': "8080",
    '{{index .Ports "81/tcp"}}': "<no value>",
    '{{join .Env " "}} {{len .Env}} {{upper .Id}}': "A=1 B=2 2 ABC",
    "a {{- .Id -}} b": "aabcb",
    '{{.Id}}{{"\\n"}}': "abc\n",
    # Lists, maps and what they lack, as Go prints them.
    "{{.Env}} {{.Empty}}": "[A=1 B=2] []",
    "{{.Ports}}": "map[80/tcp:[map[HostPort:8080]]]",
    "{{.State}}": "map[Error:<nil> Pid:7 Running:true]",
    '{{if eq .Id "abc"}}y{{else}}n{{end}}{{if ne .Id "abc"}}y{{else}}n{{end}}': "yn",
    "{{eq .State.Pid 8 7}} {{eq .State.Running true}} {{not .Empty}}": "true true true",
    '{{if and .Id (eq .State.Pid 7)}}both{{end}} {{or .Empty .Id "x"}} {{and .Id .Empty}}': "both abc []",
}


@pytest.mark.parametrize("template", FILLED)
def test_a_template_is_filled_in(template):
    assert fill(template, VALUE) == FILLED[template]


REFUSED = {
    "{{.Nme}}": ".Nme",
    "{{.State.Pidd}}": "'Pid'",
    "{{.Id.More}}": "no fields",
    "{{range .Env}}": "without {{end}}",
    "{{range .Id}}{{end}}": "not many",
    "{{end}}": "{{end}}",
    "{{else}}": "{{else}}",
    "{{printf .Id}}": "printf",
    "{{.Id | json}}": "not understood",
    "{{index .Env 9}}": "out of range",
    "{{(.Id}}": "bracket",
    "{{$nothing}}": "$nothing",
    "{{json}}": "{{json}}",
    '{{"\\x"}}': "not understood",
    "{{if}}{{end}}": "not understood",
    "{{join .State 1}}": "worked out",
    "{{.Bad": "{{.Bad is not closed",
    "{{.Id}} {{ .Env": "{{ .Env is not closed",
    "{{eq .Id}}": "worked out",
    "{{and}}": "worked out",
}


@pytest.mark.parametrize("template", REFUSED)
def test_what_is_not_understood_is_named(template):
    with pytest.raises(SpecError) as refused:
        fill(template, VALUE)
    assert REFUSED[template] in str(refused.value)
    assert refused.value.hint
