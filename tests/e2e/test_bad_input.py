"""Bad input: a clear error with a hint, the right exit code, and nothing changed.

Each row is a command line, its exit code, and words that its message and its hint must have.
"""

import contextlib
import http.client
import json
import socket

import pytest

from tests.e2e.probes import idle

SPEC, NOT_FOUND, CONFLICT, FORBIDDEN, UNREACHABLE = 2, 4, 5, 6, 11
DAEMON = 125  # `run` keeps other codes for the command itself


def in_kernel(lab):
    """Rules, links, addresses, routes, sets, namespaces."""
    return lab.host.sh(
        "iptables-save | grep -v '^[#:]'; ip -o link | cut -d@ -f1 | cut -d: -f2;"
        " ip -o -4 address | cut -d: -f2; ip route | sed 's/linkdown *//';"
        " ipset list -t | grep -v References; ip netns | sed /nkt-/d"
    )


def in_state(lab):
    return sorted((lab.state / "containers").iterdir())


def everything(lab):
    """All that a mistake must leave as it is, in the kernel, in the state folder, in the intent."""
    asked = [lab.out("ps", "-aq", "--no-trunc"), lab.out("network", "ls", "--no-trunc")]
    return in_kernel(lab), asked, in_state(lab), lab.plan()


@pytest.fixture(scope="module")
def busy(lab):
    """Networks and containers to clash with: all that the rows name."""
    lab.host.sh(
        "ip link add wan type veth peer name wan1 && ip address add 10.77.0.1/24 dev wan && ip link set wan up"
        " && ip link add other type bridge && ip address add 10.78.0.1/24 dev wan noprefixroute && ip address add 10.79.0.1 dev wan"
    )
    lab.netkit("network", "create", "--subnet", "10.66.0.0/24", "--ip-range", "10.66.0.64/26", "lan")
    lab.netkit("network", "create", "--subnet", "10.67.0.0/29", "tiny")
    lab.netkit("network", "create", "--no-icc", "lone")
    idle(lab, "web", "--network", "name=lan,ip=10.66.0.70", "-p", "8000:80")
    idle(lab, "far", "--network", "lone", "--expose", "9")
    lab.netkit("create", "--name", "asleep", "--network", "lan", "--expose", "9", "box", "true")
    for number in range(5):
        idle(lab, f"full{number}", "--network", "tiny")
    with lab.host.listening(9999, "mine"):
        yield lab, everything(lab), [in_kernel(lab), in_state(lab)]
    lab.netkit("rm", "-f", "web", "far", "asleep", *(f"full{number}" for number in range(5)))
    lab.netkit("network", "rm", "lan", "tiny", "lone")
    lab.host.sh("ip link del wan; ip link del other")


def run(*words):
    return ("run", "-d", *words, "box", "sleep", "9")


NETWORKS = [
    (("bridge", "add", "a-name-of-18-chars"), SPEC, "a-name-of-18-chars", "15"),
    (("bridge", "add", "a/b"), SPEC, "a/b", "letters"),
    (("bridge", "add", "wan"), CONFLICT, "wan exists already", "another name"),
    (("bridge", "add", "--adopt", "wan"), SPEC, "not a bridge but", "name a bridge"),
    (("bridge", "add", "--adopt", "nothere"), NOT_FOUND, "does not exist", "bridge add nothere"),
    (("bridge", "add", "b1", "--address", "10.77.0.9/24"), CONFLICT, "route to 10.77.0.0/24", "subnet"),
    (("bridge", "add", "b1", "--address", "10.78.0.9/25"), CONFLICT, "10.78.0.1/24 of link wan", "subnet"),
    (("bridge", "add", "b1", "--address", "10.79.0.1/24"), CONFLICT, "in use by link wan", "another address"),
    (("bridge", "add", "b1", "--address", "10.66.0.9/16"), CONFLICT, "of network lan", "subnet"),
    (("bridge", "add", "b1", "--address", "10.9.0.1/24", "--fixed-cidr", "10.8.0.0/26"), SPEC,
     "outside its subnet 10.9.0.0/24", "10.9.0."),
    (("bridge", "add", "b1", "--address", "10.9.0.256/24"), SPEC, "10.9.0.256/24", "192.168"),
    (("bridge", "add", "b1", "--mtu", "20"), SPEC, "mtu 20", "68"),
    (("bridge", "rm", "nothere"), NOT_FOUND, "nothere", ""),
    (("bridge", "attach", "lan", "nothere0"), NOT_FOUND, "nothere0", ""),
    (("bridge", "attach", "lan", "lo"), SPEC, "loopback", "NIC"),
    (("bridge", "attach", "lan", "other"), SPEC, "other is a bridge", "NIC"),
    (("bridge", "detach", "lan", "wan"), NOT_FOUND, "wan was not attached", ""),
    (("network", "create", "lan"), CONFLICT, "lan already exists", "another name"),
    (("network", "create", "a b"), SPEC, "a b", "letters"),
    (("network", "create", "--subnet", "10.66.0.128/25", "n"), CONFLICT, "of network lan", "subnet"),
    (("network", "create", "--subnet", "fe80::/64", "n"), SPEC, "fe80::/64", "IPv4"),
    (("network", "create", "--subnet", "10.9.0.0/31", "n"), SPEC, "no room", "30"),
    (("network", "create", "--subnet", "10.9.0.0/24", "--ip-range", "10.10.0.0/26", "n"), SPEC,
     "outside its subnet", "10.9.0"),
    (("network", "create", "--subnet", "10.9.0.0/24", "--gateway", "10.10.0.1", "n"), SPEC,
     "gateway 10.10.0.1", "10.9.0.1"),
    (("network", "create", "--subnet", "10.9.0.0/24", "--gateway", "10.9.0.255", "n"), SPEC,
     "gateway 10.9.0.255", "10.9.0.1"),
    (("network", "create", "--gateway", "10.9.0.1", "n"), SPEC, "gateway 10.9.0.1", "--subnet"),
    (("network", "create", "--ip-range", "10.9.0.0/26", "n"), SPEC, "10.9.0.0/26", "--subnet"),
    (("network", "create", "--subnet", "10.9.0.0/24", "--aux-address", "r=10.9.1.2", "n"), SPEC,
     "r=10.9.1.2 is outside", ""),
    (("network", "create", "--subnet", "10.9.0.0/24", "--aux-address", "r=10.9.0.1", "n"), CONFLICT,
     "is the gateway", ""),
    (("network", "create", "--aux-address", "10.9.0.1", "n"), SPEC, "--aux-address 10.9.0.1=", "192.168"),
    (("network", "create", "--subnet", "127.9.0.0/24", "n"), SPEC, "not for hosts", "private"),
    (("network", "create", "-d", "bridg", "n"), NOT_FOUND, "no network driver named 'bridg'", "'bridge'"),
    (("network", "create", "-o", "com.docker.network.bridge.enable_ic=false", "n"), SPEC,
     "enable_ic", "enable_icc"),
    (("network", "create", "-o", "com.docker.network.bridge.enable_icc=maybe", "n"), SPEC, "maybe", "true"),
    (("network", "create", "-o", "com.docker.network.driver.mtu=big", "n"), SPEC, "big", "number"),
    (("network", "create", "-o", "com.docker.network.bridge.name=an-overlong-interface", "n"), SPEC,
     "an-overlong-interface", "15"),
    (("network", "rm", "lan"), FORBIDDEN, "active endpoints: web", "network disconnect lan web"),
    (("network", "rm", "bridge"), FORBIDDEN, "pre-defined", ""),
    (("network", "rm", "lam"), NOT_FOUND, "lam", "'lan'"),
    (("network", "connect", "lan", "web"), CONFLICT, "already on network lan", "disconnect"),
    (("network", "connect", "lon", "web"), NOT_FOUND, "lon", "did you mean"),
    (("network", "connect", "lan", "wep"), NOT_FOUND, "wep", "'web'"),
    (("network", "connect", "--ip", "10.66.0.70", "lan", "far"), CONFLICT, "10.66.0.70", ""),
    (("network", "connect", "--ip", "10.66.0.1", "lan", "far"), CONFLICT, "10.66.0.1", ""),
    (("network", "connect", "--ip", "10.1.1.1", "lan", "far"), SPEC, "10.1.1.1", "10.66.0."),
    (("network", "connect", "--ip", "10.66.0.255", "lan", "far"), CONFLICT, "10.66.0.255 is reserved", ""),
    (("network", "connect", "--ip", "ten", "lan", "far"), SPEC, "'ten'", "192.168"),
    (("network", "connect", "--mac-address", "01:00:00:00:00:01", "lan", "far"), SPEC, "01:00", "unicast"),
    (("network", "connect", "--interface", "an-overlong-interface", "lan", "far"), SPEC, "an-overlong", "15"),
    (("network", "connect", "--interface", "eth0", "lan", "far"), SPEC, "eth0 is in use", "another"),
    (("network", "connect", "tiny", "web"), CONFLICT, "tiny", "network"),
    (("network", "disconnect", "lone", "web"), NOT_FOUND, "not on network lone", ""),
    (("network", "disconnect", "lan", "web"), CONFLICT, "publishes ports", "unpublish"),
    (("network", "inspect", "nothere"), NOT_FOUND, "nothere", ""),
]  # fmt: skip

CONTAINERS = [
    (run("--name", "web"), DAEMON, "'web' is in use", "another name"),
    (run("--name", "a b"), DAEMON, "a b", "letters"),
    (run("-p", "8000:80"), DAEMON, "8000/tcp on 0.0.0.0 is taken by container web", "another host port"),
    (run("-p", "192.0.2.77:80:80"), DAEMON, "this host has no address 192.0.2.77", "one that it has"),
    (run("-p", "9999:80"), DAEMON, "taken by busybox", "another host port"),
    (run("-p", "127.0.0.1:9999:80"), DAEMON, "taken by busybox", "another host port"),
    (run("-p", "8001:80", "-p", "8001:81"), DAEMON, "8001/tcp", "another host port"),
    (run("-p", "0-1:80"), DAEMON, "'0-1'", "1 to 65535"),
    (run("-p", "80:70000"), DAEMON, "70000", "65535"),
    (run("-p", "1.2.3:80:80"), DAEMON, "'1.2.3'", "192.168"),
    (run("-p", "1:2:3:4"), DAEMON, "1:2:3:4", "container"),
    (run("-p", "80-82:80-81"), DAEMON, "different length", "as many"),
    (run("-p", "80:80/icmp"), DAEMON, "'icmp'", "udp"),
    (run("--expose", "x"), DAEMON, "'x'", "8000-8010"),
    (run("--network", "lam"), DAEMON, "lam", "'lan'"),
    (run("--network", "name=lan,ipp=1"), DAEMON, "'ipp'", "'ip'"),
    (run("--network", "tiny"), DAEMON, "tiny", "network"),
    (run("--network", "lan", "--ip", "10.66.0.70"), DAEMON, "10.66.0.70", ""),
    (run("--network", "lan", "--ip", "10.1.0.70"), DAEMON, "10.1.0.70", ""),
    (run("--network", "host", "-p", "80:80"), DAEMON, "network mode host", "-p"),
    (run("--network", "host", "--network", "lan"), DAEMON, "host", ""),
    (run("--network", "container:nobody"), DAEMON, "nobody", ""),
    (run("--network", "container:asleep"), DAEMON, "not running", "start"),
    (run("--network", "lan", "--link", "nobody:x"), DAEMON, "nobody", ""),
    (run("--network", "lan", "--link", "asleep:x"), DAEMON, "stopped container asleep", "netkit start asleep"),
    (run("--network", "lan", "--link", "far:x"), DAEMON, "no common network", "network connect"),
    (run("--network", "lan", "--link", ":x"), DAEMON, "':x'", "NAME:ALIAS"),
    (run("--network", "lan", "--link", "web:x\n6.6.6.6 bank #"), DAEMON, "invalid alias", "letter or digit"),
    (run("--network", "lan", "--network-alias", "a b"), DAEMON, "invalid alias", "letter or digit"),
    (("link", "add", "web", "far:a b"), SPEC, "'a b'", "letter or digit"),
    (("link", "add", "web", "far:x"), CONFLICT, "no common network", "network connect lan far"),
    (("link", "add", "web", "asleep:x"), CONFLICT, "stopped container asleep", "netkit start asleep"),
    (("link", "add", "web", "web:x"), SPEC, "itself", "another"),
    (("link", "add", "web", "wep:x"), NOT_FOUND, "wep", "'web'"),
    (("link", "rm", "web", "nolink"), NOT_FOUND, "nolink", ""),
    (("publish", "web", "192.0.2.77:81:81"), CONFLICT, "this host has no address 192.0.2.77", "one that it has"),
    (("publish", "web", "9999:81"), CONFLICT, "taken by busybox", "another host port"),
    (("publish", "web", "8000:81"), CONFLICT, "taken by container web", "another host port"),
    (("publish", "web", "0-1:81"), SPEC, "'0-1'", "65535"),
    (("unpublish", "web", "8080:80"), NOT_FOUND, "8080:80", ""),
    (("run", "boks", "true"), DAEMON, "boks", "'box"),
    (("run", "--memory", "lots", "box", "true"), DAEMON, "'lots'", "64m"),
    (("run", "--memory", "1k", "box", "true"), DAEMON, "memory limit of 1024", "6m"),
    (("run", "--memory", "-5m", "box", "true"), DAEMON, "-5m", ""),
    (("run", "--cpus", "-1", "box", "true"), DAEMON, "cpus -1", ""),
    (("run", "--pids-limit", "-7", "box", "true"), DAEMON, "pids", ""),
    (("run", "--cap-add", "FLY", "box", "true"), DAEMON, "FLY", ""),
    (("run", "--cap-add", "NET_ADMN", "box", "true"), DAEMON, "NET_ADMN", "NET_ADMIN"),
    (("run", "-u", "nosuchuser", "box", "true"), DAEMON, "nosuchuser", ""),
    (("run", "-w", "relative", "box", "true"), DAEMON, "'relative' is not absolute", "begin it with /"),
    (("run", "-h", "bad name", "box", "true"), DAEMON, "bad name", ""),
    (("run", "-e", "=x", "box", "true"), DAEMON, "=x", "NAME=value"),
    (("run", "--add-host", "noip", "box", "true"), DAEMON, "noip", "NAME:ADDRESS"),
    (("run", "--add-host", "a:b", "box", "true"), DAEMON, "'b'", ""),
    (("run", "--add-host", "a b:10.0.0.1", "box", "true"), DAEMON, "'a b'", "letter or digit"),
    (("run", "--dns-search", "a\nb", "box", "true"), DAEMON, "'a\\nb'", "line breaks"),
    (("run", "--mac-address", "00:00:00:00:00:00", "box", "true"), DAEMON, "MAC address", "unicast"),
    (("run", "--dns", "nope", "box", "true"), DAEMON, "'nope'", "192.168"),
    (("run", "--env-file", "/no/such", "box", "true"), DAEMON, "/no/such", ""),
    (("run", "--cidfile", "/no/such/folder", "box", "true"), DAEMON, "/no/such/folder", ""),
    (("run", "--restart", "sometimes", "box", "true"), DAEMON, "'sometimes'", ""),
    (("run", "--restart", "on-failure:x", "box", "true"), DAEMON, "on-failure:x", ""),
    (("run", "--restart", "always:3", "box", "true"), DAEMON, "'always' takes no retry count", "on-failure"),
    (("run", "--rm", "--restart", "always", "box", "true"), DAEMON, "exclude", "one of them"),
    (("run", "--sysctl", "kernel.panic=1", "box", "true"), DAEMON, "kernel.panic", ""),
    (("run", "--stop-signal", "NOPE", "box", "true"), DAEMON, "NOPE", "SIGTERM"),
    (("run", "--mac-address", "zz", "box", "true"), DAEMON, "'zz'", "02:42"),
    (("run", "--nmae", "x", "box", "true"), DAEMON, "--nmae", "--name"),
    (("rm", "web"), CONFLICT, "running", "rm -f web"),
    (("rm", "wep"), NOT_FOUND, "wep", "'web'"),
    (("stop", "nothere"), NOT_FOUND, "nothere", ""),
    (("kill", "-s", "NOPE", "web"), SPEC, "NOPE", "SIGTERM"),
    (("kill", "asleep"), CONFLICT, "not running", "start"),
    (("rename", "far", "web"), CONFLICT, "'web' is in use", "another name"),
    (("rename", "far", "a/b"), SPEC, "a/b", ""),
    (("start", "nothere"), NOT_FOUND, "nothere", ""),
    (("exec", "asleep", "true"), CONFLICT, "not running", "start"),
    (("attach", "asleep"), CONFLICT, "not running", "start"),
    (("logs", "nothere"), NOT_FOUND, "nothere", ""),
    (("logs", "--since", "yesterday", "web"), SPEC, "yesterday", ""),
    (("inspect", "nothere"), NOT_FOUND, "nothere", "ps"),
    (("inspect", "-f", "{{.No}}", "web"), SPEC, ".No", "known"),
    (("inspect", "-f", "{{range .}}", "web"), SPEC, "range", ".A.B"),
    (("port", "web", "99"), NOT_FOUND, "99/tcp", "port web"),
    (("ps", "-f", "nme=x"), SPEC, "nme", "'name'"),
    (("ps", "-f", "name"), SPEC, "'name'", "KEY=VALUE"),
    (("image", "import", "/no/such.tar", "x"), NOT_FOUND, "/no/such.tar", "tar"),
    (("image", "import", "/etc/passwd", "x"), SPEC, "tar", ""),
    (("image", "import", "/etc", "x"), NOT_FOUND, "/etc", "tar"),
    (("rmi", "boks"), NOT_FOUND, "boks", "'box"),
    (("rmi", "box"), CONFLICT, "in use", "remove"),
    (("rmi", "host"), CONFLICT, "builtin", ""),
    (("explain", "nobody", "web"), NOT_FOUND, "nobody", ""),
]  # fmt: skip

WORDS = [
    (("ruin",), SPEC, "ruin", "run"),
    (("network", "conect", "a", "b"), SPEC, "conect", "connect"),
    (("network", "create", "--subnt", "1", "n"), SPEC, "--subnt", "--subnet"),
    (("network", "create"), SPEC, "NAME", ""),
    (("ps", "--last", "x"), SPEC, "x", "integer"),
    (("-H", "ftp://x", "ps"), SPEC, "ftp://x", "unix://"),
    (("-H", "unix:///no/such.sock", "ps"), UNREACHABLE, "no daemon answers", "netkit daemon"),
    (("ps", "-H", "tcp://127.0.0.1:1"), UNREACHABLE, "no daemon answers", "netkit daemon"),
    (("ps", "-H", "tcp://127.0.0.1:port"), SPEC, "port", ""),
    (("ps", "-H", "unix://" + "/x" * 90), UNREACHABLE, "too long", ""),
]


def check(lab, argv, code, message, hint):
    done = lab.netkit(*argv, check=False)
    said = done.stderr
    assert "Traceback" not in said
    assert done.returncode == code, said
    first, _, rest = said.partition("hint:")
    assert message.lower() in first.lower()
    assert hint.lower() in (rest or first).lower()
    assert rest or "Usage:" in said, said  # a usage error has its hint in the message


ROWS = NETWORKS + CONTAINERS + WORDS


@pytest.mark.parametrize(
    ("argv", "code", "message", "hint"), ROWS, ids=[" ".join(row[0])[:70].replace("/", "|") for row in ROWS]
)
def test_a_mistake_is_told_with_its_mend(busy, argv, code, message, hint):
    lab, _, before = busy
    try:
        check(lab, argv, code, message, hint)
        now = [in_kernel(lab), in_state(lab)]
        assert now == before
    finally:
        before[:] = [in_kernel(lab), in_state(lab)]


def test_and_nothing_has_changed(busy):
    lab, before, _ = busy
    names = {row["Names"][0] for row in lab.json("ps", "-a", "--json")}
    assert names == {"/web", "/far", "/asleep", *(f"/full{number}" for number in range(5))}
    assert everything(lab) == before
    assert before[-1] == "nothing to change"


class Wire(http.client.HTTPConnection):
    """The daemon's socket, without a client of ours."""

    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


BODIES = [
    ("/containers/create", b"{", 400, "malformed JSON"),
    ("/containers/create", b"[]", 400, "not a JSON object"),
    ("/containers/create", b"{}", 400, "image"),
    ("/containers/create", b'{"Image": 5}', 400, "expected `str`"),
    ("/containers/create", b'{"Image": "box", "Cmdd": ["x"]}', 400, "did you mean 'Cmd'"),
    ("/containers/create", b'{"Image": "box", "HostConfig": {"Memry": 1}}', 400, "'Memory'"),
    (
        "/containers/create",
        b'{"Image": "box", "Cmd": ["x"], "HostConfig": {"Binds": ["/:/x"]}}',
        501,
        "Binds",
    ),
    ("/networks/create", b'{"Name": "x", "IPAM": {"Config": [{"Subnt": "1"}]}}', 400, "'Subnet'"),
    ("/networks/create", b'{"Name": "x", "EnableIPv6": true}', 501, "EnableIPv6"),
    ("/netkit/links", b'{"Parent": "a"}', 400, "target"),
    ("/containers/create?name=a%2Fb", b'{"Image": "box", "Cmd": ["x"]}', 400, "a/b"),
    ("/v1.99/containers/create", b"{}", 400, "too new"),
    ("/v1.1/containers/create", b"{}", 400, "too old"),
    ("/nothing/here", b"{}", 404, "not found"),
    ("/containers/create", b"x" * (20 << 20), 413, "too large"),
    ("/containers/create", b'{"a":' * 5000, 400, "malformed JSON"),
    ("/containers/create", b'{"Image": "\xff"}', 400, "malformed JSON"),
    # A 404 means the image here: Docker's client would go and pull it.
    ("/containers/create", b'{"Image": "nothere", "Cmd": ["x"]}', 404, "No such image"),
    *(
        ("/containers/create", b'{"Image": "box", "Cmd": ["x"], "HostConfig": {%s}}' % part, 400, "no such")
        for part in (
            b'"NetworkMode": "nothere"',
            b'"NetworkMode": "container:nothere"',
            b'"Links": ["nothere:x"]',
        )
    ),
    # What the runtime would refuse at the start is known before.
    *(
        ("/containers/create", b'{"Image": "box", "Cmd": ["x"], %s}' % part, 400, words)
        for part, words in (
            (b'"HostConfig": {"NanoCpus": 1000000}', "CPUs is from 0.01 to"),
            (b'"HostConfig": {"NanoCpus": 4611686018427387904}', "CPUs is from 0.01 to"),
            (b'"HostConfig": {"Memory": 99999999999999999999}', "HostConfig.Memory"),
            (b'"HostConfig": {"PidsLimit": 9223372036854775807}', "pids limit"),
            (b'"HostConfig": {"Sysctls": {"net.nothing.here": "1"}}', "no sysctl net.nothing.here"),
            (b'"StopTimeout": 1000000000000000000000', "StopTimeout"),
            (b'"User": "99999999999"', "user 99999999999"),
            (b'"User": "0:99999999999"', "group 99999999999"),
            (b'"WorkingDir": "/etc/passwd/below"', "/etc/passwd is a file"),
            (b'"Env": ["A=\\u0000"]', "NUL"),
            (b'"Entrypoint": ["a\\u0000"]', "NUL"),
            # A line break would be a line more in the container's own files.
            (b'"Hostname": "a\\nb"', "host name"),
            (b'"Domainname": "a\\nb"', "domain name"),
            (b'"HostConfig": {"ExtraHosts": ["a\\nb:192.0.2.1"]}', "host name"),
            (b'"HostConfig": {"Dns": ["192.0.2.1\\nx"]}', "DNS server"),
            (b'"HostConfig": {"DnsSearch": ["a\\nb"]}', "search domain"),
            (b'"HostConfig": {"DnsOptions": ["a\\nb"]}', "DNS option"),
        )
    ),
    ("/containers/create", b'{"Image": "", "Cmd": ["x"]}', 400, "no image named"),
]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"), BODIES, ids=[f"{i}" for i in range(len(BODIES))]
)
def test_bad_bodies_are_answered_and_change_nothing(busy, path, body, status, words):
    lab, before, _ = busy
    wire = Wire(lab.socket)
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.request("POST", path, body, {"Content-Type": "application/json"})
        answer = wire.getresponse()
        said = json.loads(answer.read())
    finally:
        wire.close()
    assert answer.status == status, said
    assert words.lower() in said["message"].lower()
    assert in_state(lab) == before[2]


def test_garbage_on_the_socket_is_survived(lab):
    for data in (
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(lab.socket))
            sock.sendall(data)
            assert b" 400 " in sock.recv(200)
    assert lab.netkit("version").returncode == 0
    assert "Traceback" not in lab.log()


@pytest.mark.parametrize(("size", "status"), [(100_000, 200), (2_000_000, 400)])
@pytest.mark.parametrize(
    "form", [b"GET /_ping?%s HTTP/1.1\r\nHost: d\r\n\r\n", b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: %s\r\n\r\n"]
)
def test_long_lines_are_taken_and_too_long_ones_are_told(lab, size, status, form):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(lab.socket))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(form % (b"x" * size))
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        body = answer.read()
    assert answer.status == status
    assert status == 200 or "malformed HTTP" in json.loads(body)["message"]
    assert "Traceback" not in lab.log()
