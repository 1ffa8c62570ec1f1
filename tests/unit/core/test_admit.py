"""What is let into the intent, and what is refused with which hint."""

import msgspec
import pytest
from netaddr import IPAddress, IPNetwork

from netkit.core import ipam
from netkit.core import link as linking
from netkit.core.admit import container, default, endpoint, find, link, network, ports
from netkit.core.render import affected, everything, render
from netkit.errors import Conflict, Forbidden, NotFound, SpecError
from netkit.model import derived
from netkit.model.request import EndpointRequest, NetworkRequest
from netkit.model.resource import Address, Route
from netkit.model.spec import Intent, parse_publish
from tests.unit.core.intents import HOST, linked_pair, started, with_container, with_network


def refused(error, hint, function, *args, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert hint in caught.value.hint
    return caught.value


def test_a_subnet_with_host_bits_names_the_gateway():
    _, net = with_network(Intent(), "br0", "192.168.100.7/24")
    assert (str(net.gateway), str(net.subnet.cidr)) == ("192.168.100.7", "192.168.100.0/24")


def test_subnets_do_not_overlap_networks_or_routes():
    intent, _ = with_network(Intent(), "br0", "10.0.0.1/16")
    error = refused(Conflict, "another subnet", with_network, intent, "br1", "10.0.5.0/24")
    assert "overlaps 10.0.0.0/16 of network br0" in error.message
    host = msgspec.structs.replace(HOST, routes=(IPNetwork("10.9.0.0/16"),))
    request = NetworkRequest(name="br1", bridge="br1", subnet=IPNetwork("10.9.1.0/24"))
    refused(Conflict, "another subnet", network.create, intent, request, host, new_id="x", now="")


def test_subnets_keep_clear_of_what_the_host_has_on_other_links():
    held = {
        "lo": (IPNetwork("127.0.0.1/8"),),
        "silent": (IPNetwork("172.17.0.1/24"),),  # noprefixroute: no route speaks of it
        "tunnel": (IPNetwork("172.18.9.9/32"),),
        "br1": (IPNetwork("10.1.0.1/24"),),
        "same-lan": (IPNetwork("10.1.0.9/24"),),
    }
    host = msgspec.structs.replace(HOST, addresses=held, interfaces={"br1": "bridge"})
    free = NetworkRequest(name="br0", bridge="br0")
    _, net = network.create(Intent(), free, host, new_id="x", now="")
    assert str(net.subnet) == "172.19.0.0/16"
    for subnet, message in (
        ("172.17.0.128/25", "subnet 172.17.0.128/25 overlaps 172.17.0.1/24 of link silent"),
        ("172.18.9.9/24", "gateway 172.18.9.9 is in use by link tunnel"),
        ("172.17.0.1/16", "gateway 172.17.0.1 is in use by link silent"),
    ):
        request = msgspec.structs.replace(free, subnet=IPNetwork(subnet))
        error = refused(
            Conflict, "choose another", network.create, Intent(), request, host, new_id="x", now=""
        )
        assert error.message == message
    for request in (
        msgspec.structs.replace(free, subnet=IPNetwork("172.18.9.1/24")),
        NetworkRequest(name="br1", bridge="br1", adopt=True),
    ):
        network.create(Intent(), request, host, new_id="x", now="")


@pytest.mark.parametrize(
    ("fields", "error", "hint"),
    [
        ({"name": "a" * 16}, SpecError, "Linux allows 15"),
        ({"name": "br 0"}, SpecError, "letter or digit"),
        ({"name": "host"}, Conflict, "another name"),
        ({"name": "x", "driver": "brigde"}, NotFound, "did you mean 'bridge'?"),
        ({"name": "x", "ip_range": IPNetwork("10.1.0.0/24")}, SpecError, "a range such as"),
        ({"name": "x", "gateway": IPAddress("10.1.0.1")}, SpecError, "for example 10.0.0.1"),
        ({"name": "x", "mtu": 10}, SpecError, "68 to 65535"),
        ({"name": "x", "auxiliary": {"a": IPAddress("10.0.0.1")}}, Conflict, "choose another"),
        ({"name": "x", "subnet": IPNetwork("127.0.1.0/24")}, SpecError, "a private one"),
        ({"name": "x", "subnet": IPNetwork("224.1.0.0/24")}, SpecError, "a private one"),
        ({"name": "x", "subnet": IPNetwork("255.255.255.0/24")}, SpecError, "a private one"),
        ({"name": "x", "subnet": IPNetwork("0.0.0.0/0")}, SpecError, "a private one"),
        ({"name": "x", "bridge": "eth0"}, Conflict, "another name"),
        ({"name": "x", "bridge": "virbr0"}, Conflict, "--adopt"),
        ({"name": "x", "bridge": "eth0", "adopt": True}, SpecError, "name a bridge"),
        ({"name": "x", "bridge": "br9", "adopt": True}, NotFound, "netkit bridge add br9"),
    ],
)
def test_networks_that_cannot_be(fields, error, hint):
    host = msgspec.structs.replace(HOST, interfaces={"eth0": "physical", "virbr0": "bridge"})
    fields = {"bridge": fields["name"], "subnet": IPNetwork("10.0.0.0/24"), **fields}
    request = NetworkRequest(**fields)
    refused(error, hint, network.create, Intent(), request, host, new_id="x", now="")


def test_a_containers_end_is_not_put_into_another_bridge():
    intent, _ = with_network(linked_pair(), "br1", "10.1.0.0/24")
    web = next(c for c in intent.containers.values() if c.name == "web")
    name = derived.veth_name(web.id, next(iter(web.endpoints)))
    host = msgspec.structs.replace(HOST, interfaces={name: "veth", "eth1": "veth"})
    error = refused(SpecError, "network connect br1 web", network.attach, intent, "br1", name, host)
    assert "container web" in error.message
    assert network.attach(intent, "br1", "eth1", host)[1].ports == ("eth1",)


def test_a_bridge_is_not_put_into_a_bridge():
    intent, _ = with_network(linked_pair(), "br1", "10.1.0.0/24")
    host = msgspec.structs.replace(HOST, interfaces={"virbr0": "bridge", "br0": "bridge"})
    for name in ("virbr0", "br0"):
        refused(SpecError, "a NIC or a veth", network.attach, intent, "br1", name, host)


def test_hints_say_so_where_there_is_nothing_to_choose_from():
    intent = linked_pair()
    refused(NotFound, "nothing is attached to br0", network.detach, intent, "br0", "eth0")
    refused(NotFound, "it publishes nothing", ports.unpublish, intent, "db", ["80"])
    refused(NotFound, "it has no links", link.remove, intent, "db", "web")
    refused(NotFound, "it has no aliases there", endpoint.alias, intent, "br0", "db", (), ("x",))


def test_a_mac_address_is_one_containers_alone():
    intent, _ = with_network(linked_pair(), "br1", "10.1.0.0/24")
    for name in ("third", "fourth"):
        intent, _ = with_container(intent, name, "br1")
    chosen = EndpointRequest(network="br0", mac="02:00:00:00:00:01")
    intent, _ = endpoint.connect(intent, "br0", "third", chosen, HOST)
    derived_one = EndpointRequest(network="br0", mac="02:42:c0:a8:64:02")
    for wish, holder in ((chosen, "third"), (derived_one, "db")):
        error = refused(Conflict, "another", endpoint.connect, intent, "br0", "fourth", wish, HOST)
        assert f"by container {holder}" in error.message


def test_a_network_in_use_and_the_default_one_are_not_removed():
    intent = linked_pair()
    error = refused(Forbidden, "netkit network disconnect br0 db", network.remove, intent, "br0")
    assert "db, web" in error.message
    intent, _ = with_network(intent, "bridge")
    refused(Forbidden, "teardown", network.remove, intent, "bridge")
    refused(NotFound, "did you mean 'br0'?", network.remove, intent, "br00")


def test_a_container_whose_network_has_gone_does_not_start_without_it():
    intent, old = with_network(Intent(), "br0", "10.0.0.1/24")
    intent, _ = with_network(intent, "br1", "10.1.0.1/24")
    intent, web = with_container(intent, "web", "br1", "br0", mode="br1")
    intent, _ = network.remove(intent, "br0")
    error = refused(NotFound, "network disconnect -f br0 web", container.start, intent, "web", HOST)
    assert error.message == "network br0 of container web no longer exists"
    for ref in ("br0", old.id, old.id[:12]):
        assert set(endpoint.disconnect(intent, ref, "web")[1].endpoints) == set(web.endpoints) - {old.id}
    refused(NotFound, "did you mean 'br1'?", endpoint.disconnect, intent, "br2", "web")
    intent, _ = network.create(intent, NetworkRequest(name="br0", bridge="br0"), HOST, new_id="new", now="")
    refused(NotFound, "network disconnect -f br0 web", container.start, intent, "web", HOST)
    assert old.id not in endpoint.disconnect(intent, "br0", "web")[1].endpoints
    intent, web = endpoint.connect(intent, "br0", "web", EndpointRequest(network="br0"), HOST)
    assert old.id not in web.endpoints
    assert [end.interface for end in web.endpoints.values()] == ["eth0", "eth1"]
    started(intent, "web")


def test_leases_are_taken_at_start_and_given_back_at_stop():
    intent, _ = with_network(Intent(), "br0", "10.0.0.1/24")
    intent, made = with_container(intent, "web", "br0", publish="8080:80")
    assert [end.address for end in made.endpoints.values()] == [None]
    running = started(intent, "web")
    assert [str(e.address) for e in running.containers[made.id].endpoints.values()] == ["10.0.0.2"]
    stopped, gone = container.stop(running, "web", container.Ending(exit_code=3))
    assert [end.address for end in gone.endpoints.values()] == [None]
    assert (gone.published, gone.exit_code, gone.running) == ((), 3, False)
    again = started(stopped, "web")
    assert [str(e.address) for e in again.containers[made.id].endpoints.values()] == ["10.0.0.3"]


def test_a_chosen_address_stays_reserved_while_its_container_is_stopped():
    intent, _ = with_network(Intent(), "br0", "10.0.0.1/24")
    intent, _ = with_container(intent, "web", "br0")
    wish = EndpointRequest(network="br1", ip=IPAddress("10.1.0.2"))
    intent, _ = with_network(intent, "br1", "10.1.0.1/24")
    intent, _ = endpoint.connect(intent, "br1", "web", wish, HOST)
    intent, _ = with_container(intent, "other", "br1")
    intent = started(intent, "other")
    other = next(c for c in intent.containers.values() if c.name == "other")
    assert [str(e.address) for e in other.endpoints.values()] == ["10.1.0.3"]


def test_what_the_host_has_on_a_bridge_is_nobody_elses():
    held = {"br0": (IPNetwork("10.0.0.1/24"), IPNetwork("10.0.0.2/24"), IPNetwork("10.0.0.4/32"))}
    intent, _ = with_network(Intent(), "br0", "10.0.0.1/24")
    host = msgspec.structs.replace(HOST, addresses=held)
    names = ("one", "two")
    for name in names:
        intent, _ = with_container(intent, name, "br0")
    running = started(intent, *names, host=host)
    ends = [end for each in running.containers.values() for end in each.endpoints.values()]
    assert [str(end.address) for end in ends] == ["10.0.0.3", "10.0.0.5"]
    wish = EndpointRequest(network="br0", ip=IPAddress("10.0.0.2"))
    refused(Conflict, "another", with_container, intent, "three", host=host, mode="br0", wishes=(wish,))
    intent, _ = with_container(intent, "three", mode="br0", wishes=(wish,))
    refused(Conflict, "another", container.start, intent, "three", host)


@pytest.mark.parametrize(
    ("first", "second"),
    [("8080:80", "8080:81"), ("8080:80", "127.0.0.1:8080:80"), ("127.0.0.1:8080:80", "8080:80")],
)
def test_one_host_port_leads_to_one_container(first, second):
    intent, _ = with_network(Intent(), "br0", "10.0.0.1/24")
    intent, _ = with_container(intent, "one", "br0", publish=first)
    intent, _ = with_container(intent, "two", "br0", publish=second)
    intent = started(intent, "one")
    error = refused(Conflict, "another host port", container.start, intent, "two", HOST)
    assert "taken by container one" in error.message


def test_a_port_another_program_has_is_refused_and_the_program_named():
    intent = linked_pair()
    host = msgspec.structs.replace(HOST, listeners={("tcp", "0.0.0.0", 9000): "nginx (pid 7)"})
    wanted = parse_publish("9000:81")
    error = refused(Conflict, "another host port", ports.publish, intent, "web", wanted, host)
    assert "nginx (pid 7)" in error.message
    ports.publish(intent, "web", parse_publish("9000:81/udp"), host)


NGINX = ("tcp", "0.0.0.0", 8000), "nginx (pid 7)"
PROBE = ("tcp", "127.0.0.1", 8001), "probe (pid 8)"


def test_a_port_is_published_only_on_an_address_that_the_host_has():
    own = (IPNetwork("127.0.0.0/8"), IPNetwork("198.51.100.1/32"))
    host, intent = msgspec.structs.replace(HOST, own=own), linked_pair()
    error = refused(
        Conflict, "one that it has", ports.publish, intent, "web", parse_publish("198.51.100.2:90:81"), host
    )
    assert error.message == "this host has no address 198.51.100.2"
    for text in ("198.51.100.1:90:81", "127.0.0.9:90:81", "90:81"):
        ports.publish(intent, "web", parse_publish(text), host)
    by_default = msgspec.structs.replace(host, default_ip=IPAddress("198.51.100.2"))
    refused(Conflict, "one that it has", ports.publish, intent, "web", parse_publish("90:81"), by_default)


@pytest.mark.parametrize(
    ("said", "network", "daemon", "placed"),
    [
        ("", "", "0.0.0.0", "0.0.0.0"),
        ("", "", "127.0.0.1", "127.0.0.1"),
        ("", "127.0.0.2", "127.0.0.1", "127.0.0.2"),
        ("", "0.0.0.0", "127.0.0.1", "0.0.0.0"),
        ("0.0.0.0:", "127.0.0.2", "127.0.0.1", "0.0.0.0"),
        ("127.0.0.3:", "127.0.0.2", "127.0.0.1", "127.0.0.3"),
    ],
)
def test_the_host_address_of_a_port_is_the_one_said_then_the_networks_then_the_daemons(
    said, network, daemon, placed
):
    host = msgspec.structs.replace(HOST, default_ip=IPAddress(daemon))
    binding = IPAddress(network) if network else None
    intent, _ = with_network(Intent(), "br0", "10.0.0.1/24", host_binding=binding)
    intent, web = with_container(intent, "web", "br0", publish=f"{said}80:80", publish_all=True)
    intent = started(intent, "web", host=host)
    (port,) = intent.containers[web.id].published
    assert port.describe() == f"{placed}:80->80/tcp"
    assert port.said
    for name in (f"{placed}:80:80", "80:80", "80"):
        _, without = ports.unpublish(intent, "web", [name])
        assert (without.published, without.publish) == ((), ())


def test_of_two_ways_to_a_port_the_one_named_is_taken_back():
    host = msgspec.structs.replace(HOST, default_ip=IPAddress("127.0.0.1"))
    intent, _ = with_network(Intent(), "br0", "10.0.0.1/24")
    intent, web = with_container(intent, "web", "br0", publish="0.0.0.0:80:80")
    intent, web = ports.publish(started(intent, "web", host=host), "web", parse_publish("81:80"), host)
    _, web = ports.unpublish(intent, "web", ["0.0.0.0:80:80"])
    assert [port.describe() for port in web.published] == ["127.0.0.1:81->80/tcp"]
    assert [port.outside for port in web.publish] == ["81"]


def test_of_a_range_of_host_ports_the_first_free_one_is_taken():
    intent, _ = with_network(Intent(), "br0", "10.0.0.1/24")
    intent, _ = with_container(intent, "one", "br0", publish="8000-8003:80")
    intent, _ = with_container(intent, "two", "br0", publish="8000-8003:80")
    assert ports.needs(intent.containers[("one" * 64)[:64]].publish) == {
        ("tcp", n) for n in range(8000, 8004)
    }
    intent = started(intent, "one", "two", host=msgspec.structs.replace(HOST, listeners=dict([NGINX, PROBE])))
    placed = [port.describe() for c in intent.containers.values() for port in c.published]
    assert placed == ["0.0.0.0:8002->80/tcp", "0.0.0.0:8003->80/tcp"]
    intent, one = ports.unpublish(intent, "one", ["8002:80"])
    assert (one.published, one.publish) == ((), ())


def test_a_range_that_is_taken_as_a_whole_says_by_whom():
    intent = linked_pair()
    host = msgspec.structs.replace(HOST, listeners=dict([NGINX, PROBE]))
    wanted = parse_publish("8000-8001:81")
    error = refused(Conflict, "another host port", ports.publish, intent, "web", wanted, host)
    assert error.message == "ports 8000-8001/tcp on 0.0.0.0 are taken by nginx (pid 7), probe (pid 8)"


def test_a_range_is_taken_back_by_the_name_it_was_asked_for():
    intent, _ = with_container(linked_pair(), "cold", "br0", publish="8000-8003:80")
    _, cold = ports.unpublish(intent, "cold", ["8000-8003:80"])
    assert cold.publish == ()


def test_a_random_port_is_not_one_that_another_program_has():
    intent, _ = with_network(Intent(), "br0", "10.0.0.1/24")
    intent, web = with_container(intent, "web", "br0", publish="80")
    host = msgspec.structs.replace(HOST, port_range=(8000, 8002), listeners=dict([NGINX, PROBE]))
    assert started(intent, "web", host=host).containers[web.id].published[0].host_port == 8002


@pytest.mark.parametrize("name", ["8080", "8080:80", "8080:80/tcp", "80/tcp", "0.0.0.0:8080:80"])
def test_a_published_port_is_taken_back_by_any_of_its_names(name):
    intent, web = ports.unpublish(linked_pair(), "web", [name])
    assert (web.published, web.publish) == ((), ())
    refused(NotFound, "it publishes nothing", ports.unpublish, intent, "web", [name])


def test_random_ports_differ():
    intent, _ = with_network(Intent(), "br0", "10.0.0.1/24")
    intent, web = with_container(intent, "web", "br0", exposed=((80, "tcp"), (81, "tcp")), publish_all=True)
    web = started(intent, "web").containers[web.id]
    numbers = {port.host_port for port in web.published}
    assert len(numbers) == 2
    assert all(49153 <= number <= 65535 for number in numbers)


def test_links_to_what_is_missing_stopped_or_elsewhere():
    intent = linked_pair()
    refused(NotFound, "did you mean 'db'?", link.add, intent, "web", "dbb", "x")
    refused(Conflict, "another alias", link.add, intent, "web", "db", "database")
    intent, _ = with_container(intent, "cold", "br0")
    refused(Conflict, "netkit start cold", link.add, intent, "web", "cold", "x")
    intent, _ = with_network(intent, "far", "10.7.0.1/24")
    intent, _ = with_container(intent, "away", "far")
    refused(Conflict, "netkit network connect br0 away", link.add, intent, "web", "away", "x")


def with_links(*pairs):
    """Containers a to f, each exposing a port, on a network with icc off, with links between them."""
    intent, _ = with_network(Intent(), "br0", "10.0.0.1/24", icc=False)
    for name in "abcdef":
        intent, _ = with_container(intent, name, "br0", exposed=((80, "tcp"),))
    for parent, target in pairs:
        intent, _ = link.add(intent, parent, target, f"to-{target}")
    return intent


def test_containers_that_are_linked_in_a_circle_start_one_after_the_other():
    intent = with_links("ab", "bc", "ca", "ad")
    error = refused(Conflict, "netkit start d", container.start, intent, "a", HOST)
    assert "stopped container d" in error.message
    intent = started(intent, "d", "a", "b")
    old, intent = intent, started(intent, "c")
    units = affected(old, intent)
    a, b, c, d = (next(each for each in intent.containers.values() if each.name == name) for name in "abcd")
    assert units.containers == {b.id, c.id}
    assert [link_.alias in linking.hosts(intent, b) for link_ in b.links] == [True]
    members = [
        each.entry for each in render(intent, HOST, everything(intent)).values() if each.kind == "member"
    ]
    at = {each.name: next(iter(each.endpoints.values())).address for each in (a, b, c, d)}
    for source, target in ("ab", "bc", "ca", "ad"):
        assert f"{at[source]},tcp:80,{at[target]}" in members
    refused(Conflict, "netkit start f", link.add, intent, "a", "f", "x")


@pytest.mark.parametrize(
    "pairs",
    [("ab", "bc", "ad"), ("ab", "bc", "ca", "cd", "ea", "fe"), ("fe", "ef", "ed", "dc", "cb", "bc", "ba")],
)
def test_containers_come_back_with_what_they_are_linked_to_first(pairs):
    intent = with_links(*pairs)
    for some in (list(intent.containers.values()), list(intent.containers.values())[::-1]):
        order = [each.name for each in linking.targets_first(intent, some)]
        assert sorted(order) == list("abcdef")
        started(intent, *order)


FORGED = "x\n6.6.6.6 bank.example #"


@pytest.mark.parametrize("name", [FORGED, "a b", "-x", ""])
def test_aliases_are_names(name):
    intent = linked_pair()
    intent, _ = with_network(intent, "br1", "10.1.0.0/24")
    wish = EndpointRequest(network="br1", aliases=(name,))
    for function, *args in (
        (link.add, "db", "web", name),
        (endpoint.connect, "br1", "web", wish, HOST),
        (endpoint.alias, "br0", "web", (name,), ()),
        (with_container, "new", "br0", (("links", (("web", name),)),)),
    ):
        fields = dict(args.pop()) if function is with_container else {}
        error = refused(SpecError, "letter or digit", function, intent, *args, **fields)
        assert "alias" in error.message


@pytest.mark.parametrize("field", ["hostname", "domainname", "dns", "dns_search", "dns_options"])
def test_what_becomes_a_line_of_a_file_stays_on_it(field):
    wish = {field: (FORGED,) if field.startswith("dns") else FORGED}
    refused(SpecError, "", with_container, linked_pair(), "new", "br0", **wish)
    blank = {"domainname": "a b", "dns_search": ("a b",)}.get(field)
    if blank:
        refused(SpecError, "", with_container, linked_pair(), "new", "br0", **{field: blank})
    with_container(linked_pair(), "new", "br0", dns_search=("a.b", "."), dns_options=("ndots:2 rotate",))


def test_removing_a_container_takes_the_links_to_it_along():
    intent, _ = container.stop(linked_pair(), "db", container.Ending())
    intent, _ = container.remove(intent, "db")
    assert all(not c.links for c in intent.containers.values())


def test_names_are_unique_and_running_containers_are_not_removed():
    intent = linked_pair()
    refused(Conflict, "another name", with_container, intent, "web", "br0")
    refused(Conflict, "netkit rm -f web", container.remove, intent, "web")
    refused(NotFound, "did you mean 'web'?", container.remove, intent, "wep")


def test_the_default_network_moves_only_while_nobody_is_on_it():
    made = NetworkRequest(name="bridge", bridge="netkit0", subnet=IPNetwork("172.17.0.1/16"))
    intent, old = default.set_default(Intent(), made, HOST, new_id="b" * 64, now="")
    request = NetworkRequest(name="bridge", bridge="netkit0", subnet=IPNetwork("10.5.0.1/16"))
    _, moved = default.set_default(intent, request, HOST, new_id="n", now="")
    assert (moved.id, str(moved.subnet.cidr)) == (old.id, "10.5.0.0/16")
    intent, _ = with_container(intent, "web")
    intent = started(intent, "web")
    with pytest.raises(Conflict, match="cannot move"):
        default.set_default(intent, request, HOST, new_id="n", now="")


def test_a_bridge_of_netkits_own_brings_its_network_as_the_default_one():
    """`bridge add br0 --no-icc`, then `daemon -b br0`, then `daemon` again."""
    plain, chosen = (
        NetworkRequest(name="bridge", bridge=name, adopt=name == "br0") for name in ("netkit0", "br0")
    )
    intent, first = default.set_default(Intent(), plain, HOST, new_id="d" * 64, now="")
    intent, br0 = with_network(intent, "br0", "10.9.0.1/24", icc=False)
    intent, _ = with_container(intent, "rests")
    intent, _ = with_container(intent, "runs", "br0")
    intent = started(intent, "runs")
    lent, net = default.set_default(intent, chosen, HOST, new_id="e" * 64, now="")
    assert (net.id, net.name, net.icc, net.adopted) == (br0.id, "bridge", False, False)
    assert first.id not in lent.networks
    assert find.network(lent, "br0").id == find.network(lent, "bridge").id == br0.id
    assert str(started(lent, "rests").containers[("rests" * 64)[:64]].endpoints[br0.id].address) == "10.9.0.3"
    assert default.set_default(lent, chosen, HOST, new_id="f" * 64, now="")[0] == lent
    back, again = default.set_default(lent, plain, HOST, new_id="f" * 64, now="")
    assert (again.bridge, again.name) == ("netkit0", "bridge")
    assert back.networks[br0.id] == intent.networks[br0.id]
    assert default.drop_default(lent).networks[br0.id] == intent.networks[br0.id]


def test_a_default_network_with_running_containers_gives_way_to_no_other():
    request = NetworkRequest(name="bridge", bridge="netkit0")
    intent, _ = default.set_default(Intent(), request, HOST, new_id="d" * 64, now="")
    intent, _ = with_network(intent, "br0", "10.9.0.1/24")
    assert not any(net.default for net in default.drop_default(intent).networks.values())
    intent, _ = with_container(intent, "web")
    intent = started(intent, "web")
    chosen = NetworkRequest(name="bridge", bridge="br0", adopt=True)
    refused(Conflict, "stop them first", default.set_default, intent, chosen, HOST, new_id="e", now="")
    refused(Conflict, "stop them first", default.drop_default, intent)


def test_a_default_network_stays_where_others_have_come_since():
    request = NetworkRequest(name="bridge", bridge="netkit0")
    intent, old = default.set_default(Intent(), request, HOST, new_id="n", now="")
    late = msgspec.structs.replace(
        HOST, routes=(IPNetwork("172.17.4.0/24"),), addresses={"vpn": (IPNetwork("172.17.4.1/24"),)}
    )
    assert default.set_default(intent, request, late, new_id="m", now="")[1] == old
    moved = msgspec.structs.replace(request, subnet=IPNetwork("172.17.4.0/24"))
    refused(Conflict, "another subnet", default.set_default, intent, moved, late, new_id="m", now="")


def test_an_adopted_default_bridge_keeps_its_subnet_when_its_address_is_no_longer_somebody_elses():
    request = NetworkRequest(name="bridge", bridge="br0", adopt=True, ip_range=IPNetwork("10.5.0.64/26"))
    given = {"br0": (IPNetwork("10.5.0.1/24"),)}
    host = msgspec.structs.replace(HOST, interfaces={"br0": "bridge"}, addresses=given)
    intent, old = default.set_default(Intent(), request, host, new_id="n", now="")
    lost = msgspec.structs.replace(host, addresses={})
    _, new = default.set_default(intent, request, lost, new_id="m", now="")
    assert (new.subnet, new.gateway, new.ip_range) == (old.subnet.cidr, old.gateway, old.ip_range)
    moved = msgspec.structs.replace(host, addresses={"br0": (IPNetwork("10.5.0.2/24"),)})
    _, new = default.set_default(intent, request, moved, new_id="m", now="")
    assert str(new.gateway) == "10.5.0.2"


def test_a_router_beside_the_bridge_keeps_its_address_and_gets_the_default_route():
    adopted = NetworkRequest(name="bridge", bridge="br0", adopt=True, router=IPAddress("10.5.0.1"))
    there = msgspec.structs.replace(
        HOST, interfaces={"br0": "bridge"}, addresses={"br0": (IPNetwork("10.5.0.3/24"),)}
    )
    made = NetworkRequest(
        name="bridge", bridge="netkit0", subnet=IPNetwork("10.5.0.3/24"), router=IPAddress("10.5.0.1")
    )
    free = NetworkRequest(name="bridge", bridge="netkit0", router=IPAddress("172.17.0.9"))
    for request, host, own, router in (
        (adopted, there, "10.5.0.3", "10.5.0.1"),
        (made, HOST, "10.5.0.3", "10.5.0.1"),
        (free, HOST, "172.17.0.1", "172.17.0.9"),
    ):
        intent, net = default.set_default(Intent(), request, host, new_id="n", now="")
        assert (str(net.own), str(net.gateway)) == (own, router)
        intent, web = with_container(intent, "web", extra_hosts=("h:host-gateway",))
        intent = started(intent, "web")
        made_of = render(intent, host, everything(intent)).values()
        ours = [each.cidr for each in made_of if isinstance(each, Address)]
        assert ours == ([] if request.adopt else [f"{own}/{net.subnet.prefixlen}"])
        assert [each.gateway for each in made_of if isinstance(each, Route)] == [router]
        assert f"{own}\th" in linking.hosts(intent, intent.containers[web.id])
        again, _ = container.stop(intent, "web", container.Ending())
        _, kept = default.set_default(again, request, host, new_id="m", now="")
        assert (kept.own, kept.gateway) == (net.own, net.gateway)
        for taken in (own, router):
            refused(Conflict, "another", ipam.claim, net, IPAddress(taken), ())
    refused(
        SpecError,
        "for example 10.5.0.1",
        default.set_default,
        Intent(),
        msgspec.structs.replace(made, router=IPAddress("10.6.0.1")),
        HOST,
        new_id="n",
        now="",
    )


def test_disconnecting_the_way_of_a_published_port_is_refused():
    intent = linked_pair()
    refused(Conflict, "unpublish", endpoint.disconnect, intent, "br0", "web")
    refused(
        Conflict,
        "disconnect it first",
        endpoint.connect,
        intent,
        "br0",
        "web",
        EndpointRequest(network="br0"),
        HOST,
    )
