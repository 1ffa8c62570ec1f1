"""What the runtime's programs are told and what they answer; pure."""

import json

import pytest

from netkit.errors import ApplyError, SpecError
from netkit.runtime import changes
from netkit.runtime.images import full
from netkit.runtime.monitor import NotRunnable, refusal, spoken, verdict
from netkit.runtime.overlay import _parse
from netkit.runtime.process import possible
from netkit.runtime.rootpath import inside

LINE = 'time="2026-01-31T12:00:00Z" level=error msg="runc create failed: {}"\n'


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('unable to start container process: exec: \\"nope\\": executable file not found in $PATH', 127),
        ('unable to start container process: exec: \\"/x\\": stat /x: no such file or directory', 127),
        ('unable to start container process: exec: \\"/etc\\": is a directory', 126),
        ('unable to start container process: exec: \\"/etc/passwd\\": permission denied', 126),
    ],
)
def test_a_program_at_fault_has_a_shells_code(said, code):
    err = refusal(LINE.format(said), "create")
    assert isinstance(err, NotRunnable)
    assert (err.container_exit_code, err.status) == (code, 400)
    assert err.message.startswith("OCI runtime create failed: runc create failed: unable to start")
    assert '"' in err.message
    assert "\\" not in err.message


def test_any_other_refusal_is_an_error_of_the_host():
    err = refusal(LINE.format("unable to apply cgroup configuration: no such file or directory"), "create")
    assert isinstance(err, ApplyError)


def test_what_was_said_without_form_is_passed_on_in_one_line():
    assert spoken("panic:\n  out of luck\n") == "panic: out of luck"
    assert spoken("") == "it said nothing"


def test_the_monitors_answers():
    assert verdict('{"data": 4711}\n', "create") == 4711
    with pytest.raises(NotRunnable):
        verdict(json.dumps({"data": -1, "message": 'exec: "x": executable file not found'}) + "\n", "exec")
    with pytest.raises(ApplyError, match="without a word"):
        verdict("", "create")


def test_capabilities_that_we_have_not_got_are_not_asked_for():
    sets = {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"], "effective": ["CAP_CHOWN"]}
    text = json.dumps({"process": {"capabilities": sets, "cwd": "/"}, "root": {"path": "rootfs"}})
    everything = frozenset({"CAP_CHOWN", "CAP_SYS_RESOURCE"})
    assert possible(text, everything, list) == text
    less = json.loads(possible(text, frozenset({"CAP_CHOWN"}), list))
    assert less["process"]["capabilities"] == {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]}
    assert (less["process"]["cwd"], less["root"]) == ("/", {"path": "rootfs"})


def test_who_may_open_every_device_has_them_all():
    def devices_of(*rules):
        config = {"process": {}, "linux": {"resources": {"devices": rules}}}
        text = possible(json.dumps(config), frozenset(), lambda: [{"path": "/dev/net/tun"}])
        return json.loads(text)["linux"].get("devices", [])

    assert devices_of({"allow": True, "access": "rwm"}) == [{"path": "/dev/net/tun"}]
    assert devices_of({"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "access": "m"}) == []


@pytest.mark.parametrize("name", ["box", "box:latest", "docker.io/library/box", "library/box:latest"])
def test_names_have_one_form(name):
    assert full(name) == "box:latest"
    assert full("registry:5000/me/box") == "registry:5000/me/box:latest"


def test_mount_options_with_odd_paths_are_read():
    options = r"rw,lowerdir=/a\134:b:/c\134,d,upperdir=/u\040p,workdir=/w,redirect_dir=on"
    mount = _parse("/s/containers/4f1c/rootfs", options, host="/none")
    assert mount.lowers == ("/a:b", "/c,d")
    assert (mount.upper, mount.work) == ("/u p", "/w")
    assert mount.owner == "container/4f1c"


def test_changes_are_refused_by_name():
    with pytest.raises(SpecError) as caught:
        changes.apply(["WORKDIRR /"])
    assert "'WORKDIR'" in caught.value.hint
    with pytest.raises(SpecError, match="invalid list"):
        changes.apply(["CMD [sh]"])


def test_the_plain_form_of_a_command_is_a_shells():
    assert changes.apply(["CMD echo $HOME"]).command == ("/bin/sh", "-c", "echo $HOME")
    assert changes.apply(["ENV A=1", "ENV A=2", "ENV B some words"]).env == ("A=2", "B=some words")


def test_paths_stay_inside(tmp_path):
    (tmp_path / "usr/etc").mkdir(parents=True)
    (tmp_path / "etc").symlink_to("/usr/etc")
    (tmp_path / "up").symlink_to("../../../..")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert inside(tmp_path, "/etc/passwd") == tmp_path / "usr/etc/passwd"
    assert inside(tmp_path, "up/../x") == tmp_path / "x"
    assert inside(tmp_path, "etc", follow_last=False) == tmp_path / "etc"
    with pytest.raises(SpecError, match="too many links"):
        inside(tmp_path, "a")
