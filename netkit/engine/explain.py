"""From the live host to the packet walk: what is observed now, and what is on the host besides.

The walk reads what the kernel holds, so that a rule somebody flushed is missing in the answer as
well, and one that somebody else added is in it. What of it cannot be weighed the verdict says.

    verdict = explain(resources, intent, host, besides, Question("web", "db", "tcp", 5432))
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from netaddr import AddrFormatError, IPAddress, IPNetwork

from netkit.core import link as linking
from netkit.core.admit import find
from netkit.core.walk import Packet, Verdict, walk
from netkit.core.world import HOST, World
from netkit.errors import NotFound, SpecError
from netkit.model import paths
from netkit.model.resource import Key, Resource
from netkit.model.saved import parse_saved
from netkit.model.spec import Container, Host, Intent

_SETTINGS = Path("/proc/sys/net")


class Question(msgspec.Struct, frozen=True):
    """Who to whom: containers by ref, `host`, an interface of the host, an address.

    A bridge with other ports than containers' stands for a machine behind those. Without a port
    it is the target's first exposed one over its protocol, or else an icmp echo.
    """

    source: str
    target: str
    protocol: str = ""
    port: int = 0


class Besides(msgspec.Struct, frozen=True):
    """What is on the host and is not ours: `firewall` as `iptables-save` prints it, links that are
    in bridges with their bridge, routes with their link. `unseen` says what else filters and is
    not in `firewall`.
    """

    firewall: str
    ports: Mapping[str, str]
    ways: Sequence[tuple[str, str]]
    unseen: tuple[str, ...] = ()


def explain(
    resources: Mapping[Key, Resource], intent: Intent, host: Host, besides: Besides, question: Question
) -> Verdict:
    """Walk the packet that the question asks about; the place is told in words. NotFound, SpecError."""
    world = _world(resources, intent, host, besides)
    source = _source(intent, host, world, question.source)
    target = _container(intent, question.target)
    protocol, port = question.protocol, question.port
    if not protocol and not port and target and target.exposed:
        port, protocol = target.exposed[0]
    protocol = protocol or ("tcp" if port else "icmp")
    address = _address(intent, world, source, question, target)
    # What comes from outside has an address of the link's network that nobody here has.
    src = str(_neighbour(world, source)) if source in _outside(world) else ""
    verdict = walk(world, Packet(protocol=protocol, source=source, dst=address, port=port, src=src))
    verdict = msgspec.structs.replace(verdict, doubts=(*verdict.doubts, *besides.unseen))
    if not verdict.arrives:
        return verdict
    if verdict.place == HOST and protocol != "icmp":
        verdict = msgspec.structs.replace(verdict, reason=f"{verdict.reason}, if something listens there")
    return msgspec.structs.replace(verdict, place=_place(intent, host, world, target, verdict.place))


def _world(resources: Mapping[Key, Resource], intent: Intent, host: Host, besides: Besides) -> World:
    bridges = {network.bridge: network.adopted for network in intent.networks.values()}
    foreign = {name: nets for name, nets in host.addresses.items() if nets and name != "lo"}
    return World(
        resources=resources,
        uplinks={name: nets for name, nets in foreign.items() if name not in bridges},
        adopted={name: nets for name, nets in foreign.items() if bridges.get(name)},
        ways=tuple((IPNetwork(destination), link) for destination, link in besides.ways),
        ports={link: bridge for link, bridge in besides.ports.items() if bridge in bridges},
        saved=parse_saved(besides.firewall),
        default_route=False,
        bridge_filter_default=_is_on("bridge/bridge-nf-call-iptables"),
        forward_default=_is_on("ipv4/ip_forward"),
    )


def _outside(world: World) -> list[str]:
    """The links that stand for a machine outside: uplinks, and bridges that have one behind them."""
    return [*world.uplinks, *(bridge for bridge in world.wires if world.is_bridge(bridge))]


def _source(intent: Intent, host: Host, world: World, word: str) -> str:
    """The place that a packet starts from."""
    container = _container(intent, word)
    if container is not None:
        namespace = paths.namespace(host.state_dir, container)
        if not container.running:
            raise SpecError(f"container {word} is not running", hint=f"netkit start {word}")
        return namespace or HOST
    outside = _outside(world)
    if word == HOST or word in outside:
        return word
    known = [HOST, *outside, *(each.name for each in intent.containers.values())]
    raise NotFound(f"no such source: {word}", hint=f"one of {', '.join(known)}")


def _address(intent: Intent, world: World, place: str, question: Question, target: Container | None) -> str:
    """The target's address, on a network that the source is on too where there is one."""
    if question.target == HOST and target is None:
        return str(_host(world, place, question.source))
    if target is None:
        try:
            return str(IPAddress(question.target))
        except (AddrFormatError, ValueError) as err:
            names = [each.name for each in intent.containers.values()]
            hint = f"a container ({', '.join(names)}), host, or an address"
            raise NotFound(f"no such target: {question.target}", hint=hint) from err
    source = _container(intent, question.source)
    shared = linking.shared_address(source, target) if source else None
    ends = linking.attached(target)
    if shared is None and not ends:
        raise SpecError(f"container {target.name} has no address", hint=f"netkit start {target.name}")
    return str(shared or ends[0].address)


def _host(world: World, place: str, source: str) -> IPAddress:
    """The host as a place sees it: its address on the bridge or link that leads there."""
    if place == HOST:
        return IPAddress("127.0.0.1")
    way, ends = world.way_out(place), world.ends(place)
    link = way[0].bridge if way else ends[0].bridge if ends else place
    found = world.addresses_of(link)
    if not found:
        raise SpecError(f"{source} is on no network of the host", hint="name an address instead of host")
    return found[0]


def _place(intent: Intent, host: Host, world: World, target: Container | None, place: str) -> str:
    """A place in words. Of several containers in one namespace it is the one that was asked for."""
    if place == HOST:
        return place
    if world.is_bridge(place):
        return f"whoever is behind {place}'s {', '.join(world.wires[place])}"
    found = [each for each in intent.containers.values() if paths.namespace(host.state_dir, each) == place]
    if not found:
        return f"the other end of {place}"
    return f"container {(target if target in found else found[0]).name}"


def _container(intent: Intent, ref: str) -> Container | None:
    try:
        return find.container(intent, ref)
    except NotFound:
        return None


def _neighbour(world: World, link: str) -> IPAddress:
    network = world.networks_of(link)[0]
    taken = {int(end.address.ip) for end in world.all_ends} | {int(ip) for ip in world.addresses_of(link)}
    free = (n for n in range(network.cidr.first + 1, network.cidr.last + 1) if n not in taken)
    return IPAddress(next(free, network.cidr.last))


def _is_on(name: str) -> bool:
    try:
        return (_SETTINGS / name).read_text().strip() == "1"
    except OSError:
        return False
