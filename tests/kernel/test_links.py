"""The netlink drivers against Linux, in a host of the test's own."""

import os
import socket
import subprocess
import uuid
from pathlib import Path

import msgspec
import pytest

from netkit.errors import Conflict, NotFound
from netkit.kernel import libc
from netkit.kernel.conntrack import Flow, forget
from netkit.kernel.hostnet import HostNetwork
from netkit.kernel.links import LinkDriver
from netkit.kernel.netns import NamespaceDriver
from netkit.kernel.routes import RouteDriver
from netkit.kernel.rtnl import Rtnl
from netkit.kernel.sysctl import SysctlDriver
from netkit.kernel.veths import VethDriver
from netkit.model.resource import Address, Adopted, Bridge, Namespace, Port, Route, Sysctl, Veth

BR0 = Bridge(name="br0", mtu=1500, owner="network/br0")
ADDRESS = Address(link="br0", cidr="10.0.0.1/24", owner="network/br0")


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Host:
    """A namespace with the drivers in it."""

    def __init__(self, folder):
        self.name = f"nkt-links-{uuid.uuid4().hex[:8]}"
        self.path = f"/run/netns/{self.name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.folder = folder
        self.rtnl = Rtnl.open(self.path)
        self.links = LinkDriver(self.rtnl)
        self.veths = VethDriver(self.rtnl, folder, self.path)
        self.spaces = NamespaceDriver(folder)
        self.routes = RouteDriver(folder)

    def sh(self, line):
        argv = ["nsenter", f"--net={self.path}", "sh", "-c", line]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def space(self, name):
        made = Namespace(path=str(self.folder / name), owner="")
        self.spaces.create(made)
        return made

    def close(self):
        self.veths.close()
        self.rtnl.close()
        for space in self.spaces.observe(None):
            self.spaces.delete(space)
        subprocess.run(["ip", "netns", "del", self.name], check=True)


@pytest.fixture
def host(tmp_path):
    made = Host(tmp_path)
    try:
        yield made
    finally:
        made.close()


def veth(space, number=2):
    return Veth(
        name=f"nk{number}",
        bridge="br0",
        mtu=1400,
        namespace=space.path,
        peer="eth0",
        mac=f"02:42:0a:00:00:0{number}",
        cidr=f"10.0.0.{number}/24",
        owner=f"container/c{number}/br0",
    )


def test_what_was_made_is_observed_as_it_was_wanted(host):
    host.links.create(BR0)
    host.links.create(ADDRESS)
    assert list(host.links.observe([BR0, ADDRESS])) == [BR0, ADDRESS]
    assert set(host.links.observe(None)) == {BR0, ADDRESS}


def test_creating_and_deleting_twice_is_fine(host):
    for _ in range(2):
        host.links.create(BR0)
        host.links.create(ADDRESS)
    for _ in range(2):
        host.links.delete(ADDRESS)
        host.links.delete(BR0)
    assert list(host.links.observe(None)) == []


def test_the_mark_is_there_with_the_thing(host):
    host.links.create(BR0)
    assert "alias netkit:network/br0" in host.sh("ip link show br0")
    assert "br0" in host.sh("ip link show group 28267")


def test_a_port_more_costs_the_other_ports_nothing(host):
    """What grows with the ports of a bridge: queries to each of them, and routes of IPv6 on each."""
    host.links.create(BR0)
    host.veths.create(veth(host.space("c2")))
    assert "mcast_snooping 0" in host.sh("ip -d link show br0")
    assert "inet6" not in host.sh("ip address show dev nk2")
    assert "nk2" not in host.sh("ip -6 route show table all")


@pytest.mark.parametrize(
    "drift",
    [
        "ip link set br0 down",
        "ip link set br0 mtu 1300",
        "ip link set br0 alias ''",
        "ip link set br0 group 0",
    ],
)
def test_drift_of_a_bridge_is_seen_and_mended(host, drift):
    host.links.create(BR0)
    host.sh(drift)
    (seen,) = host.links.observe([BR0])
    assert seen != BR0
    assert list(host.links.observe(None)) == [seen]
    host.links.modify(seen, BR0)
    assert list(host.links.observe([BR0])) == [BR0]


@pytest.mark.parametrize("mtu", [1500, 1400])
def test_a_bridge_keeps_its_mtu_whatever_comes_and_goes_in_it(host, mtu):
    wanted = msgspec.structs.replace(BR0, mtu=mtu)
    host.links.create(wanted)
    host.sh("ip link add nic0 mtu 1300 type veth peer name nic1; ip link set nic0 master br0")
    assert list(host.links.observe([wanted])) == [wanted]
    host.sh("ip link del nic0")
    assert list(host.links.observe([wanted])) == [wanted]


def test_an_address_whose_route_has_gone_is_given_it_back(host):
    host.links.create(BR0)
    host.links.create(ADDRESS)
    host.sh(
        "ip link add other type bridge; ip link set other up; ip route add 10.0.0.0/24 dev other metric 9"
    )
    routes = host.sh("ip route show dev br0")
    host.sh("ip route del 10.0.0.0/24 dev br0")
    (seen,) = host.links.observe([ADDRESS])
    assert not seen.routed
    assert set(host.links.observe(None)) == {BR0, seen}
    host.links.modify(seen, ADDRESS)
    assert host.sh("ip route show dev br0") == routes
    assert list(host.links.observe([ADDRESS])) == [ADDRESS]


def test_an_address_that_was_taken_and_given_back_by_hand_stands(host):
    host.links.create(BR0)
    host.links.create(ADDRESS)
    host.sh("ip address del 10.0.0.1/24 dev br0; ip address add 10.0.0.1/24 dev br0")
    assert list(host.links.observe([ADDRESS])) == [ADDRESS]
    host.links.create(ADDRESS)
    host.sh("ip address add 10.0.0.7/24 dev br0")
    assert list(host.links.observe(None)) == [BR0]


def test_links_and_addresses_of_others_are_not_ours(host):
    host.sh("ip link add br0 type bridge; ip address add 10.0.0.1/24 dev br0; ip link set br0 up")
    assert list(host.links.observe(None)) == []
    assert list(host.links.observe([BR0, ADDRESS])) == []
    with pytest.raises(Conflict, match="an interface named br0 exists already"):
        host.links.create(BR0)
    with pytest.raises(Conflict, match="is not netkit's"):
        host.links.create(ADDRESS)


def test_a_bridge_is_adopted_as_it_is(host):
    wanted = Adopted(name="br0", owner="network/br0")
    with pytest.raises(NotFound, match="no bridge named br0"):
        host.links.create(wanted)
    host.sh("ip link add br0 type bridge")
    host.links.create(wanted)
    assert list(host.links.observe([wanted])) == [wanted]
    host.links.delete(wanted)
    assert "br0" in host.sh("ip -br link show br0")


def test_the_addresses_that_are_the_hosts_own(host):
    host.sh("ip link set lo up && ip link add up0 type bridge && ip address add 198.51.100.1/24 dev up0")
    host.sh("ip route add local 203.0.113.0/24 dev lo && ip link set up0 up")
    own = set(libc.in_namespace(host.path, HostNetwork(host.rtnl).own))
    assert own == {"127.0.0.0/8", "127.0.0.1/32", "198.51.100.1/32", "203.0.113.0/24"}
    host.sh("sysctl -qw net.ipv4.ip_nonlocal_bind=1")
    assert libc.in_namespace(host.path, HostNetwork(host.rtnl).own) == ["0.0.0.0/0"]


def test_a_port_is_put_in_and_taken_out(host):
    host.links.create(BR0)
    host.sh("ip link add nic0 type veth peer name nic1")
    port = Port(link="nic0", bridge="br0", owner="network/br0")
    host.links.create(port)
    assert list(host.links.observe([port])) == [port]
    assert port in set(host.links.observe(None))
    host.links.delete(port)
    assert "master" not in host.sh("ip link show nic0")
    assert list(host.links.observe([port])) == []


def test_a_port_with_an_alias_of_its_own_is_left_alone(host):
    host.links.create(BR0)
    host.sh("ip link add nic0 type veth peer name nic1; ip link set nic0 alias mine")
    with pytest.raises(Conflict, match="an alias of its own"):
        host.links.create(Port(link="nic0", bridge="br0", owner="network/br0"))


def test_a_port_of_others_is_theirs_whatever_word_its_alias_begins_with(host):
    host.sh("ip link add theirs type bridge; ip link add nic0 type veth peer name nic1")
    host.sh("ip link set nic0 master theirs; ip link set nic0 alias 'netkit: uplink to the rack'")
    assert list(host.links.observe(None)) == []
    assert list(host.links.observe([Port(link="nic0", bridge="theirs", owner="network/br0")])) == []


def test_a_port_of_somebody_elses_bridge_is_left_there(host):
    host.links.create(BR0)
    host.sh("ip link add theirs type bridge; ip link add nic0 type veth peer name nic1")
    host.sh("ip link set nic0 master theirs")
    port = Port(link="nic0", bridge="br0", owner="network/br0")
    with pytest.raises(Conflict, match="in another bridge"):
        host.links.create(port)
    assert "master theirs" in host.sh("ip link show nic0")
    host.sh("ip link set nic0 nomaster")
    host.links.create(port)
    host.sh("ip link set nic0 master theirs")  # ours was taken: it comes back
    (found,) = host.links.observe([port])
    host.links.modify(found, port)
    assert "master br0" in host.sh("ip link show nic0")


def test_a_pair_is_made_with_its_peer_inside(host):
    host.links.create(BR0)
    wanted = veth(host.space("c2"))
    assert list(host.veths.observe([wanted])) == []
    host.veths.create(wanted)
    assert list(host.veths.observe([wanted])) == [wanted]
    assert list(host.veths.observe(None)) == [wanted]
    shown = subprocess.run(
        ["nsenter", f"--net={wanted.namespace}", "ip", "address", "show", "eth0"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "10.0.0.2/24" in shown
    assert "inet6" not in shown


@pytest.mark.parametrize(
    "drift",
    [
        "ip link set nk2 nomaster",
        "ip link set nk2 down",
        "ip link del br0",
        "ip link set nk2 mtu 1200",
        "ip link set nk2 group 0",
        "{inside} ip link set eth0 mtu 1200",
        "{inside} ip route del 10.0.0.0/24 dev eth0",
    ],
)
def test_drift_of_a_pair_is_seen_and_mended(host, drift):
    host.links.create(BR0)
    wanted = veth(host.space("c2"))
    host.veths.create(wanted)
    host.sh(drift.format(inside=f"nsenter --net={wanted.namespace}"))
    (seen,) = host.veths.observe([wanted])
    assert list(host.veths.observe(None)) == [seen]
    assert {name for name in seen.__struct_fields__ if getattr(seen, name) != getattr(wanted, name)} < set(
        Veth.changeable
    )
    assert seen != wanted
    host.links.create(BR0)
    host.veths.modify(seen, wanted)
    assert list(host.veths.observe([wanted])) == [wanted]


@pytest.mark.parametrize(
    "drift",
    ["ip link set eth0 down", "ip address flush dev eth0", "ip link set eth0 address 02:00:00:00:00:09"],
)
def test_drift_inside_a_container_is_seen(host, drift):
    host.links.create(BR0)
    wanted = veth(host.space("c2"))
    host.veths.create(wanted)
    subprocess.run(["nsenter", f"--net={wanted.namespace}", "sh", "-c", drift], check=True)
    (seen,) = host.veths.observe([wanted])
    assert seen != wanted


def test_a_pair_given_up_is_gone_at_once_and_its_name_is_free(host):
    host.links.create(BR0)
    wanted = veth(host.space("c2"))
    host.veths.create(wanted)
    host.veths.delete(wanted)
    assert list(host.veths.observe([wanted])) == []
    host.veths.create(wanted)
    assert list(host.veths.observe([wanted])) == [wanted]
    host.veths.delete(wanted)
    host.veths.drain()
    assert "nk2" not in host.sh("ip -o link")


class Late(Rtnl):
    """A socket whose answers are read only when the pairs given up have gone."""

    veths = None

    def ask(self, kind, body):
        answer = super().ask(kind, body)
        if self.veths:
            self.veths.drain()
        return answer


def test_a_pair_that_goes_while_one_looks_has_gone(host):
    host.links.create(BR0)
    wanted = veth(host.space("c2"))
    with Late.open(host.path) as late:
        veths = VethDriver(late, host.folder, host.path)
        try:
            veths.create(wanted)
            veths.delete(wanted)
            late.veths = veths
            assert list(veths.observe([wanted])) == []
        finally:
            veths.close()


def test_an_interface_name_taken_in_the_container_is_a_conflict(host):
    host.links.create(BR0)
    space = host.space("c2")
    subprocess.run(
        ["nsenter", f"--net={space.path}", "ip", "link", "add", "eth0", "type", "bridge"], check=True
    )
    with pytest.raises(Conflict, match="the container has an interface named eth0"):
        host.veths.create(veth(space))
    assert "nk2" not in host.sh("ip -o link")


def test_default_routes(host):
    host.links.create(BR0)
    wanted = veth(host.space("c2"))
    host.veths.create(wanted)
    route = Route(namespace=wanted.namespace, gateway="10.0.0.1", veth="nk2", link="eth0", owner="")
    assert list(host.routes.observe([route])) == []
    host.routes.create(route)
    assert list(host.routes.observe([route])) == [route]
    assert [(r.gateway, r.link) for r in host.routes.observe(None)] == [("10.0.0.1", "eth0")]
    host.routes.delete(route)
    host.routes.delete(route)
    assert list(host.routes.observe(None)) == []


def test_looking_into_many_namespaces_leads_home_again(host):
    host.links.create(BR0)
    pairs = [veth(host.space(f"c{number}"), number) for number in (2, 3, 4)]
    ways = [
        Route(namespace=p.namespace, gateway="10.0.0.1", veth=p.name, link="eth0", owner="") for p in pairs
    ]
    for pair, way in zip(pairs, ways, strict=True):
        host.veths.create(pair)
        host.routes.create(way)
    (host.folder / "c9").write_text("a file that is no namespace")
    home = os.readlink("/proc/thread-self/ns/net")
    assert (list(host.veths.observe(None)), list(host.veths.observe(pairs))) == (pairs, pairs)
    assert [way.namespace for way in host.routes.observe(None)] == [pair.namespace for pair in pairs]
    assert list(host.routes.observe(ways)) == ways
    assert os.readlink("/proc/thread-self/ns/net") == home


def test_what_others_have_in_a_container_is_neither_a_peer_nor_a_route_of_ours(host):
    host.links.create(BR0)
    wanted = veth(host.space("c2"))
    host.veths.create(wanted)
    inside = f"nsenter --net={wanted.namespace}"
    host.sh(f"{inside} ip link add aa0 type veth peer name aa1; {inside} ip address add 10.9.9.9/24 dev eth0")
    host.sh(f"{inside} ip route add default via 10.0.0.7 metric 5")
    assert list(host.veths.observe(None)) == list(host.veths.observe([wanted])) == [wanted]
    assert list(host.routes.observe(None)) == []


def test_namespaces_are_held_and_let_go(host):
    space = host.space("c2")
    assert list(host.spaces.observe([space])) == [space]
    host.spaces.delete(space)
    assert list(host.spaces.observe([space])) == []
    assert not Path(space.path).exists()


def test_a_remainder_of_a_namespace_is_made_whole_or_removed(host):
    path = host.folder / "c2"
    path.touch()
    space = Namespace(path=str(path), owner="")
    assert list(host.spaces.observe([space])) == []
    (seen,) = host.spaces.observe(None)
    assert (seen.path, seen.held) == (space.path, False)
    host.spaces.create(space)
    assert list(host.spaces.observe([space])) == list(host.spaces.observe(None)) == [space]
    libc.umount(space.path)
    assert list(host.spaces.observe(None)) == [seen]
    host.spaces.delete(seen)
    assert list(host.spaces.observe(None)) == []


def test_a_loopback_that_is_down_is_seen_and_put_up_again(host):
    space = host.space("c2")
    host.sh(f"nsenter --net={space.path} ip link set lo down")
    (seen,) = host.spaces.observe([space])
    assert list(host.spaces.observe(None)) == [seen]
    assert (seen.held, seen.up) == (True, False)
    host.spaces.modify(seen, space)
    assert list(host.spaces.observe([space])) == [space]


def test_settings_get_their_former_value_back(host):
    memory = {}
    driver = SysctlDriver(memory)
    wanted = Sysctl(name="net.ipv4.ip_forward", value="1", owner="host")

    def inside():
        assert list(driver.observe([wanted])) == []
        before = Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()
        driver.create(wanted)
        assert list(driver.observe([wanted])) == [wanted]
        assert memory == {wanted.name: before}
        driver.delete(wanted)
        assert list(driver.observe([wanted])) == []
        assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == before

    libc.in_namespace(host.path, inside)
    assert memory == {}


def test_facts_of_the_host(host):
    host.sh("ip link add up0 type bridge; ip link set up0 mtu 1400 up; ip address add 10.9.0.1/24 dev up0")
    host.sh("ip route add default via 10.9.0.2")
    host.links.create(BR0)
    host.links.create(ADDRESS)
    refused = ["blackhole 10.8.0.0/24", "unreachable 10.8.1.0/24", "prohibit 10.8.2.0/24"]
    host.sh("; ".join(f"ip route add {each}" for each in [*refused, "unreachable default metric 1"]))
    host.sh("ip link add nic0 master br0 type veth peer name nic1")
    host.sh("ip link add nk0 group 28267 master br0 type veth peer name nk1")
    facts = HostNetwork(host.rtnl)
    assert ("10.9.0.0/24", "up0") in facts.routes()
    assert {(each.split()[1], "") for each in refused} < set(facts.routes())
    assert facts.kinds()["br0"] == "bridge"
    assert facts.uplink_mtu() == 1400
    assert facts.foreign_addresses(["up0", "br0"]) == {"up0": ["10.9.0.1/24"], "br0": []}
    assert facts.foreign_ports() == {"nic0": "br0"}
    assert {("0.0.0.0/0", "up0"), ("10.9.0.0/24", "up0")} <= set(facts.ways())


def test_stale_flows_are_forgotten_and_others_kept(host):
    host.sh("ip link set lo up; iptables -A INPUT -m conntrack --ctstate NEW")

    def inside():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("127.0.0.1", 53))
            sock.sendto(b"x", ("127.0.0.1", 54))
        assert forget([Flow("tcp", dst_port=53)]) == 0
        assert forget([Flow("udp", dst_port=53)]) == 1
        assert forget([Flow("udp", dst_port=53)]) == 0
        assert forget([Flow("udp", answer="127.0.0.1", answer_port=54)]) == 1

    libc.in_namespace(host.path, inside)
