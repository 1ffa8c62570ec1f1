"""The client against a server that records what it is asked and answers what the test wants."""

import contextlib
import json
import socket
import struct
import threading

import pytest
from click.testing import CliRunner

from netkit.cli.main import cli
from netkit.client import Client
from netkit.errors import ApplyError, Conflict, NotFound, SpecError, Unreachable

pytestmark = pytest.mark.local_socket


class Recorder:
    """A unix socket; `answers` maps "GET /path" to bytes; `asked` gets (line, headers, body)."""

    def __init__(self, path):
        self.url, self.asked, self.answers = f"unix://{path}", [], {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as file:
                line = file.readline().decode().strip()
                if not line:
                    return
                pairs = iter(lambda: file.readline().decode().strip(), "")
                headers = {key.lower(): value.strip() for key, _, value in (p.partition(":") for p in pairs)}
                self.asked.append((line, headers, self._body(file, headers)))
                method, target, _ = line.split()
                answer = self.answers.get(
                    f"{method} {target.partition('?')[0]}", reply(404, {"message": "?"})
                )
                for part in answer if isinstance(answer, list) else [answer]:
                    connection.sendall(part)

    def _body(self, file, headers):
        if headers.get("transfer-encoding") != "chunked":
            return file.read(int(headers.get("content-length", 0)))
        parts = []
        while size := int(file.readline(), 16):
            parts.append(file.read(size))
            file.readline()
        return b"".join(parts)

    def close(self):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as last:
            last.connect(self.url.removeprefix("unix://"))
            last.shutdown(socket.SHUT_WR)
            self._thread.join(10)
        self._listener.close()


def reply(status, value=None, kind="application/json"):
    data = b"" if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def chunked(*parts):
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("NETKIT_AUTOSTART", "0")
    monkeypatch.delenv("NETKIT_HOST", raising=False)
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    recorder = Recorder("s")
    yield recorder
    recorder.close()


def run(server, *words, input=None):
    return CliRunner().invoke(cli, ["-H", server.url, *words], input=input)


def asked(server):
    return [line.removesuffix(" HTTP/1.1") for line, _, _ in server.asked]


def test_an_answer_is_its_json_and_the_verb_is_told(server):
    server.answers["GET /networks"] = reply(200, [{"Name": "lan"}])
    assert Client(server.url, verb="network ls\n--x é").get("/networks", filters="", all=True) == [
        {"Name": "lan"}
    ]
    line, headers, body = server.asked[0]
    assert line == "GET /networks?all=1 HTTP/1.1"
    assert headers["x-netkit-verb"] == "network ls --x \\xe9"
    assert body == b""


def test_an_empty_answer_is_none(server):
    server.answers["POST /containers/a/start"] = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert Client(server.url).post("/containers/a/start") is None


def test_a_chunked_answer_is_put_together(server):
    server.answers["GET /events"] = chunked(b'{"a":', b"1}\n{", b'"b":2}\n')
    with Client(server.url).open("GET", "/events") as response:
        assert [json.loads(line) for line in response] == [{"a": 1}, {"b": 2}]


def test_an_answer_may_come_byte_by_byte(server):
    whole = reply(200, {"Id": "x" * 50})
    server.answers["GET /info"] = [whole[i : i + 1] for i in range(len(whole))]
    assert Client(server.url).get("/info") == {"Id": "x" * 50}


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (400, "", SpecError),
        (500, "ApplyError", ApplyError),
    ],
)
def test_errors_come_back_as_what_they_were(server, status, kind, error):
    body = {"message": "no (look)", "error": "no", "hint": "look", "kind": kind}
    server.answers["GET /info"] = reply(status, body)
    with pytest.raises(error) as caught:
        Client(server.url).get("/info")
    assert (caught.value.message, caught.value.hint, caught.value.status) == ("no", "look", status)


@pytest.mark.parametrize("kind", ["os", "annotations", "Sequence", "NoSuch"])
def test_a_strange_kind_of_error_is_told_by_its_status(server, kind):
    server.answers["GET /info"] = reply(404, {"message": "gone", "kind": kind})
    with pytest.raises(NotFound, match="gone"):
        Client(server.url).get("/info")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"])
def test_what_is_no_answer_is_no_daemon(server, answer):
    server.answers["GET /info"] = answer
    with pytest.raises(Unreachable):
        Client(server.url).get("/info")


def test_a_hijacked_stream_begins_right_after_the_head(server):
    frame = struct.pack(">BxxxI", 1, 2) + b"hi"
    server.answers["POST /containers/a/attach"] = b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n" + frame
    with Client(server.url).hijack("/containers/a/attach", stream=True) as sock:
        got = b""
        while data := sock.recv(100):
            got += data
    assert got == frame
    assert server.asked[0][1]["upgrade"] == "tcp"


def test_a_refused_stream_is_an_error(server):
    server.answers["POST /containers/a/attach"] = reply(404, {"error": "no such container: a", "hint": "ps"})
    with pytest.raises(NotFound, match="no such container"):
        Client(server.url).hijack("/containers/a/attach")


def test_no_daemon_and_no_leave_to_start_one(tmp_path, monkeypatch):
    monkeypatch.setenv("NETKIT_AUTOSTART", "0")
    with pytest.raises(Unreachable) as caught:
        Client(f"unix://{tmp_path}/none").get("/info")
    assert "netkit daemon" in caught.value.hint


def test_a_daemon_elsewhere_is_not_started_without_its_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("NETKIT_AUTOSTART", raising=False)
    monkeypatch.delenv("NETKIT_STATE_DIR", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(Unreachable) as caught:
        Client(f"unix://{tmp_path}/none").get("/info")
    assert "NETKIT_STATE_DIR" in caught.value.hint


@pytest.mark.parametrize("host", ["ftp://x", "unix://", "/run/x.sock", "tcp://host", "tcp://:x"])
def test_a_place_that_cannot_be_is_a_wrong_request(host):
    with pytest.raises(SpecError):
        Client(host)


def test_logs_keep_the_two_outputs_apart(server):
    frames = b"".join(
        struct.pack(">BxxxI", n, len(t)) + t for n, t in ((1, b"out\n"), (2, b"err\n"), (1, b"more\n"))
    )
    server.answers["GET /containers/a/json"] = reply(200, {"Config": {"Tty": False}})
    server.answers["GET /containers/a/logs"] = chunked(frames[:3], frames[3:20], frames[20:])
    done = run(server, "logs", "-t", "--tail", "5", "a")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "out\nmore\n", "err\n")
    assert asked(server)[-1] == "GET /containers/a/logs?timestamps=1&tail=5&stdout=1&stderr=1"


def test_an_upload_goes_out_in_chunks(server, tmp_path):
    tar = tmp_path / "x.tar"
    tar.write_bytes(b"t" * 200_000)
    server.answers["POST /images/create"] = reply(200, b'{"status":"sha256:1"}\r\n')
    assert run(server, "image", "import", str(tar), "box:2").stdout == "sha256:1\n"
    line, headers, body = server.asked[0]
    assert line.split()[1] == "/images/create?fromSrc=-&repo=box&tag=2"
    assert headers["content-type"] == "application/x-tar"
    assert body == b"t" * 200_000


CREATE = reply(201, {"Id": "abc", "Warnings": []})


def created(server, *words):
    """The body that `netkit create` sends."""
    server.answers["POST /containers/create"] = CREATE
    done = run(server, "create", *words)
    assert (done.exit_code, done.stdout) == (0, "abc\n"), done.output
    return json.loads(server.asked[-1][2])


def test_a_container_is_described_as_docker_describes_it(server, monkeypatch):
    monkeypatch.setenv("OWN", "mine")
    body = created(
        server, "--name", "web", "-it", "-e", "A=1", "-e", "OWN", "-e", "NONE", "-l", "k=v", "-w", "/srv", "-u", "1:2",
        "-h", "web1", "--memory", "64m", "--cpus", "1.5", "--pids-limit", "9", "--cap-add", "NET_ADMIN",
        "--restart", "on-failure:3", "--add-host", "a:1.2.3.4", "--sysctl", "net.x=1", "--read-only", "--rm",
        "--entrypoint", "/bin/sh", "box", "-c", "true",
    )  # fmt: skip
    assert asked(server) == ["POST /containers/create?name=web"]
    wanted = {
        "Image": "box", "Cmd": ["-c", "true"], "Entrypoint": ["/bin/sh"], "Env": ["A=1", "OWN=mine"], "Tty": True,
        "Labels": {"k": "v"}, "WorkingDir": "/srv", "User": "1:2", "Hostname": "web1", "OpenStdin": True,
    }  # fmt: skip
    assert {key: body[key] for key in wanted} == wanted
    host = {
        "Memory": 64 << 20, "NanoCpus": 1_500_000_000, "PidsLimit": 9, "CapAdd": ["NET_ADMIN"], "AutoRemove": True,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "ExtraHosts": ["a:1.2.3.4"],
        "Sysctls": {"net.x": "1"}, "ReadonlyRootfs": True, "NetworkMode": "default",
    }  # fmt: skip
    assert {key: body["HostConfig"][key] for key in host} == host


def test_ports_are_bound_as_docker_binds_them(server):
    body = created(
        server, "-p", "8080:80", "-p", "127.0.0.1::53/udp", "-p", "90-91:90-91", "--expose", "7", "box"
    )
    assert body["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
        "90/tcp": [{"HostIp": "", "HostPort": "90"}],
        "91/tcp": [{"HostIp": "", "HostPort": "91"}],
    }
    assert set(body["ExposedPorts"]) == {"7/tcp", "80/tcp", "53/udp", "90/tcp", "91/tcp"}


def test_several_networks_each_with_its_wishes(server):
    body = created(
        server, "--network", "name=lan,ip=10.0.0.5,alias=a,alias=b,interface=lan0", "--network", "dmz",
        "--network-alias", "c", "--mac-address", "02-42-0a-00-00-05", "--link", "db", "box",
    )  # fmt: skip
    assert body["HostConfig"]["NetworkMode"] == "lan"
    assert body["HostConfig"]["Links"] == ["db:db"]
    assert body["NetworkingConfig"]["EndpointsConfig"] == {
        "lan": {
            "IPAMConfig": {"IPv4Address": "10.0.0.5"},
            "MacAddress": "02:42:0a:00:00:05",
            "DriverOpts": {"com.docker.network.endpoint.ifname": "lan0"},
            "Aliases": ["a", "b", "c"],
        },
        "dmz": {},
    }


TYPOS = [
    ("create", "-p", "99999:80", "box"),
    ("create", "--ip", "1.2.3", "box"),
    ("create", "--memory", "lots", "box"),
    ("create", "--memory", "inf", "box"),
    ("create", "--cpus", "nan", "box"),
    ("create", "--cpus", "-1", "box"),
    ("create", "--network", "name=a,colour=red", "box"),
    ("create", "--network", "a", "--network", "a", "box"),
    ("create", "--network", "a", "--network", "host", "box"),
    ("create", "--network", "host", "--ip", "10.0.0.5", "box"),
    ("create", "--env-file", "/nonexistent", "box"),
    ("create", "--restart", "maybe", "box"),
    ("create", "--name", "-", "box"),
    ("network", "create", "--subnet", "10.0.0.0", "lan"),
    ("network", "create", "--gateway", "x", "lan"),
    ("network", "connect", "--mac-address", "01:00:00:00:00:00", "lan", "web"),
    ("bridge", "add", "a-name-that-is-too-long"),
    ("bridge", "add", "br0", "--fixed-cidr", "10"),
    ("link", "add", "web", "a:b:c"),
    ("publish", "web", "http"),
    ("ps", "-f", "name"),
]


@pytest.mark.parametrize("words", TYPOS, ids=" ".join)
def test_a_typo_ends_before_the_daemon_is_asked(server, words):
    done = run(server, *words)
    assert isinstance(done.exception, SpecError | SystemExit), done.exception
    assert getattr(done.exception, "exit_code", done.exit_code) == 2
    assert server.asked == []


def test_a_dry_run_prints_the_plan_of_all_and_does_nothing_else(server):
    for name in ("a", "b"):
        server.answers[f"DELETE /containers/{name}"] = reply(
            200, {"Operations": [{"Verb": "delete", "Text": f"- delete veth of {name}"}]}
        )
    done = run(server, "rm", "-f", "--dry-run", "a", "b")
    assert done.stdout == "- delete veth of a\n- delete veth of b\n"
    assert asked(server) == [f"DELETE /containers/{name}?force=1&dry_run=1" for name in ("a", "b")]
    assert len(json.loads(run(server, "rm", "--dry-run", "--json", "a", "b").stdout)["Operations"]) == 2


def test_of_several_things_all_are_tried(server):
    server.answers["POST /containers/a/stop"] = reply(
        404, {"error": "no a", "hint": "ps", "kind": "NotFound"}
    )
    server.answers["POST /containers/b/stop"] = reply(204)
    done = run(server, "stop", "-t", "0", "a", "b")
    assert (done.exit_code, done.stdout) == (NotFound.exit_code, "b\n")
    assert done.stderr == "netkit: no a\nhint: ps\n"
    assert asked(server)[-1] == "POST /containers/b/stop?t=0"
    listed = json.loads(run(server, "stop", "--json", "a", "b").stdout)
    assert listed == [{"Name": "a", "Error": "no a"}, {"Name": "b", "Error": ""}]


def test_a_plan_ends_with_3_on_demand(server):
    server.answers["GET /netkit/plan"] = reply(200, {"Operations": []})
    assert run(server, "plan", "--exit-code").stdout == "nothing to change\n"
    server.answers["GET /netkit/plan"] = reply(200, {"Operations": [{"Text": "+ create veth x"}]})
    done = run(server, "plan", "--exit-code")
    assert (done.exit_code, done.stdout) == (3, "+ create veth x\n")
    assert run(server, "plan").exit_code == 0


def test_what_is_missing_does_not_hide_what_is_there(server):
    server.answers["GET /networks/lan"] = reply(200, {"Name": "lan"})
    done = run(server, "network", "inspect", "-f", "{{.Name}}", "gone", "lan")
    assert done.stdout == "lan\n"
    assert done.exit_code != 0


def test_what_is_missing_is_no_error_for_rm_by_force(server):
    server.answers["DELETE /containers/a"] = reply(204)
    for words in (("rm", "-f", "nothere", "a"), ("network", "rm", "-f", "nothere")):
        done = run(server, *words)
        assert done.exit_code == 0
        assert "netkit: ?" in done.stderr
    assert run(server, "rm", "-f", "nothere", "a").stdout == "a\n"
    assert run(server, "rm", "nothere").exit_code == 4
    shown = json.loads(run(server, "rm", "-f", "--json", "nothere").stdout)
    assert shown == [{"Name": "nothere", "Error": "?"}]


def test_a_dry_run_that_is_refused_has_no_plan(server):
    server.answers["DELETE /images/box"] = reply(409, {"message": "in use", "kind": "Conflict"})
    done = run(server, "rmi", "--dry-run", "box")
    assert (done.exit_code, done.stdout) == (5, "")
    assert "in use" in done.stderr


SILENT = {
    ("rename", "a", "b"): ("POST /containers/a/rename", None),
    ("publish", "a", "80:80"): ("POST /netkit/containers/a/publish", {"Ports": {}}),
    ("unpublish", "a", "80:80"): ("POST /netkit/containers/a/unpublish", {"Ports": {}}),
    ("link", "add", "a", "b:c"): ("POST /netkit/links", {"Parent": "a", "Target": "b", "Alias": "c"}),
    ("link", "rm", "a", "c"): ("DELETE /netkit/links", None),
    ("network", "connect", "lan", "a"): ("POST /networks/lan/connect", None),
    ("network", "disconnect", "lan", "a"): ("POST /networks/lan/disconnect", None),
    ("network", "alias", "lan", "a", "--add", "x"): ("POST /netkit/networks/lan/aliases", None),
    ("bridge", "attach", "br0", "eth1"): ("POST /netkit/bridges/br0/attach", None),
    ("bridge", "detach", "br0", "eth1"): ("POST /netkit/bridges/br0/detach", None),
}


@pytest.mark.parametrize("words", SILENT, ids=" ".join)
def test_what_says_nothing_to_a_person_says_json_on_demand(server, words):
    place, answer = SILENT[words]
    server.answers[place] = reply(200, answer)
    assert run(server, *words).stdout == ""
    said = json.loads(run(server, *words, "--json").stdout)
    assert said == answer if answer else said


def test_a_question_is_no_part_of_the_json(server):
    server.answers["POST /networks/prune"] = reply(200, {"NetworksDeleted": ["lan"]})
    done = run(server, "network", "prune", "--json", input="y\n")
    assert json.loads(done.stdout) == {"NetworksDeleted": ["lan"]}
    assert "Remove all networks" in done.stderr


def test_a_terminal_is_not_fed_from_a_pipe(server):
    for words in (("run", "-it", "box"), ("exec", "-it", "web", "sh")):
        refused = run(server, *words, input="x").exception
        assert (refused.message, refused.exit_code) == ("the input device is not a TTY", 1)
    assert asked(server) == []


def test_images_of_one_name(server):
    server.answers["GET /images/json"] = reply(200, [])
    assert run(server, "images", "box", "--json").stdout == "[]\n"
    assert asked(server) == ["GET /images/json?filters=%7B%22reference%22%3A+%5B%22box%22%5D%7D"]
