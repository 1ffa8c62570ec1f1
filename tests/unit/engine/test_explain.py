"""From a question in words to the packet that is walked, and the place in words again."""

import msgspec
import pytest
from netaddr import IPNetwork

from netkit.core.render import everything, render
from netkit.engine.explain import Besides, Question, explain
from netkit.errors import NotFound, SpecError
from tests.unit.core.intents import HOST, linked_pair, with_container

FACTS = msgspec.structs.replace(HOST, addresses={"eth0": (IPNetwork("198.51.100.1/24"),), "lo": ()})
BESIDES = Besides(firewall="", ports={}, ways=(("0.0.0.0/0", "eth0"),))


@pytest.fixture(scope="module")
def pair():
    intent, _ = with_container(linked_pair(), "idle", "br0")
    return intent


def asked(intent, source, target, port=80, besides=BESIDES, protocol="tcp"):
    resources = render(intent, FACTS, everything(intent))
    return explain(resources, intent, FACTS, besides, Question(source, target, protocol, port))


@pytest.mark.parametrize(
    ("source", "address"), [("web", "192.168.100.1"), ("eth0", "198.51.100.1"), ("host", "127.0.0.1")]
)
def test_the_host_is_named_as_the_source_sees_it(pair, source, address):
    found = asked(pair, source, "host")
    assert (found.place, found.dst) == ("host", address)
    assert found.reason.endswith(", if something listens there")
    assert not asked(pair, source, "host", 0, protocol="icmp").reason.endswith("there")


@pytest.mark.parametrize(
    ("source", "target", "place"),
    [
        ("web", "db", "container db"),
        ("web", "web", "container web"),
        ("web", "203.0.113.9", "the other end of eth0"),
        ("host", "192.168.100.77", "whoever is behind br0's nic0"),
        ("br0", "web", "container web"),
    ],
)
def test_a_place_is_told_in_words(pair, source, target, place):
    besides = msgspec.structs.replace(BESIDES, ports={"nic0": "br0", "nic1": "elsewhere"})
    assert asked(pair, source, target, besides=besides).place == place


def test_nobody_is_behind_a_bridge_without_other_ports(pair):
    assert asked(pair, "host", "192.168.100.77").reason == "nobody on br0 has 192.168.100.77"
    with pytest.raises(NotFound) as refused:
        asked(pair, "br0", "web")
    assert "eth0" in refused.value.hint


def test_the_firewall_is_the_one_that_stands(pair):
    besides = msgspec.structs.replace(
        BESIDES,
        firewall="*filter\n:INPUT DROP [0:0]\n-A INPUT -m limit --limit 1/sec -j ACCEPT\nCOMMIT\n",
        unseen=("table inet firewalld of nft",),
    )
    found = asked(pair, "eth0", "host", besides=besides)
    assert found.reason == "dropped by the policy of filter INPUT"
    assert found.doubts == (
        "filter INPUT: -m limit --limit 1/sec -j ACCEPT",
        "table inet firewalld of nft",
    )


def test_who_does_not_run_sends_nothing(pair):
    with pytest.raises(SpecError) as refused:
        asked(pair, "idle", "web")
    assert refused.value.hint == "netkit start idle"
