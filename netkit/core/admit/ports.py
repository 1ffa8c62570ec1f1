"""Admission of published ports: which host port leads where, and whether it can be had.

>>> intent, web = publish(intent, "web", parse_publish("8080:80"), host)
"""

from collections.abc import Iterable

import msgspec
from netaddr import IPAddress

from netkit.core.admit import find
from netkit.core.render import default_endpoint
from netkit.errors import Conflict, NotFound, SpecError
from netkit.model.names import nearest
from netkit.model.spec import Container, Host, Intent, Publish


def choose(intent: Intent, container: Container, host: Host) -> tuple[Publish, ...]:
    """The container's ports with their host ports chosen. Raises Conflict, SpecError."""
    wanted = list(container.publish)
    if container.publish_all:
        named = {(port.port, port.protocol) for port in wanted}
        wanted += [
            Publish(port=port, protocol=protocol)
            for port, protocol in container.exposed
            if (port, protocol) not in named
        ]
    return _place(intent, container, wanted, host) if wanted else ()


def publish(intent: Intent, ref: str, wanted: Iterable[Publish], host: Host) -> tuple[Intent, Container]:
    """Publish ports of a container, running or not. Raises NotFound, Conflict, SpecError."""
    container = find.container(intent, ref)
    wanted = tuple(wanted)
    if container.running:
        placed = _place(intent, container, wanted, host)
        container = msgspec.structs.replace(container, published=(*container.published, *placed))
    exposed = {*container.exposed, *((port.port, port.protocol) for port in wanted)}
    container = msgspec.structs.replace(
        container, publish=(*container.publish, *wanted), exposed=tuple(sorted(exposed))
    )
    return intent.with_container(container), container


def unpublish(intent: Intent, ref: str, names: Iterable[str]) -> tuple[Intent, Container]:
    """Take ports back, named as they were published, by host port or by container port."""
    container = find.container(intent, ref)
    for name in names:
        gone = [port for port in container.published or container.publish if name in spellings(port)]
        if not gone:
            known = [port.describe() for port in container.published or container.publish]
            raise NotFound(
                f"container {container.name} does not publish {name}",
                hint=nearest(name, known, "it publishes nothing"),
            )
        container = msgspec.structs.replace(
            container,
            published=tuple(port for port in container.published if port not in gone),
            publish=tuple(p for p in container.publish if not any(_same(p, g) for g in gone)),
        )
    return intent.with_container(container), container


def spellings(port: Publish) -> set[str]:
    """The ways in which a user may name a published port."""
    inside, outside = f"{port.port}/{port.protocol}", f"{port.outside}:{port.port}"
    words = {inside, f"{outside}/{port.protocol}", f"{port.host_ip}:{outside}/{port.protocol}"}
    words |= {port.describe()}
    if port.protocol == "tcp":
        words |= {port.outside, outside, f"{port.host_ip}:{outside}"}
    return words


def needs(wanted: Iterable[Publish]) -> frozenset[tuple[str, int]]:
    """The (protocol, host port) pairs whose listeners must be known before admission."""
    return frozenset((port.protocol, number) for port in wanted for number in port.host_ports)


def _place(
    intent: Intent, container: Container, wanted: Iterable[Publish], host: Host
) -> tuple[Publish, ...]:
    """Give each port its host address and port, none of them taken."""
    if not host.iptables:
        raise SpecError("ports cannot be published with --iptables=false", hint="leave -p out")
    way_out = default_endpoint(intent, container)
    if way_out is None:
        raise SpecError(
            f"container {container.name} is on no network that leads outside",
            hint="connect it to one that is not internal",
        )
    taken = {
        (each.protocol, each.host_port, int(each.host_ip)): f"container {other.name}"
        for other in intent.containers.values()
        for each in other.published
    }
    for (protocol, address, number), program in host.listeners.items():
        taken.setdefault((protocol, number, int(IPAddress(address))), program)
    binding = intent.networks[way_out.network].host_binding
    default = host.default_ip if binding is None else binding
    placed: list[Publish] = []
    for port in wanted:
        at = port.host_ip if port.said else default
        if int(at) and not any(at in own for own in host.own):
            raise Conflict(
                f"this host has no address {at}",
                hint="give it one, name one that it has, or none for all of them",
            )
        number = _first_free(taken, port, at) or _free_port(taken, port.protocol, at, host)
        taken[(port.protocol, number, int(at))] = f"container {container.name}"
        at_all = not int(at)
        placed.append(
            msgspec.structs.replace(port, host_ip=at, host_port=number, host_last=0, everywhere=at_all)
        )
    return tuple(placed)


def _first_free(taken: dict[tuple[str, int, int], str], port: Publish, at: IPAddress) -> int:
    """The first that is free of the host ports asked for; 0 where none is. Raises Conflict."""
    holders: dict[str, None] = {}
    for number in port.host_ports:
        holder = _holder(taken, port.protocol, number, at)
        if holder is None:
            return number
        holders[holder] = None
    if not holders:
        return 0
    words = "ports {} are" if port.host_last else "port {} is"
    raise Conflict(
        f"{words.format(f'{port.outside}/{port.protocol} on {at}')} taken by {', '.join(holders)}",
        hint="choose another host port, or none to get a free one",
    )


def _holder(taken: dict[tuple[str, int, int], str], protocol: str, port: int, at: IPAddress) -> str | None:
    """Who has the port at this address: the whole host's and one address' claims clash."""
    if int(at):
        return taken.get((protocol, port, int(at))) or taken.get((protocol, port, 0))
    return next((who for (p, n, _), who in taken.items() if (p, n) == (protocol, port)), None)


def _free_port(taken: dict[tuple[str, int, int], str], protocol: str, at: IPAddress, host: Host) -> int:
    used = {number for (proto, number, _) in taken if proto == protocol}
    low, high = host.port_range
    number: int
    # Round the range from a place that moves on, so that a port is not reused at once.
    start = low + host.entropy % (high - low + 1)
    for number in (*range(start, high + 1), *range(low, start)):
        if number not in used:
            return number
    raise Conflict(f"no free {protocol} port in {low}-{high} on {at}", hint="name a host port")


def _same(asked: Publish, placed: Publish) -> bool:
    """Whether `placed` came from `asked`, whose host port and address may have been left open."""
    return (
        (asked.port, asked.protocol) == (placed.port, placed.protocol)
        and (asked.host_port == 0 or placed.host_port in asked.host_ports)
        and (not asked.said or int(asked.host_ip) == int(placed.host_ip))
    )
