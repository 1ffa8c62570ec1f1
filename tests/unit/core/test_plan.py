"""Plans as pictures: two sets of resources in, text out."""

import msgspec
import pytest

from netkit.core import plan
from netkit.core.admit import container, endpoint, link
from netkit.core.render import affected, everything, render
from netkit.errors import PluginError
from netkit.model.operation import Operation
from netkit.model.request import EndpointRequest
from netkit.model.resource import Bridge, IpSet, Member, Namespace, Route, Veth
from netkit.model.spec import Intent
from tests.unit.core.intents import HOST, linked_pair, started, with_container, with_network

BR0 = Bridge(name="br0", mtu=1500, owner="network/br0")
NS = Namespace(path="/n/web", owner="container/web")
VETH = Veth(
    name="nk1",
    bridge="br0",
    mtu=1500,
    namespace="/n/web",
    peer="eth0",
    mac="02:42:0a:00:00:02",
    cidr="10.0.0.2/24",
    owner="container/web/br0",
)
ROUTE = Route(namespace="/n/web", gateway="10.0.0.1", veth="nk1", link="eth0", owner="container/web/br0")


def picture(before, after):
    return plan.describe(plan.diff(plan.index(before), plan.index(after))).splitlines()


def test_creation_begins_with_what_is_needed():
    assert picture([], [ROUTE, VETH, NS, BR0]) == [
        "+ create namespace /n/web",
        "+ create bridge br0 mtu 1500",
        "+ create veth nk1 in br0, peer eth0 10.0.0.2/24 02:42:0a:00:00:02 mtu 1500 in /n/web",
        "+ create route default via 10.0.0.1 dev eth0 in /n/web",
    ]


def test_removal_is_the_other_way_round():
    assert [line.split()[2] for line in picture([BR0, NS, VETH, ROUTE], [])] == [
        "route",
        "veth",
        "bridge",
        "namespace",
    ]


def test_beside_a_failure_goes_on_what_does_not_wait_for_it():
    other = Bridge(name="br1", mtu=1500, owner="network/br1")
    making = plan.diff({}, plan.index([BR0, other, NS, VETH, ROUTE]))
    failed = next(op for op in making if op.key == BR0.key)
    assert [op.key for op in plan.beside(failed, making)] == [NS.key, other.key]
    taking = plan.diff(plan.index([BR0, other, NS, VETH, ROUTE]), {})
    failed = next(op for op in taking if op.key == VETH.key)
    assert [op.key for op in plan.beside(failed, taking)] == [ROUTE.key, other.key]


def test_what_filters_stops_a_plan_that_fails_and_a_set_too_many_does_not():
    opening, extra = (
        IpSet(name="NETKIT-A", type="hash:ip", owner="host"),
        Bridge(name="br1", mtu=1, owner="n"),
    )
    assert not plan.passable(Operation(None, opening))
    assert plan.passable(Operation(opening, None))
    assert plan.passable(Operation(None, extra))


def test_what_can_be_changed_in_place_is():
    wider = msgspec.structs.replace(BR0, mtu=9000)
    assert picture([BR0, NS, VETH], [wider, NS, VETH]) == ["~ modify bridge br0 mtu 9000"]


def test_what_cannot_be_changed_is_replaced_with_all_that_falls_with_it():
    moved = msgspec.structs.replace(VETH, cidr="10.0.0.9/24")
    assert [line[:14] for line in picture([BR0, NS, VETH, ROUTE], [BR0, NS, moved, ROUTE])] == [
        "- delete route",
        "- delete veth ",
        "+ create veth ",
        "+ create route",
    ]


def test_a_bridge_that_vanished_does_not_cost_the_containers_their_links():
    lost = msgspec.structs.replace(VETH, bridge="")
    assert [line[:15] for line in picture([NS, lost], [BR0, NS, VETH])] == [
        "+ create bridge",
        "~ modify veth n",
    ]


def test_owners_count_only_where_the_kernel_keeps_them():
    other = msgspec.structs.replace(NS, owner="container/renamed")
    assert picture([NS], [other]) == []
    assert picture([BR0], [msgspec.structs.replace(BR0, owner="network/new")]) == [
        "~ modify bridge br0 mtu 1500"
    ]


def test_two_different_resources_with_one_key_are_a_mistake():
    with pytest.raises(PluginError, match="two different resources claim bridge br0"):
        plan.index([BR0, msgspec.structs.replace(BR0, mtu=1)])


def test_a_set_member_may_serve_two_owners():
    one = Member(set="S", entry="10.0.0.2,tcp:80", owner="publish/web/1")
    two = msgspec.structs.replace(one, owner="publish/web/2")
    assert picture([], [IpSet(name="S", type="hash:ip,port", owner="host"), one, two]) == [
        "+ create ipset S hash:ip,port",
        "+ create member S 10.0.0.2,tcp:80",
    ]


def rendered(intent, units=None):
    return render(intent, HOST, units or everything(intent))


def test_nothing_wanted_is_nothing_rendered():
    assert rendered(Intent()) == {}


def test_the_number_of_rules_does_not_grow_with_containers_or_links():
    def rules(intent):
        return sum(key.kind in {"entry", "chain", "hook"} for key in rendered(intent))

    intent, _ = with_network(Intent(), "br0", "10.0.0.1/16", icc=False)
    empty = rules(intent)
    for number in range(30):
        intent, _ = with_container(intent, f"c{number}", "br0", exposed=((80, "tcp"),))
        intent = started(intent, f"c{number}")
        if number:
            intent, _ = link.add(intent, f"c{number}", "c0", "zero")
    assert rules(intent) == empty
    assert sum(key.name.startswith("NETKIT-LINKS ") for key in rendered(intent)) == 29


def test_a_link_opens_exactly_the_exposed_ports_in_the_needed_direction():
    members = [key.name for key in rendered(linked_pair()) if key.name.startswith("NETKIT-LINKS ")]
    assert members == ["NETKIT-LINKS 192.168.100.3,tcp:5432,192.168.100.2"]


def test_attaching_one_container_touches_nobody_else():
    intent = linked_pair()
    intent, _ = with_network(intent, "br1", "10.9.0.1/24")
    after, web = endpoint.connect(intent, "br1", "web", EndpointRequest(network="br1"), HOST)
    units = affected(intent, after)
    assert units.containers == {web.id}
    before, now = rendered(intent, units), rendered(after, units)
    assert sorted(k.kind for k in now if before.get(k) != now[k]) == ["file", "veth"]


def test_a_target_that_starts_anew_with_another_address_keeps_its_links():
    intent, _ = container.stop(linked_pair(), "db", container.Ending())
    assert not [key for key in rendered(intent) if key.name.startswith("NETKIT-LINKS ")]
    after = started(intent, "db")
    web = next(c for c in after.containers.values() if c.name == "web")
    assert web.id in affected(intent, after).containers
    members = [key.name for key in rendered(after) if key.name.startswith("NETKIT-LINKS ")]
    assert members == ["NETKIT-LINKS 192.168.100.3,tcp:5432,192.168.100.4"]
    hosts = next(r for r in rendered(after).values() if r.name_of().endswith(f"{web.id}/hosts"))
    assert "192.168.100.4\tdatabase db" in hosts.content
