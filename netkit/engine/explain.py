"""From the live host to the packet walk: what is observed now, and what is on the host besides.

The walk reads what the kernel holds of ours, so that a rule somebody flushed is missing in the
answer as well. Rules of others outside NETKIT-USER are not seen; `doctor` tells of them.

    verdict = explain(engine, facts, intent, Question("web", "db", "tcp", 5432))
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from netaddr import AddrFormatError, IPAddress

from netkit.core import link as linking
from netkit.core.admit import find
from netkit.core.walk import Packet, Verdict, walk
from netkit.core.world import HOST, World
from netkit.errors import NotFound, SpecError
from netkit.kernel.command import run
from netkit.model import paths
from netkit.model.names import USER_CHAIN
from netkit.model.resource import Key, Resource
from netkit.model.rule import Rule, parse_rule
from netkit.model.spec import Container, Host, Intent

_SETTINGS = Path("/proc/sys/net")


class Question(msgspec.Struct, frozen=True):
    """Who to whom: containers by ref, `host`, an interface of the host, an address.

    Without a port it is the target's first exposed one over its protocol, or else an icmp echo.
    """

    source: str
    target: str
    protocol: str = ""
    port: int = 0


def explain(resources: Mapping[Key, Resource], intent: Intent, host: Host, question: Question) -> Verdict:
    """Walk the packet that the question asks about. Raises NotFound, SpecError."""
    world = _world(resources, intent, host)
    source = _source(intent, host, world, question.source)
    target = _container(intent, question.target)
    protocol, port = question.protocol, question.port
    if not protocol and not port and target and target.exposed:
        port, protocol = target.exposed[0]
    protocol = protocol or ("tcp" if port else "icmp")
    address = _address(intent, question, target)
    # What comes from outside has an address of the link's network that is not the host's own.
    src = str(_neighbour(world, source)) if source in world.uplinks else ""
    return walk(world, Packet(protocol=protocol, source=source, dst=address, port=port, src=src))


def _world(resources: Mapping[Key, Resource], intent: Intent, host: Host) -> World:
    bridges = {network.bridge: network.adopted for network in intent.networks.values()}
    foreign = {name: nets for name, nets in host.addresses.items() if nets and name != "lo"}
    return World(
        resources=resources,
        uplinks={name: nets for name, nets in foreign.items() if name not in bridges},
        adopted={name: nets for name, nets in foreign.items() if bridges.get(name)},
        user_rules=_user_rules() if host.iptables else (),
        bridge_filter_default=_is_on("bridge/bridge-nf-call-iptables"),
        forward_default=_is_on("ipv4/ip_forward"),
    )


def _source(intent: Intent, host: Host, world: World, word: str) -> str:
    """The place that a packet starts from."""
    container = _container(intent, word)
    if container is not None:
        namespace = paths.namespace(host.state_dir, container)
        if not container.running:
            raise SpecError(f"container {word} is not running", hint=f"netkit start {word}")
        return namespace or HOST
    if word == HOST or word in world.uplinks:
        return word
    known = [HOST, *world.uplinks, *(each.name for each in intent.containers.values())]
    raise NotFound(f"no such source: {word}", hint=f"one of {', '.join(known)}")


def _address(intent: Intent, question: Question, target: Container | None) -> str:
    """The target's address, on a network that the source is on too where there is one."""
    if target is None:
        word = "127.0.0.1" if question.target == HOST else question.target
        try:
            return str(IPAddress(word))
        except (AddrFormatError, ValueError) as err:
            names = [each.name for each in intent.containers.values()]
            hint = f"a container ({', '.join(names)}), host, or an address"
            raise NotFound(f"no such target: {word}", hint=hint) from err
    source = _container(intent, question.source)
    shared = linking.shared_address(source, target) if source else None
    ends = linking.attached(target)
    if shared is None and not ends:
        raise SpecError(f"container {target.name} has no address", hint=f"netkit start {target.name}")
    return str(shared or ends[0].address)


def _container(intent: Intent, ref: str) -> Container | None:
    try:
        return find.container(intent, ref)
    except NotFound:
        return None


def _neighbour(world: World, uplink: str) -> IPAddress:
    network = world.uplinks[uplink][0]
    own = int(network.ip)
    return next(IPAddress(n) for n in range(network.cidr.first + 1, network.cidr.last + 1) if n != own)


def _user_rules() -> tuple[Rule, ...]:
    """The rules that the user put into NETKIT-USER, as far as the walk can read them."""
    shown = run(["iptables", "-S", USER_CHAIN], check=False).stdout.splitlines()
    lines = (line.removeprefix(f"-A {USER_CHAIN} ") for line in shown if line.startswith("-A "))
    found = []
    for line in lines:
        try:
            found.append(parse_rule(line))
        except SpecError:
            continue  # a match that is not modelled: the walk cannot weigh it
    return tuple(found)


def _is_on(name: str) -> bool:
    try:
        return (_SETTINGS / name).read_text().strip() == "1"
    except OSError:
        return False
