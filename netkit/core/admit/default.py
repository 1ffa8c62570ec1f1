"""The default network, as the daemon's options ask for it: made, changed in place, lent or given up.

A bridge that netkit made (`bridge add br0`, then `daemon -b br0`) brings its network with it: that is
the default one as long as the daemon is started so, and has its own name back afterwards.

>>> intent, net = set_default(intent, NetworkRequest(name="bridge", bridge="br0"), host, new_id="4f…", now="")
"""

import msgspec
from netaddr import IPNetwork

from netkit.core.admit import network
from netkit.errors import Conflict
from netkit.model.request import NetworkRequest
from netkit.model.spec import DEFAULT_BRIDGE, DEFAULT_NETWORK, Container, Host, Intent, Network


def set_default(
    intent: Intent, request: NetworkRequest, host: Host, *, new_id: str, now: str
) -> tuple[Intent, Network]:
    """The default network as the daemon's options ask for it, made or changed in place.

    Its id stays, so that containers stay attached. Raises Conflict when running containers are on
    it and its bridge or subnet would change under them.
    """
    intent = _on_bridge(intent, request.bridge)
    old = _default(intent)
    if old is None:
        return network.create(intent, request, host, new_id=new_id, now=now)
    if _lent(old):
        return _lend(intent, old, request)
    # A bridge whose address somebody took away has one of ours since then: it says nothing new.
    named = host.addresses.get(old.bridge, ()) if request.adopt else ()
    if request.subnet is None and old.bridge == request.bridge and not named:
        request = msgspec.structs.replace(request, subnet=IPNetwork(f"{old.own}/{old.subnet.prefixlen}"))
    rest = intent.without_network(old.id)
    own, asked = old.subnet.cidr, request.subnet or next(iter(named), None)
    stays = request.bridge == old.bridge and asked is not None and asked.cidr == own
    host = msgspec.structs.replace(
        host,
        # What others have taken since is no reason to refuse what is there already.
        routes=() if stays else tuple(route for route in host.routes if route != own),
        addresses={old.bridge: named} if stays else host.addresses,
        interfaces={k: v for k, v in host.interfaces.items() if k != old.bridge or request.adopt},
    )
    _, new = network.create(rest, request, host, new_id=old.id, now=old.created)
    new = msgspec.structs.replace(new, ports=old.ports, cursor=old.cursor)
    moved = (new.bridge, new.subnet.cidr, new.gateway) != (old.bridge, own, old.gateway)
    if moved:
        _check_unused(intent, old, f"to {new.bridge} ({new.subnet.cidr})")
    return intent.with_network(new), new


def drop_default(intent: Intent) -> Intent:
    """No default network (`daemon -b none`). Raises Conflict under running containers."""
    old = _default(intent)
    if old is None or _lent(old):
        return intent if old is None else _returned(intent, old)
    _check_unused(intent, old, "to none")
    return intent.without_network(old.id)


def _default(intent: Intent) -> Network | None:
    return next((net for net in intent.networks.values() if net.default), None)


def _lent(default: Network) -> bool:
    """Whether somebody made it for himself, on a bridge of netkit's that is not the default one."""
    return not default.adopted and default.bridge != DEFAULT_BRIDGE


def _on_bridge(intent: Intent, bridge: str) -> Intent:
    """The intent in which a network that netkit made on this bridge is the default one.

    The default one until now gives way, and one that was only lent has its name back.
    """
    old = _default(intent)
    wanted = next((net for net in intent.networks.values() if net.bridge == bridge), None)
    if wanted is old or (wanted is not None and wanted.adopted):
        return intent
    if old is not None and _lent(old):
        intent = _returned(intent, old)
    elif old is not None and wanted is not None:
        _check_unused(intent, old, f"to {bridge} ({wanted.subnet.cidr})")
        intent = _moved(intent, old, wanted).without_network(old.id)
    return intent.with_network(_named(wanted, DEFAULT_NETWORK)) if wanted is not None else intent


def _lend(intent: Intent, net: Network, request: NetworkRequest) -> tuple[Intent, Network]:
    """The lent network with what the options say of the default one; what it keeps apart stays apart."""
    gateway = network.host_address(request, net.subnet.cidr, request.router) if request.router else net.own
    net = msgspec.structs.replace(
        net,
        gateway=gateway,
        address=None if gateway == net.own else net.own,
        ip_range=network.ip_range_of(request, net.subnet.cidr) if request.ip_range else net.ip_range,
        mtu=network.valid_mtu(request.mtu or net.mtu),
        icc=net.icc and request.icc is not False,
        masquerade=net.masquerade and request.masquerade is not False,
    )
    return intent.with_network(net), net


def _returned(intent: Intent, lent: Network) -> Intent:
    """The intent in which a lent network is called by its bridge again."""
    if any(net.name == lent.bridge for net in intent.networks.values()):
        raise Conflict(
            f"network {lent.bridge} exists beside the default one on bridge {lent.bridge}",
            hint=f"start the daemon with -b {lent.bridge}, and remove one of them",
        )
    return intent.with_network(_named(lent, lent.bridge))


def _named(net: Network, name: str) -> Network:
    return msgspec.structs.replace(net, name=name)


def _moved(intent: Intent, old: Network, new: Network) -> Intent:
    """The stopped containers of one network on another; a chosen address goes with them where it can."""
    for container in intent.containers.values():
        if old.id not in container.endpoints:
            continue
        ends = {key: end for key, end in container.endpoints.items() if key != old.id}
        end = container.endpoints[old.id]
        ip = end.ip if end.ip is not None and end.ip in new.subnet.cidr else None
        ends.setdefault(new.id, msgspec.structs.replace(end, network=new.id, ip=ip))
        intent = intent.with_container(msgspec.structs.replace(container, endpoints=ends))
    return intent


def _check_unused(intent: Intent, old: Network, where: str) -> None:
    users: list[Container] = network.users_of(intent, old)
    if users:
        raise Conflict(
            f"the default network cannot move from {old.bridge} ({old.subnet.cidr}) {where}"
            f" under running containers: {', '.join(user.name for user in users)}",
            hint="stop them first, or start the daemon with its former options",
        )
