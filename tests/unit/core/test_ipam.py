"""Which subnet a network gets, and which address a container."""

import pytest
from netaddr import IPAddress, IPNetwork

from netkit.core import ipam
from netkit.core.admit import network
from netkit.errors import Conflict, SpecError
from netkit.model.request import NetworkRequest
from netkit.model.spec import Host, Intent


def make(subnet, ip_range=None, **fields):
    request = NetworkRequest(
        name="n", bridge="n", subnet=IPNetwork(subnet), ip_range=ip_range and IPNetwork(ip_range), **fields
    )
    return network.create(Intent(), request, Host(state_dir="/s"), new_id="n", now="")[1]


@pytest.mark.parametrize(
    ("fixed_cidr", "first"),
    [("10.211.55.64/26", "10.211.55.64"), ("10.211.55.128/26", "10.211.55.128")],
)
def test_two_hosts_share_a_subnet_through_their_fixed_cidrs(fixed_cidr, first):
    net = make("10.211.55.1/24", fixed_cidr)
    taken, given = set(), []
    for _ in range(64):
        address = ipam.lease(net, taken)
        taken.add(int(address))
        given.append(address)
    assert given[0] == IPAddress(first)
    assert all(address in IPNetwork(fixed_cidr) for address in given)
    with pytest.raises(Conflict, match="no free address"):
        ipam.lease(net, taken)


def test_an_address_given_back_is_not_the_next_one_given_out():
    net = make("10.0.0.1/29")
    given = []
    for _ in range(6):
        address = ipam.lease(net, set())
        net = type(net)(**{f: getattr(net, f) for f in net.__struct_fields__} | {"cursor": int(address)})
        given.append(str(address))
    assert given == ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"]


def test_gateway_broadcast_network_and_auxiliary_addresses_are_never_leased():
    net = make("10.0.0.1/29", auxiliary={"router": IPAddress("10.0.0.3")})
    taken = set()
    while len(taken) < 4:
        taken.add(int(ipam.lease(net, taken)))
    assert {str(IPAddress(number)) for number in taken} == {f"10.0.0.{n}" for n in (2, 4, 5, 6)}


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ("10.1.0.9", SpecError, "is not in subnet"),
        ("10.0.0.1", Conflict, "reserved"),
        ("10.0.0.255", Conflict, "reserved"),
        ("10.0.0.7", Conflict, "in use"),
    ],
)
def test_a_chosen_address_that_cannot_be_had_is_refused(wanted, error, words):
    with pytest.raises(error, match=words):
        ipam.claim(make("10.0.0.1/24"), IPAddress(wanted), {int(IPAddress("10.0.0.7"))})


def test_the_default_subnet_overlaps_no_route_of_the_host():
    taken = [IPNetwork("172.16.0.0/12"), IPNetwork("192.168.0.0/19"), IPNetwork("0.0.0.0/0")]
    assert ipam.choose_subnet(ipam.DEFAULT_POOLS, taken) == IPNetwork("192.168.32.0/20")


def test_pools_that_are_used_up_are_told():
    with pytest.raises(Conflict, match="no subnet is free") as caught:
        ipam.choose_subnet([(IPNetwork("10.0.0.0/23"), 24)], [IPNetwork("10.0.0.0/16")])
    assert "--subnet" in caught.value.hint


def test_the_mac_is_derived_from_the_address():
    assert ipam.mac_of(IPAddress("192.168.100.10")) == "02:42:c0:a8:64:0a"
