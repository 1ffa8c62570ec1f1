"""From words of the command line to bodies of Docker's API."""

import json

import click
import pytest

from netkit.cli.run import create_body, environment, run
from netkit.cli.wishes import endpoint_body, filter_words, network_wish, parse_bytes, wish_body
from netkit.errors import SpecError


def given(*argv):
    """What click makes of the words after `netkit run`."""
    return run.make_context("run", list(argv)).params


def body(*argv, attached=True):
    return create_body(given(*argv), attached=attached)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1048576", 1 << 20), ("64m", 64 << 20), ("64M", 64 << 20), ("64mb", 64 << 20), ("64MiB", 64 << 20),
     ("1.5g", 3 << 29), ("2k", 2048), ("7b", 7), ("0", 0)],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "lots", "5x", "m", "-1m", "1 g", "1e999", "nan", "0x10"])
def test_what_is_no_size(text):
    with pytest.raises(SpecError) as told:
        parse_bytes(text)
    assert told.value.hint


def test_a_network_wish_is_a_name_or_many_words():
    assert network_wish("br0") == {"name": "br0"}
    text = "name=br0,ip=10.0.0.5,alias=a,alias=b,driver-opt=com.docker.network.endpoint.ifname=lan0"
    wish = network_wish(text)
    assert wish == {"name": "br0", "ip": "10.0.0.5", "aliases": ["a", "b"], "interface": "lan0"}
    assert wish_body({**wish, "gw-priority": "7"}) == {
        "IPAMConfig": {"IPv4Address": "10.0.0.5"},
        "Aliases": ["a", "b"],
        "DriverOpts": {"com.docker.network.endpoint.ifname": "lan0"},
        "GwPriority": 7,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [("name=a,ipp=1", "'ip'"), ("ip=10.0.0.1", "name=NETWORK"), ("name=,ip=1", "name=NETWORK"),
     ("name=a,driver-opt=x=y", "known")],
)  # fmt: skip
def test_what_is_no_network_wish(text, words):
    with pytest.raises(SpecError) as told:
        network_wish(text)
    assert words in told.value.hint


@pytest.mark.parametrize(
    "wish", [{"ip": "ten"}, {"mac-address": "zz"}, {"gw-priority": "high"}, {"ip": "::1"}]
)
def test_wishes_that_mean_nothing(wish):
    with pytest.raises(SpecError):
        wish_body({"name": "a", **wish})


def test_a_wish_for_nothing_is_an_empty_body():
    assert endpoint_body() == {}
    assert wish_body({"name": "a"}) == {}


def test_filters():
    assert filter_words([]) == ""
    assert json.loads(filter_words(["a=1", "a=2", "b=x=y"])) == {
        "a": {"1": True, "2": True},
        "b": {"x=y": True},
    }
    with pytest.raises(SpecError):
        filter_words(["bare"])


def test_words_after_the_image_are_the_containers():
    made = body("-e", "A=1", "box", "sh", "-e", "--name", "x")
    assert made["Image"] == "box"
    assert made["Cmd"] == ["sh", "-e", "--name", "x"]
    assert made["Env"] == ["A=1"]


def test_stdin_is_ended_with_whoever_is_attached():
    assert body("-i", "box")["StdinOnce"] is True
    assert body("-i", "box", attached=False)["StdinOnce"] is False
    assert body("-i", "box", attached=False)["OpenStdin"] is True
    assert body("box")["AttachStdin"] is False


def test_ports_become_bindings_and_are_exposed():
    made = body("-p", "127.0.0.1:8080:80", "-p", "8081:80", "-p", "53/udp", "--expose", "9000-9001", "box")
    assert made["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "", "HostPort": "8081"}],
        "53/udp": [{"HostIp": "", "HostPort": ""}],
    }
    assert set(made["ExposedPorts"]) == {"80/tcp", "53/udp", "9000/tcp", "9001/tcp"}
    said = body("-p", "0.0.0.0:8080:80", "-p", "0:81", "-p", "127.0.0.1:0:82", "box")
    assert said["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}],
        "81/tcp": [{"HostIp": "", "HostPort": ""}],
        "82/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
    }


def test_limits_and_policies():
    host = body("-m", "64m", "--cpus", "1.5", "--pids-limit", "9", "--restart", "on-failure:3", "box")[
        "HostConfig"
    ]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 1_500_000_000, 9)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}


@pytest.mark.parametrize(
    "words",
    [("--restart", "sometimes"), ("--restart", "on-failure:x"), ("--restart", "on-failure:-1"), ("--dns", "x"),
     ("--cpus", "-1"), ("--cpus", "nan"), ("--network", "host", "--network", "a"), ("--network", "none", "--ip", "10.0.0.1"),
     ("--network", "a", "--network", "a"), ("-p", "x"), ("--expose", "0"), ("--link", ":"), ("--ip", "x")],
)  # fmt: skip
def test_what_run_does_not_take(words):
    with pytest.raises(SpecError) as told:
        body(*words, "box")
    assert told.value.hint


def test_labels_are_pairs():
    assert body("-l", "a=b=c", "-l", "bare", "box")["Labels"] == {"a": "b=c", "bare": ""}
    with pytest.raises(click.BadParameter):
        body("-l", "=x", "box")


def test_networks_the_first_is_the_mode():
    made = body("--network", "name=a,ip=10.0.0.2", "--network", "b", "--network-alias", "x", "box")
    assert made["HostConfig"]["NetworkMode"] == "a"
    assert made["NetworkingConfig"]["EndpointsConfig"] == {
        "a": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}, "Aliases": ["x"]},
        "b": {},
    }
    assert body("box")["NetworkingConfig"]["EndpointsConfig"] == {}
    assert body("--network", "container:web", "box")["HostConfig"]["NetworkMode"] == "container:web"


def test_an_entrypoint_may_be_taken_away():
    assert "Entrypoint" not in body("box")
    assert body("--entrypoint", "", "box")["Entrypoint"] == [""]
    assert body("--entrypoint", "sh", "box")["Entrypoint"] == ["sh"]


def test_variables_from_files_words_and_ourselves(tmp_path, monkeypatch):
    monkeypatch.setenv("OURS", "here")
    monkeypatch.delenv("NOT_OURS", raising=False)
    (tmp_path / "env").write_text("# no\n\nA=1\nOURS\n")
    assert environment(["B=2", "NOT_OURS"], [str(tmp_path / "env")]) == ["A=1", "OURS=here", "B=2"]
    with pytest.raises(SpecError):
        environment([], [str(tmp_path / "none")])


def test_a_file_of_variables_is_read_as_docker_reads_it(tmp_path):
    file = tmp_path / "env"
    file.write_bytes("\ufeffA=1\r\n  B= two words \n\t# no\n\x0bC=3\n".encode())
    assert environment([], [str(file)]) == ["A=1", "B= two words ", "C=3"]
    for bad in (b"A B=1", b"A\t=1", b"=1", b"  =1", b"A=\xff"):
        file.write_bytes(bad)
        with pytest.raises(SpecError) as told:
            environment([], [str(file)])
        assert str(file) in told.value.message
        assert told.value.hint
