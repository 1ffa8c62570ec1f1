"""From intent to resources: what the kernel should hold, composed per network and per container.

The units of composition are the host's skeleton, each network and each container (with its links
as the parent). `affected` names the units that a change of intent can touch, so that the cost of
a change follows its size; a full reconcile renders all of them.

    >>> render(intent, host, Units(containers=frozenset({"4f1c…"})))
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from netkit.core import bundle, firewall, ipam, link
from netkit.core.plan import index
from netkit.model import derived, paths
from netkit.model.resource import (
    Address,
    Adopted,
    Bridge,
    File,
    Key,
    Mount,
    Namespace,
    Port,
    Process,
    Resource,
    Route,
    Sysctl,
    Veth,
)
from netkit.model.spec import Container, Endpoint, Host, Intent, Network


class Units(msgspec.Struct, frozen=True):
    """Which parts of an intent to render: the host's skeleton, networks and containers by id."""

    host: bool = False
    networks: frozenset[str] = frozenset()
    containers: frozenset[str] = frozenset()


def everything(intent: Intent) -> Units:
    """All units of an intent."""
    return Units(True, frozenset(intent.networks), frozenset(intent.containers))


def affected(old: Intent, new: Intent) -> Units:
    """The units whose resources may differ between two intents."""
    networks = _changed(old.networks, new.networks)
    containers = _changed(old.containers, new.containers)
    reshaped = _reshaped(old, new, networks)
    # One look at each container, plainly: this is what grows with the host at every change.
    candidates = [*new.containers.values(), *(old.containers[c] for c in containers if c in old.containers)]
    touched = containers | {
        each.id for each in candidates for link_ in each.links if link_.target in containers
    }
    for network_id in reshaped:
        touched |= {each.id for each in candidates if network_id in each.endpoints}
    host = _needs_filter(old) != _needs_filter(new) or bool(old.networks) != bool(new.networks)
    return Units(host, frozenset(networks), frozenset(touched))


def render(intent: Intent, host: Host, units: Units) -> dict[Key, Resource]:
    """The resources of the units that the intent has, by key. Pure, and deaf to the order of specs."""
    return index(_compose(intent, host, units))


def relied_on(intent: Intent, host: Host, units: Units) -> dict[Key, Resource]:
    """What must hold for the units to be what they seem, although it is not theirs to make.

    icc=false keeps containers apart only while frames between ports meet the rules, and while the rules
    are there: a change looks at both, and mends what somebody has taken away behind our back.
    """
    closed = {network.id for network in intent.networks.values() if not network.icc}
    relying = closed & units.networks
    for container in (intent.containers.get(each) for each in units.containers if closed):
        relying |= {e.network for e in link.attached(container)} & closed if container else set()
    if not relying or not host.iptables:
        return {}
    rules = (each for network_id in relying for each in firewall.network(intent.networks[network_id]))
    return index((_bridge_filter(), *firewall.skeleton(), *rules))


def _compose(intent: Intent, host: Host, units: Units) -> Iterator[Resource]:
    if units.host and intent.networks:
        yield from _render_host(intent, host)
    for network_id in sorted(units.networks):
        if network := intent.networks.get(network_id):
            yield from _render_network(network, host)
    for container_id in sorted(units.containers):
        container = intent.containers.get(container_id)
        if container and container.running:
            yield from _render_container(intent, container, host)


def _render_host(intent: Intent, host: Host) -> Iterator[Resource]:
    if host.ip_forward:
        yield Sysctl(name="net.ipv4.ip_forward", value="1", owner=firewall.HOST)
    if host.iptables:
        yield from firewall.skeleton()
    if _needs_filter(intent) and host.iptables:
        yield _bridge_filter()


def _render_network(network: Network, host: Host) -> Iterator[Resource]:
    owner = network.owner
    if network.adopted:
        yield Adopted(name=network.bridge, owner=owner)
    else:
        yield Bridge(name=network.bridge, mtu=network.mtu, owner=owner)
    cidr = f"{network.own}/{network.subnet.prefixlen}"
    if not network.adopted or cidr not in _addresses(network, host):
        yield Address(link=network.bridge, cidr=cidr, owner=owner)
    for port in network.ports:
        yield Port(link=port, bridge=network.bridge, owner=owner)
    if host.iptables:
        # Without it the kernel throws away what the host's 127.0.0.1 sends to a published port.
        setting = f"net.ipv4.conf.{network.bridge}.route_localnet"
        yield Sysctl(name=setting, value="1", link=network.bridge, owner=owner)
        yield from firewall.network(network)


def _render_container(intent: Intent, container: Container, host: Host) -> Iterator[Resource]:
    state, owner = host.state_dir, container.owner
    namespace = paths.namespace(state, container)
    folder, rootfs = paths.folder(state, container.id), paths.rootfs(state, container.id)
    files = _files(intent, container, host)
    if namespace and not container.mode.startswith("container:"):
        yield Namespace(path=namespace, owner=owner)
        yield from _render_endpoints(intent, container, namespace)
        yield from _render_ports(intent, container, host)
        yield from _render_links(intent, container, host)
    for name, content in files.items():
        yield File(path=f"{folder}/{name}", content=content, owner=owner)
    yield Mount(
        target=rootfs,
        lowers=container.lowers,
        upper=f"{folder}/upper",
        work=f"{folder}/work",
        owner=owner,
    )
    yield Process(
        container=container.id,
        config=bundle.config(container, host),
        terminal=container.terminal,
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        namespace=namespace,
        rootfs=rootfs,
        files=tuple(f"{folder}/{name}" for name in files),
        owner=owner,
    )


def _render_endpoints(intent: Intent, container: Container, namespace: str) -> Iterator[Resource]:
    for end in link.attached(container):
        network = intent.networks[end.network]
        address = end.address or end.ip
        yield Veth(
            name=derived.veth_name(container.id, network.id),
            bridge=network.bridge,
            mtu=network.mtu,
            namespace=namespace,
            peer=end.interface,
            mac=end.mac or ipam.mac_of(address),
            cidr=f"{address}/{network.subnet.prefixlen}",
            owner=f"{container.owner}/{network.name}",
        )
    if way_out := default_endpoint(intent, container):
        network = intent.networks[way_out.network]
        yield Route(
            namespace=namespace,
            gateway=str(network.gateway),
            veth=derived.veth_name(container.id, network.id),
            link=way_out.interface,
            owner=f"{container.owner}/{network.name}",
        )


def default_endpoint(intent: Intent, container: Container) -> Endpoint | None:
    """Where the default route goes: the highest priority, then the first declared; never internal."""
    ends = [e for e in link.attached(container) if not intent.networks[e.network].internal]
    return min(ends, key=lambda end: (-end.priority, end.order), default=None)


def _render_ports(intent: Intent, container: Container, host: Host) -> Iterator[Resource]:
    end = default_endpoint(intent, container)
    if not host.iptables or end is None or end.address is None:
        return
    for port in container.published:
        yield from firewall.publish(port, end.address, container.name)


def _render_links(intent: Intent, container: Container, host: Host) -> Iterator[Resource]:
    for wanted in container.links if host.iptables else ():
        target = intent.containers.get(wanted.target)
        if target is None or not target.running:
            continue
        owner = f"link/{container.name}->{target.name}:{wanted.alias}"
        for network, source, destination in link.openings(intent, container, target):
            if not network.icc:
                yield from firewall.link(source, destination, target.exposed, owner)


def _files(intent: Intent, container: Container, host: Host) -> dict[str, str]:
    return {
        "hostname": (container.hostname or container.id[:12]) + "\n",
        "hosts": link.hosts(intent, container),
        "resolv.conf": _resolv_conf(container, host),
    }


def _resolv_conf(container: Container, host: Host) -> str:
    if not (container.dns or container.dns_search or container.dns_options):
        return host.resolv_conf
    kept = [line for line in host.resolv_conf.splitlines() if not _overridden(container, line)]
    lines = [f"nameserver {server}" for server in container.dns]
    searches = [name for name in container.dns_search if name != "."]
    lines += [f"search {' '.join(searches)}"] if searches else []
    lines += [f"options {' '.join(container.dns_options)}"] if container.dns_options else []
    return "\n".join([*lines, *kept]) + "\n"


def _overridden(container: Container, line: str) -> bool:
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    given = {"nameserver": container.dns, "search": container.dns_search}
    return bool((given | {"options": container.dns_options}).get(word))


def _addresses(network: Network, host: Host) -> Iterable[str]:
    """The foreign addresses on an adopted bridge: those are not ours to make."""
    return (str(address) for address in host.addresses.get(network.bridge, ()))


def _bridge_filter() -> Resource:
    """Frames between two ports of one bridge meet the rules only while this is on."""
    return Sysctl(name="net.bridge.bridge-nf-call-iptables", value="1", owner=firewall.HOST)


def _needs_filter(intent: Intent) -> bool:
    """Whether any network must have frames between its own ports filtered."""
    return any(not network.icc for network in intent.networks.values())


def _changed(old: Mapping[str, object], new: Mapping[str, object]) -> set[str]:
    if old is new:
        return set()
    found = {key for key, spec in new.items() if old.get(key) is not spec}
    return found if old.keys() <= new.keys() else found | (old.keys() - new.keys())


def _reshaped(old: Intent, new: Intent, changed: set[str]) -> set[str]:
    """The changed networks whose containers look different for it; leases alone are no change."""
    shape = ("bridge", "mtu", "gateway", "address", "subnet", "icc", "internal", "name")
    return {
        key
        for key in changed
        if (was := old.networks.get(key))
        and (now := new.networks.get(key))
        and any(getattr(was, field) != getattr(now, field) for field in shape)
    }
