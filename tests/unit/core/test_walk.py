"""Small worlds and where packets end up in them."""

import msgspec
import pytest
from netaddr import IPNetwork

from netkit.core import walk as walking
from netkit.core.admit import endpoint, link, ports
from netkit.core.render import everything, render
from netkit.core.tables import made_up
from netkit.core.walk import Packet
from netkit.core.world import HOST, World
from netkit.model.request import EndpointRequest
from netkit.model.rule import parse_rule
from netkit.model.saved import SavedChain, parse_saved
from netkit.model.spec import Intent, parse_publish
from tests.unit.core.intents import HOST as FACTS
from tests.unit.core.intents import linked_pair, started, with_container, with_network

UPLINKS = {"eth0": (IPNetwork("198.51.100.1/24"),)}
DB, WEB = "192.168.100.2", "192.168.100.3"


def world(intent, **fields):
    return World(resources=render(intent, FACTS, everything(intent)), uplinks=UPLINKS, **fields)


def place(intent, name):
    container = next(c for c in intent.containers.values() if c.name == name)
    return f"/state/netns/{container.id}"


def verdict(intent, source, dst, port=80, protocol="tcp", **fields):
    if source in {c.name for c in intent.containers.values()}:
        source = place(intent, source)
    packet = Packet(protocol=protocol, source=source, dst=dst, port=port, src=fields.pop("src", ""))
    return walking.walk(world(intent, **fields), packet)


def firewall(intent, table, *lines):
    """The firewall of an intent with what others wrote, as iptables-save prints it, in front."""
    found = {
        name: dict(chains) for name, chains in made_up(render(intent, FACTS, everything(intent)), ()).items()
    }
    for chain, theirs in parse_saved("\n".join((f"*{table}", *lines)))[table].items():
        ours = found.setdefault(table, {}).get(chain, SavedChain(""))
        found[table][chain] = SavedChain(theirs.policy, (*theirs.rules, *ours.rules))
    return found


@pytest.fixture
def pair():
    """db and web on br0 with icc off; web is linked to db's 5432 and publishes 8080:80."""
    intent, _ = with_container(linked_pair(), "stranger", "br0")
    return started(intent, "stranger")


def test_a_link_opens_its_port_in_its_direction(pair):
    assert verdict(pair, "web", DB, 5432).arrives
    assert not verdict(pair, "web", DB, 5433).arrives
    assert not verdict(pair, "db", WEB, 5432).arrives
    assert not verdict(pair, "stranger", DB, 5432).arrives
    assert not verdict(pair, "web", DB, 5432, "udp").arrives
    assert not verdict(pair, "web", DB, 0, "icmp").arrives


def test_the_rule_that_decides_is_named(pair):
    found = verdict(pair, "stranger", DB, 5432)
    rule = '-i br0 -o br0 -m comment --comment "netkit:network/br0" -j DROP'
    assert found.reason == f"dropped by {rule}"
    assert found.describe().splitlines() == [
        "  route: 192.168.100.2 is on the link of eth0",
        f"  filter NETKIT-ISOLATE: {rule}",
        f"does not arrive: dropped by {rule}",
    ]


def test_without_br_netfilter_icc_is_not_held(pair):
    resources = render(pair, FACTS, everything(pair))
    kept = {k: v for k, v in resources.items() if "bridge-nf" not in k.name}
    off = World(resources=kept, uplinks=UPLINKS, bridge_filter_default=False)
    packet = Packet(protocol="tcp", source=place(pair, "stranger"), dst=DB, port=5432)
    assert walking.walk(off, packet).arrives


@pytest.mark.parametrize(
    ("source", "dst", "seen_from"),
    [
        ("eth0", "198.51.100.1", "198.51.100.7"),
        (HOST, "198.51.100.1", "198.51.100.1"),
        (HOST, "127.0.0.1", "192.168.100.1"),
        ("web", "198.51.100.1", "192.168.100.1"),
        ("stranger", "198.51.100.1", "192.168.100.1"),
    ],
)
def test_a_published_port_is_reached_from_everywhere(pair, source, dst, seen_from):
    src = "198.51.100.7" if source == "eth0" else ""
    found = verdict(pair, source, dst, 8080, src=src)
    assert found.arrives, found.describe()
    assert (found.place, found.dst, found.port) == (place(pair, "web"), WEB, 80)
    assert found.src == seen_from


def test_what_is_not_published_is_not_reached(pair):
    assert not verdict(pair, "eth0", WEB, 80, src="198.51.100.7").arrives
    assert verdict(pair, "eth0", "198.51.100.1", 8081, src="198.51.100.7").place == HOST


def test_a_port_on_loopback_stays_with_the_host(pair):
    intent, _ = ports.publish(pair, "web", parse_publish("127.0.0.1:9000:80"), FACTS)
    assert verdict(intent, HOST, "127.0.0.1", 9000).place == place(intent, "web")
    assert not verdict(intent, "eth0", "127.0.0.1", 9000, src="198.51.100.7").arrives
    assert verdict(intent, "eth0", "198.51.100.1", 9000, src="198.51.100.7").place == HOST


def test_containers_reach_out_masqueraded(pair):
    found = verdict(pair, "stranger", "203.0.113.9")
    assert (found.place, found.src) == ("eth0", "198.51.100.1")


@pytest.fixture
def three():
    intent, _ = with_network(Intent(), "one", "10.1.0.1/24")
    intent, _ = with_network(intent, "two", "10.2.0.1/24")
    intent, _ = with_network(intent, "in", "10.3.0.1/24", internal=True)
    intent, _ = with_container(intent, "a", "one")
    intent, _ = with_container(intent, "b", "two", publish="8080:80")
    intent, _ = with_container(intent, "c", "in")
    intent, _ = with_container(intent, "d", "in", "one")
    return started(intent, "a", "b", "c", "d")


def test_networks_are_isolated(three):
    assert not verdict(three, "a", "10.2.0.2").arrives
    assert verdict(three, "a", "10.1.0.3").arrives
    assert verdict(three, "d", "10.1.0.2").arrives


def test_a_published_port_may_be_called_from_another_network(three):
    assert verdict(three, "a", "198.51.100.1", 8080).place == place(three, "b")


def test_internal_networks_have_no_way_in_or_out(three):
    assert verdict(three, "c", "10.3.0.3").arrives
    assert not verdict(three, "c", "203.0.113.9").arrives
    assert not verdict(three, "eth0", "10.3.0.2", src="198.51.100.7").arrives
    assert verdict(three, HOST, "10.3.0.2").arrives


def test_the_users_rules_come_first(three):
    rule = parse_rule("-s 10.1.0.2/32 -d 10.1.0.3/32 -p tcp -m tcp --dport 80 -j DROP")
    assert not verdict(three, "a", "10.1.0.3", user_rules=(rule,)).arrives
    assert verdict(three, "a", "10.1.0.3", 81, user_rules=(rule,)).arrives


def test_a_link_on_a_second_network_is_a_link(three):
    intent, _ = with_network(three, "shut", "10.4.0.1/24", icc=False)
    for name in ("a", "b"):
        intent, _ = endpoint.connect(intent, "shut", name, EndpointRequest(network="shut"), FACTS)
    assert not verdict(intent, "a", "10.4.0.3").arrives
    intent, _ = link.add(intent, "a", "b", "b")
    assert verdict(intent, "a", "10.4.0.3").arrives


def test_without_forwarding_nothing_leaves(three):
    still = msgspec.structs.replace(FACTS, ip_forward=False)
    resources = render(three, still, everything(three))
    lone = World(resources=resources, uplinks=UPLINKS)
    packet = Packet(protocol="tcp", source=place(three, "a"), dst="203.0.113.9", port=80)
    assert walking.walk(lone, packet).reason == "net.ipv4.ip_forward is off"


OUTSIDE = {"source": "eth0", "dst": "198.51.100.1", "port": 8080, "src": "198.51.100.7"}


@pytest.mark.parametrize(
    ("table", "rule", "reason"),
    [
        ("filter", "FORWARD -j DROP", "dropped by -j DROP"),
        ("filter", "NETKIT-USER -j REJECT --reject-with tcp-reset", "rejected by -j REJECT --reject-with tcp-reset"),
        ("mangle", "FORWARD -o br0 -j DROP", "dropped by -o br0 -j DROP"),
        ("raw", "PREROUTING -i eth+ -j DROP", "dropped by -i eth+ -j DROP"),
        ("filter", "FORWARD -j THEIRS\n-A THEIRS -j DROP", "dropped by -j DROP"),
        ("filter", "FORWARD -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -g THEIRS\n-A THEIRS -j DROP", "dropped by -j DROP"),
        ("filter", "FORWARD -p tcp -m multiport --dports 79,80 -j DROP", "dropped by -p tcp -m multiport --dports 79,80 -j DROP"),
    ],
)  # fmt: skip
def test_rules_of_others_stop_it_wherever_they_stand(pair, table, rule, reason):
    found = verdict(pair, **OUTSIDE, saved=firewall(pair, table, f"-A {rule}"))
    assert (found.arrives, found.reason, found.doubts) == (False, reason, ())


@pytest.mark.parametrize(
    "rules",
    [
        "-A FORWARD -p tcp -m multiport --dports 443,8080 -j DROP",  # it is 80 by then
        "-A FORWARD -p tcp -m tcp --tcp-flags RST RST -j DROP",
        "-A FORWARD -j LOG",
        "-A FORWARD -p udp -m limit --limit 1/sec -j DROP",
        "-A FORWARD -m limit --limit 1/sec -j LOG",
        "-A FORWARD -m limit --limit 1/sec -j ACCEPT",
        "-A FORWARD -m limit --limit 1/sec -j THEIRS\n-A THEIRS -j RETURN",
        "-A FORWARD -j THEIRS\n-A THEIRS -j RETURN\n-A THEIRS -j DROP",
    ],
)
def test_rules_that_decide_nothing_raise_no_doubt(pair, rules):
    found = verdict(pair, **OUTSIDE, saved=firewall(pair, "filter", rules))
    assert (found.arrives, found.doubts) == (True, ())


def test_a_redirection_of_others_comes_first(pair):
    theirs = firewall(pair, "nat", "-A PREROUTING -p tcp -j RETURN")
    assert verdict(pair, **OUTSIDE, saved=theirs).place == HOST
    theirs = firewall(
        pair, "nat", f"-A PREROUTING -p tcp -m tcp --dport 8080 -j DNAT --to-destination {DB}:5432"
    )
    assert verdict(pair, **OUTSIDE, saved=theirs).reason.startswith("dropped by ")  # it is not published
    theirs = firewall(pair, "nat", "-A PREROUTING -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 22")
    found = verdict(pair, **OUTSIDE, saved=theirs)
    assert (found.place, found.dst, found.port) == (HOST, "198.51.100.1", 22)


def test_policies_decide_where_no_rule_does(pair):
    closed = firewall(pair, "filter", ":INPUT DROP [0:0]", ":FORWARD DROP [0:0]")
    assert verdict(pair, **OUTSIDE, saved=closed).arrives
    found = verdict(pair, **{**OUTSIDE, "port": 22}, saved=closed)
    assert found.reason == "dropped by the policy of filter INPUT"
    assert not verdict(pair, HOST, "127.0.0.1", 22, saved=closed).arrives


@pytest.mark.parametrize(
    ("rules", "doubt"),
    [
        (
            "-A NETKIT-USER -m limit --limit 1/sec -j DROP",
            "filter NETKIT-USER: -m limit --limit 1/sec -j DROP",
        ),
        (
            "-A FORWARD -m set --match-set theirs src -j DROP",
            "filter FORWARD: -m set --match-set theirs src -j DROP",
        ),
        ("-A FORWARD -j NFQUEUE", "filter FORWARD: -j NFQUEUE"),
        (
            "-A FORWARD -m limit --limit 1/sec -j T\n-A T -j DROP",
            "filter FORWARD: -m limit --limit 1/sec -j T",
        ),
    ],
)
def test_what_cannot_be_weighed_makes_a_doubt(pair, rules, doubt):
    found = verdict(pair, **OUTSIDE, saved=firewall(pair, "filter", rules))
    assert (found.arrives, found.doubts) == (True, (doubt,))
    assert f"cannot weigh: {doubt}" in found.describe()


def test_what_does_not_arrive_may_be_in_doubt_as_well(pair):
    rule = "-A FORWARD -m limit --limit 1/sec -j ACCEPT"
    found = verdict(pair, "stranger", DB, 5432, saved=firewall(pair, "filter", rule))
    assert (found.arrives, len(found.doubts)) == (False, 1)


def test_frames_within_a_bridge_meet_all_tables(pair):
    theirs = firewall(pair, "raw", f"-A PREROUTING -d {DB}/32 -j DROP")
    assert verdict(pair, "web", DB, 5432).arrives
    assert not verdict(pair, "web", DB, 5432, saved=theirs).arrives


WIRED = "192.168.100.200"


@pytest.mark.parametrize("source", ["web", HOST])
def test_anybody_may_be_behind_a_bridges_other_ports(source):
    intent, _ = with_network(Intent(), "br0", "192.168.100.1/24")
    intent, _ = with_container(intent, "web", "br0")
    intent = started(intent, "web")
    assert verdict(intent, source, WIRED).reason == f"nobody on br0 has {WIRED}"
    assert verdict(intent, source, WIRED, ports={"nic0": "br0"}).place == "br0"


def test_rules_hold_towards_the_wire_too(pair):
    wire = {"nic0": "br0"}
    assert not verdict(pair, "web", WIRED, ports=wire).arrives
    assert verdict(pair, HOST, WIRED, ports=wire).place == "br0"
    assert not verdict(pair, "br0", WEB, 80, src=WIRED, ports=wire).arrives
    assert verdict(pair, "br0", "198.51.100.1", 8080, src=WIRED, ports=wire).place == place(pair, "web")
    assert verdict(pair, "br0", "203.0.113.9", src=WIRED, ports=wire).place == "eth0"


def test_the_hosts_routes_lead_out(three):
    ways = ((IPNetwork("203.0.113.0/24"), "one"), (IPNetwork("0.0.0.0/0"), "eth0"))
    wired = {"ways": ways, "ports": {"nic0": "one"}, "default_route": False}
    assert verdict(three, "a", "203.0.113.9", **wired).place == "one"
    assert verdict(three, "b", "192.0.2.1", **wired).place == "eth0"
    assert not verdict(three, "b", "192.0.2.1", default_route=False).arrives
    assert verdict(three, "b", "192.0.2.1", ways=((IPNetwork("192.0.2.0/24"), "tun0"),)).place == "tun0"


def test_the_default_gateway_may_be_behind_the_bridge(pair):
    resources = {k: each for k, each in render(pair, FACTS, everything(pair)).items() if k.kind != "address"}
    adopted = {"br0": (IPNetwork("192.168.100.9/24"),)}  # the gateway, .1, is somebody else
    packet = Packet(protocol="tcp", source=place(pair, "web"), dst="203.0.113.9", port=80)
    lone = World(resources=resources, adopted=adopted, uplinks=UPLINKS)
    assert walking.walk(lone, packet).reason == "nobody on br0 has 192.168.100.1"
    wired = msgspec.structs.replace(lone, ports={"nic0": "br0"})
    assert walking.walk(wired, packet).reason.startswith("dropped by -i br0 -o br0 ")  # icc is off
    switched = {k: each for k, each in resources.items() if "bridge-nf" not in k.name}
    past = msgspec.structs.replace(wired, resources=switched, bridge_filter_default=False)
    assert walking.walk(past, packet).place == "br0"
