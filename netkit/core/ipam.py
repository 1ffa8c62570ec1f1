"""Addresses: which subnet a network gets, and which address a container.

Subnets come from pools and never overlap one that is in use. Addresses go round the range, so
that one that was given back is not handed out again at once: other machines still have it in
their ARP caches, and clients in theirs.

    >>> choose_subnet(DEFAULT_POOLS, [IPNetwork("172.17.0.0/16")])
    IPNetwork('172.18.0.0/16')
"""

from collections.abc import Collection, Iterable, Iterator

from netaddr import IPAddress, IPNetwork

from netkit.errors import Conflict, SpecError
from netkit.model.spec import Network

# The pools that Docker's users know: sixteen-bit subnets of 172.16/12 but the first, then
# twenty-bit ones of 192.168/16.
DEFAULT_POOLS: tuple[tuple[IPNetwork, int], ...] = (
    *((IPNetwork(f"172.{second}.0.0/16"), 16) for second in range(17, 32)),
    (IPNetwork("192.168.0.0/16"), 20),
)


def parse_pool(text: str) -> tuple[IPNetwork, int]:
    """`base=10.10.0.0/16,size=24` as (base, prefix length). Raises SpecError."""
    try:
        fields = dict(part.split("=", 1) for part in text.split(","))
        pool = IPNetwork(fields["base"]), int(fields["size"])
    except (KeyError, ValueError) as err:
        raise SpecError(f"invalid address pool {text!r}", hint="base=10.10.0.0/16,size=24") from err
    if not pool[0].prefixlen <= pool[1] <= 30:
        raise SpecError(f"size {pool[1]} does not fit in {pool[0]}", hint="a longer prefix, at most 30")
    return pool


def overlapping(subnet: IPNetwork, others: Iterable[IPNetwork]) -> IPNetwork | None:
    """The first of `others` that shares an address with `subnet`; a default route is no claim."""
    return next((net for net in others if net.prefixlen and (net in subnet or subnet in net)), None)


def choose_subnet(pools: Iterable[tuple[IPNetwork, int]], taken: Collection[IPNetwork]) -> IPNetwork:
    """The first subnet of the pools that overlaps nothing taken. Raises Conflict."""
    for base, size in pools:
        for subnet in base.subnet(size):
            if overlapping(subnet, taken) is None:
                return subnet
    raise Conflict(
        "no subnet is free in the default pools",
        hint="name one with --subnet, or give the daemon more with --default-address-pool",
    )


def lease(network: Network, taken: Collection[int]) -> IPAddress:
    """The next free address of the network's range after the one given out last. Raises Conflict."""
    reserved = _reserved(network)
    for number in _round(network):
        if number not in taken and number not in reserved:
            return IPAddress(number)
    raise Conflict(
        f"network {network.name} has no free address in {network.ip_range}",
        hint="remove containers, or make a network with a larger --ip-range",
    )


def claim(network: Network, wanted: IPAddress, taken: Collection[int]) -> IPAddress:
    """The address the user chose, if it can be had. Raises SpecError, Conflict."""
    if wanted not in network.subnet.cidr:
        raise SpecError(
            f"address {wanted} is not in subnet {network.subnet.cidr} of network {network.name}",
            hint=f"choose one from {network.ip_range}",
        )
    if int(wanted) in _reserved(network):
        raise Conflict(f"address {wanted} is reserved in network {network.name}", hint="choose another")
    if int(wanted) in taken:
        raise Conflict(f"address {wanted} is in use in network {network.name}", hint="choose another")
    return wanted


def mac_of(address: IPAddress) -> str:
    """The MAC derived from an address, 02:42 and its four octets, so that ARP caches stay right."""
    return ":".join(f"{octet:02x}" for octet in (0x02, 0x42, *address.words))


def _reserved(network: Network) -> frozenset[int]:
    """Addresses that are nobody's to take: network, broadcast, bridge, gateway, auxiliary ones."""
    subnet = network.subnet.cidr
    fixed = {subnet.first, int(network.own), int(network.gateway)}
    fixed.update(map(int, network.auxiliary.values()))
    if subnet.prefixlen < 31:
        fixed.add(subnet.last)
    return frozenset(fixed)


def _round(network: Network) -> Iterator[int]:
    """Every address of the range once, beginning after the cursor."""
    first, last = network.ip_range.first, network.ip_range.last
    start = network.cursor + 1 if first <= network.cursor < last else first
    yield from range(start, last + 1)
    yield from range(first, start)
