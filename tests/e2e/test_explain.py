"""What `explain` says is what a packet does, whoever wrote the rules and whoever is behind a bridge."""

import contextlib

import pytest

from tests.e2e.lab import UPLINK, Space
from tests.e2e.probes import ask, ask_from, eventually, idle, serve

WIRED = "192.168.100.200"


@pytest.fixture(scope="module")
def explained(lab):
    """web (published on 8080) and a stranger on br0, with a machine behind a NIC of br0."""
    lab.netkit("bridge", "add", "br0", "--address", "192.168.100.1/24")
    machine = Space("wire")
    lab.host.sh(f"ip link add nic0 type veth peer name eth0 netns {machine.name}")
    machine.sh(f"ip link set eth0 up; ip address add {WIRED}/24 dev eth0")
    lab.netkit("bridge", "attach", "br0", "nic0")
    serve(lab, "web", "--network", "br0", "-p", "8080:80")
    idle(lab, "stranger", "--network", "br0")
    lab.machine = machine
    yield lab
    lab.netkit("rm", "-f", "web", "stranger")
    lab.netkit("bridge", "rm", "br0")
    machine.close()


@pytest.fixture
def iptables(explained):
    """Writes rules, and takes them away after the test."""
    written = []

    def write(line):
        explained.host.sh(f"iptables {line}")
        written.append(line.replace(" -I ", " -D ").replace(" -A ", " -D "))

    yield write
    for line in reversed(written):
        explained.host.sh(f"iptables {line}")


def explain(lab, source, target, port=80):
    """The exit code and the last line."""
    done = lab.netkit("explain", source, target, "-p", str(port), check=False)
    return done.returncode, done.stdout.splitlines()[-1]


def address(lab, name):
    return lab.address(name, "br0")


def test_the_place_is_told(explained):
    lab = explained
    assert explain(lab, "stranger", "web")[1].startswith(
        f"arrives at container web ({address(lab, 'web')}:80): "
    )
    code, line = explain(lab, "up0", UPLINK, 8081)
    assert (code, line.split(":")[0], line.rpartition(",")[2]) == (
        0, f"arrives at host ({UPLINK}", " if something listens there",
    )  # fmt: skip
    answer = lab.json("explain", "up0", UPLINK, "-p", "8080", "--json")
    assert (answer["Place"], answer["Address"]) == ("container web", f"{address(lab, 'web')}:80")
    assert answer["Doubts"] == []


@pytest.mark.parametrize(
    "line",
    [
        "-t filter -I NETKIT-USER -p tcp -j REJECT",
        "-t filter -I NETKIT-USER -p tcp -m multiport --dports 79,80 -j DROP",
        "-t filter -I NETKIT-USER -p tcp --syn -j DROP",
        "-t filter -I FORWARD -p tcp -j DROP",
        "-t mangle -A FORWARD -p tcp --dport 80 -j DROP",
        "-t raw -A PREROUTING -p tcp -m state --state INVALID -j DROP",
        "-t nat -I PREROUTING -p tcp -j RETURN",
    ],
)
def test_rules_of_others_are_weighed(explained, iptables, line):
    iptables(line)
    assert ask_from(explained.outside, UPLINK, 8080, wait=1) is None
    answer = explained.json("explain", "up0", UPLINK, "-p", "8080", "--json") if "nat" in line else None
    if answer is None:
        code, told = explain(explained, "up0", UPLINK, 8080)
        assert (code, told.split(":")[0]) == (1, "does not arrive")
    else:
        assert answer["Place"] == "host"


def test_policies_are_weighed(explained):
    lab = explained
    lab.host.sh("iptables -P INPUT DROP")
    assert explain(lab, "up0", UPLINK, 8081) == (1, "does not arrive: dropped by the policy of filter INPUT")
    assert explain(lab, "up0", UPLINK, 8080)[0] == 0
    assert ask_from(lab.outside, UPLINK, 8080) == "web"
    lab.host.sh("iptables -P INPUT ACCEPT")


@pytest.mark.parametrize(
    "match", ["-m limit --limit 1/sec", "-m iprange --src-range 198.51.100.9-198.51.100.10"]
)
def test_what_cannot_be_weighed_is_told(explained, iptables, match):
    iptables(f"-t filter -I NETKIT-USER -p tcp {match} -j DROP")
    done = explained.netkit("explain", "up0", UPLINK, "-p", "8080", check=False)
    assert done.returncode == 3
    doubt, last = done.stdout.splitlines()[-2:]
    assert doubt.startswith("cannot weigh: filter NETKIT-USER: -p tcp -m ")
    assert last.startswith("arrives at container web (")
    assert ", unless " in last
    assert explain(explained, "up0", "198.51.100.1", 8081)[0] == 0


def test_the_host_is_seen_from_where_the_source_is(explained):
    told = [explain(explained, source, "host")[1].split(":")[0] for source in ("web", "up0", "host", "br0")]
    assert told == [f"arrives at host ({a}" for a in ("192.168.100.1", UPLINK, "127.0.0.1", "192.168.100.1")]


def test_anybody_may_be_behind_a_bridges_other_ports(explained):
    lab = explained
    with lab.machine.listening(80, "machine"):
        for source, answer in (
            ("stranger", ask(lab, "stranger", WIRED)),
            ("host", ask_from(lab.host, WIRED, 80)),
        ):
            assert answer == "machine"
            code, line = explain(lab, source, WIRED)
            assert (code, line.split(":")[0]) == (0, f"arrives at whoever is behind br0's nic0 ({WIRED}")
    assert ask_from(lab.machine, address(lab, "web"), 80) == "web"
    assert explain(lab, "br0", "web")[0] == 0


@pytest.fixture
def router():
    with contextlib.closing(Space("router")) as space:
        yield space


def test_the_default_gateway_may_be_a_router_behind_the_bridge(fresh_lab, router):
    lab = fresh_lab
    lab.host.sh("ip link add br0 up type bridge; ip address add 192.168.5.1/24 dev br0")
    lab.host.sh(f"ip link add nic0 up master br0 type veth peer name eth0 netns {router.name}")
    router.sh(
        "ip link set eth0 up; ip address add 192.168.5.254/24 dev eth0; ip address add 203.0.113.9 dev lo"
    )
    lab.start("-b", "br0", "--default-gateway", "192.168.5.254")
    lab.netkit("image", "import", str(lab.box_tar), "box")
    idle(lab, "a")
    lab.host.sh("ip route add 203.0.113.0/24 via 192.168.5.254")
    with router.listening(80, "router"):
        for source, answer in (
            ("a", lambda: ask(lab, "a", "203.0.113.9")),
            ("host", lambda: ask_from(lab.host, "203.0.113.9", 80)),
        ):
            code, line = explain(lab, source, "203.0.113.9")
            assert (code, line.split(":")[0]) == (0, "arrives at whoever is behind br0's nic0 (203.0.113.9")
            assert eventually(answer) == "router"


@pytest.mark.parametrize(
    ("program", "told"),
    [("iptables-legacy", "two firewalls"), ("ebtables-nft", "table bridge filter of nft")],
)
def test_firewalls_besides_make_a_doubt(explained, program, told):
    explained.host.sh(f"{program} -A FORWARD -j ACCEPT")
    done = explained.netkit("explain", "up0", UPLINK, "-p", "8080", check=False)
    explained.host.sh(f"{program} -F FORWARD")
    assert (done.returncode, told in done.stdout) == (3, True)
    assert explain(explained, "up0", UPLINK, 8080)[0] == 0
