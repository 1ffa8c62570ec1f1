"""Which tracked connections an operation makes stale: only those that no longer fit."""

from msgspec import structs

from netkit.engine.flows import stale
from netkit.kernel.conntrack import Flow
from netkit.model.operation import Operation
from netkit.model.resource import Entry, Member
from netkit.model.rule import parse_rule


def entry(chain, text, **fields):
    owner = "network/br0"
    return Entry(
        owner=owner, table="nat", chain=chain, rule=structs.replace(parse_rule(text), owner=owner), **fields
    )


def redirect(protocol, to="10.0.0.2:53"):
    text = f"-d 198.51.100.1/32 -p {protocol} -m {protocol} --dport 5300 -j DNAT --to-destination {to}"
    return entry("NETKIT-PUBLISH", text)


LED = {"dst": "198.51.100.1", "dst_port": 5300, "answer": "10.0.0.2", "answer_port": 53, "redirected": True}


def test_what_a_redirection_led_goes_with_it():
    assert stale(Operation(redirect("tcp"), None)) == [Flow("tcp", **LED)]


def test_datagrams_are_led_anew_when_a_redirection_comes_or_moves():
    assert stale(Operation(None, redirect("udp"))) == [Flow("udp", dst="198.51.100.1", dst_port=5300)]
    assert stale(Operation(redirect("udp"), redirect("udp", "10.0.0.9:53"))) == [Flow("udp", **LED)]


def test_connections_stay_when_a_redirection_comes_moves_or_changes_its_owner():
    was = redirect("tcp")
    named = structs.replace(was, rule=structs.replace(was.rule, owner="publish/other"), owner="publish/other")
    for operation in (
        Operation(None, was),
        Operation(was, redirect("tcp", "10.0.0.9:53")),
        Operation(was, named),
    ):
        assert stale(operation) == []


def test_a_network_that_is_closed_ends_what_passed_within_it_and_nothing_else():
    is_open, shut = (entry("NETKIT-ISOLATE", f"-i br0 -o br0 -j {target}") for target in ("ACCEPT", "DROP"))
    known = structs.replace(shut, subnet="10.0.0.0/24")
    assert stale(Operation(is_open, known)) == [Flow(within="10.0.0.0/24")]
    assert stale(Operation(is_open, shut)) == [], "whose traffic is not known: not everybody's"
    assert stale(Operation(known, is_open)) == stale(Operation(shut, known)) == []


def test_what_a_link_opened_ends_with_it():
    member = Member(owner="link/a->b:b", set="NETKIT-LINKS", entry="10.0.0.3,tcp:5432,10.0.0.2")
    assert stale(Operation(member, None)) == [Flow("tcp", src="10.0.0.3", dst="10.0.0.2", dst_port=5432)]
    assert stale(Operation(None, member)) == []
