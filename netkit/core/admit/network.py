"""Admission of networks: names, subnets, bridges, and the host's links put into them.

>>> intent, network = create(intent, NetworkRequest(name="br0"), host, new_id="4f…", now="…")
"""

from collections.abc import Iterable

import msgspec
from netaddr import IPAddress, IPNetwork

from netkit.core import ipam
from netkit.core.admit import find
from netkit.errors import Conflict, Forbidden, NotFound, SpecError
from netkit.model import derived, names
from netkit.model.request import NetworkRequest
from netkit.model.spec import Container, Host, Intent, Network

DRIVERS = ("bridge",)
PREDEFINED = ("host", "none")
# This network, loopback, multicast and what is reserved: no host has such an address.
_UNUSABLE = (IPNetwork("0.0.0.0/8"), IPNetwork("127.0.0.0/8"), IPNetwork("224.0.0.0/3"))


def create(
    intent: Intent, request: NetworkRequest, host: Host, *, new_id: str, now: str
) -> tuple[Intent, Network]:
    """A network as asked for, on a bridge. Raises SpecError, NotFound, Conflict."""
    name = names.parse_name(request.name, "network")
    if name in PREDEFINED or any(name == other.name for other in intent.networks.values()):
        raise Conflict(f"network with name {name} already exists", hint="choose another name")
    if request.driver not in DRIVERS:
        raise NotFound(
            f"no network driver named {request.driver!r}", hint=names.nearest(request.driver, DRIVERS)
        )
    bridge = _bridge(intent, request, host, new_id)
    subnet, own = _subnet(intent, request, host, bridge)
    gateway = host_address(request, subnet, request.router) if request.router else own
    network = Network(
        id=new_id,
        name=name,
        bridge=bridge,
        subnet=subnet,
        gateway=gateway,
        address=None if gateway == own else own,
        ip_range=ip_range_of(request, subnet),
        created=now,
        mtu=valid_mtu(request.mtu or host.uplink_mtu),
        auxiliary=_auxiliary(request, subnet, {own, gateway}),
        internal=request.internal,
        icc=_icc(request, host),
        masquerade=request.masquerade is not False,
        host_binding=request.host_binding,
        adopted=request.adopt,
        attachable=request.attachable,
        options=request.options,
        labels=request.labels,
    )
    return intent.with_network(network), network


def remove(intent: Intent, ref: str) -> tuple[Intent, Network]:
    """Take a network away. Raises NotFound, Forbidden when it is in use or the default one."""
    network = find.network(intent, ref)
    if network.default:
        raise Forbidden(
            f"{network.name} is a pre-defined network and cannot be removed",
            hint="`netkit teardown` removes everything",
        )
    users = sorted(c.name for c in users_of(intent, network))
    if users:
        raise Forbidden(
            f"network {network.name} has active endpoints: {', '.join(users)}",
            hint=f"disconnect them first: netkit network disconnect {network.name} {users[0]}",
        )
    return intent.without_network(network.id), network


def users_of(intent: Intent, network: Network) -> list[Container]:
    """The containers that have an endpoint on the network and run."""
    return [c for c in intent.containers.values() if c.running and network.id in c.endpoints]


def unused(intent: Intent) -> Iterable[Network]:
    """What `prune` takes: networks that no container, running or not, is attached to."""
    used = {key for container in intent.containers.values() for key in container.endpoints}
    return [n for n in intent.networks.values() if n.id not in used and not n.default]


def attach(intent: Intent, ref: str, interface: str, host: Host) -> tuple[Intent, Network]:
    """Put a link of the host into the network's bridge. Raises NotFound, Conflict, SpecError."""
    network = find.network(intent, ref)
    names.parse_interface(interface)
    if interface not in host.interfaces:
        raise NotFound(f"no interface named {interface}", hint=names.nearest(interface, host.interfaces))
    for other in intent.networks.values():
        if interface in other.ports:
            raise Conflict(f"interface {interface} is in bridge {other.bridge}", hint="detach it first")
        if interface == other.bridge:
            raise SpecError(f"{interface} is itself a bridge of netkit", hint="name a NIC or a veth")
    for container in intent.containers.values():
        if any(interface == derived.veth_name(container.id, key) for key in container.endpoints):
            raise SpecError(
                f"{interface} is container {container.name}'s end of a network",
                hint=f"netkit network connect {network.name} {container.name}",
            )
    if (kind := host.interfaces[interface]) in {"loopback", "bridge"}:
        what = "the loopback interface" if kind == "loopback" else "a bridge, and cannot be in another"
        raise SpecError(f"{interface} is {what}", hint="name a NIC or a veth")
    return _with_ports(intent, network, (*network.ports, interface))


def detach(intent: Intent, ref: str, interface: str) -> tuple[Intent, Network]:
    """Take a link of the host out of the network's bridge. Raises NotFound."""
    network = find.network(intent, ref)
    if interface not in network.ports:
        raise NotFound(
            f"interface {interface} was not attached to {network.bridge}",
            hint=names.nearest(interface, network.ports, f"nothing is attached to {network.bridge}"),
        )
    return _with_ports(intent, network, tuple(p for p in network.ports if p != interface))


def _with_ports(intent: Intent, network: Network, ports: tuple[str, ...]) -> tuple[Intent, Network]:
    changed = msgspec.structs.replace(network, ports=ports)
    return intent.with_network(changed), changed


def _bridge(intent: Intent, request: NetworkRequest, host: Host, new_id: str) -> str:
    bridge = names.parse_interface(request.bridge or derived.bridge_name(new_id))
    for other in intent.networks.values():
        if other.bridge == bridge:
            raise Conflict(f"bridge {bridge} belongs to network {other.name}", hint="choose another name")
    kind = host.interfaces.get(bridge)
    if request.adopt and kind is None:
        raise NotFound(
            f"bridge {bridge} does not exist",
            hint=f"make it with `netkit bridge add {bridge}` or `ip link add {bridge} type bridge`",
        )
    if request.adopt and kind != "bridge":
        raise SpecError(f"{bridge} is not a bridge but {kind}", hint="name a bridge")
    if not request.adopt and kind is not None:
        hint = "use it as it is with --adopt" if kind == "bridge" else "choose another name"
        raise Conflict(f"an interface named {bridge} exists already ({kind})", hint=hint)
    return bridge


def _subnet(intent: Intent, request: NetworkRequest, host: Host, bridge: str) -> tuple[IPNetwork, IPAddress]:
    """The subnet and the bridge's address in it, which host bits of the request name."""
    own = next(iter(host.addresses.get(bridge, ())), None) if request.adopt else None
    taken = [net.subnet.cidr for net in intent.networks.values()]
    elsewhere = [
        (link, held)
        for link in host.addresses
        for held in host.addresses[link]
        if link != bridge and (own is None or held.cidr != own.cidr)
    ]
    asked = request.subnet or own
    if asked is None:
        claims = [*taken, *host.routes, *(held for _, held in elsewhere)]
        subnet = ipam.choose_subnet(host.pools or ipam.DEFAULT_POOLS, claims)
        return subnet, _gateway(request, subnet, subnet)
    subnet = asked.cidr
    if subnet.size < 4:
        raise SpecError(f"subnet {subnet} has no room", hint="a prefix of at most 30 bits")
    if special := ipam.overlapping(subnet, _UNUSABLE):
        raise SpecError(
            f"subnet {subnet} overlaps {special}, which is not for hosts",
            hint="choose a private one such as 192.168.100.0/24",
        )
    for other in intent.networks.values():
        if ipam.overlapping(subnet, [other.subnet.cidr]):
            raise Conflict(
                f"subnet {subnet} overlaps {other.subnet.cidr} of network {other.name}",
                hint="choose another subnet, or none to get a free one",
            )
    routes = [route for route in host.routes if own is None or route != own.cidr]
    if route := ipam.overlapping(subnet, routes):
        raise Conflict(
            f"subnet {subnet} overlaps the host's route to {route}",
            hint="choose another subnet, or none to get a free one",
        )
    gateway = _gateway(request, subnet, asked)
    _check_elsewhere(subnet, gateway, elsewhere)
    return subnet, gateway


def _check_elsewhere(
    subnet: IPNetwork, gateway: IPAddress, elsewhere: Iterable[tuple[str, IPNetwork]]
) -> None:
    """Refuse what the host has on other links, also without a route to it (noprefixroute)."""
    for link, held in elsewhere:
        if held.ip == gateway:
            raise Conflict(f"gateway {gateway} is in use by link {link}", hint="choose another address")
        if held.prefixlen < 32 and ipam.overlapping(subnet, [held]):
            raise Conflict(
                f"subnet {subnet} overlaps {held} of link {link}",
                hint="choose another subnet, or none to get a free one",
            )


def _gateway(request: NetworkRequest, subnet: IPNetwork, asked: IPNetwork) -> IPAddress:
    named = asked.ip if asked.ip != subnet.ip else None
    return host_address(request, subnet, request.gateway or named or IPAddress(subnet.first + 1))


def host_address(request: NetworkRequest, subnet: IPNetwork, gateway: IPAddress) -> IPAddress:
    """The gateway, if a host of the subnet can have that address. Raises SpecError."""
    if gateway not in subnet or int(gateway) in {subnet.first, subnet.last}:
        raise SpecError(
            f"gateway {gateway} is not a host address of subnet {subnet}",
            hint=f"for example {IPAddress(subnet.first + 1)}{_unnamed(request)}",
        )
    return gateway


def ip_range_of(request: NetworkRequest, subnet: IPNetwork) -> IPNetwork:
    """Where addresses come from: what was asked for, or all of the subnet. Raises SpecError."""
    ip_range = (request.ip_range or subnet).cidr
    if ip_range not in subnet:
        raise SpecError(
            f"fixed-cidr {ip_range} is outside its subnet {subnet}",
            hint=f"a range such as {next(subnet.subnet(min(subnet.prefixlen + 2, 32)))}{_unnamed(request)}",
        )
    return ip_range


def _unnamed(request: NetworkRequest) -> str:
    """What to add to a hint where the subnet was left to us."""
    return "" if request.subnet else ", or name the subnet as well (--subnet)"


def _auxiliary(request: NetworkRequest, subnet: IPNetwork, gateways: set[IPAddress]) -> dict[str, IPAddress]:
    for name, address in request.auxiliary.items():
        if address not in subnet:
            raise SpecError(f"auxiliary address {name}={address} is outside {subnet}", hint="mend it")
        if address in gateways:
            raise Conflict(f"auxiliary address {name}={address} is the gateway", hint="choose another")
    return dict(request.auxiliary)


def _icc(request: NetworkRequest, host: Host) -> bool:
    icc = request.icc is not False
    if not icc and not host.iptables:
        raise SpecError("icc=false needs iptables", hint="start the daemon without --iptables=false")
    return icc


def valid_mtu(mtu: int) -> int:
    """An MTU that a link can have, in bytes. Raises SpecError."""
    if not 68 <= mtu <= 65535:
        raise SpecError(f"mtu {mtu} is out of range", hint="68 to 65535; Ethernet has 1500")
    return mtu
