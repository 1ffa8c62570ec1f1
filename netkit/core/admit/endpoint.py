"""Admission of endpoints: attaching a container to a network, with its lease while it runs.

>>> intent, web = connect(intent, "br0", "web", EndpointRequest(network="br0"), host)
"""

from collections.abc import Iterable

import msgspec

from netkit.core import ipam
from netkit.core import link as linking
from netkit.core.admit import find, link
from netkit.errors import Conflict, Forbidden, NotFound, SpecError
from netkit.model import derived, names
from netkit.model.request import EndpointRequest
from netkit.model.spec import Container, Endpoint, Host, Intent, Network


def declare(intent: Intent, container: Container, wish: EndpointRequest, host: Host) -> Container:
    """The container with one more endpoint, unleased. Raises NotFound, Conflict, SpecError."""
    network = find.network(intent, wish.network)
    if network.id in container.endpoints:
        raise Conflict(
            f"container {container.name} is already on network {network.name}",
            hint="disconnect it first to change its address",
        )
    if wish.ip is not None:
        ipam.claim(network, wish.ip, taken(intent, network, host))
    if wish.mac and (holder := _holder(intent, network, wish.mac)):
        raise Conflict(
            f"MAC address {wish.mac} is in use in network {network.name} by container {holder}",
            hint="choose another, or none to get one",
        )
    # What is left of a network of this name that has gone makes way for it.
    ends = {k: e for k, e in container.endpoints.items() if k in intent.networks or e.name != network.name}
    taken_names = {end.interface for end in ends.values()}
    end = Endpoint(
        network=network.id,
        name=network.name,
        id=derived.digest(container.id, network.id, container.created, length=64),
        ip=wish.ip,
        mac=wish.mac,
        interface=_interface(wish.interface, taken_names),
        aliases=_aliases(wish.aliases),
        priority=wish.priority,
        order=1 + max((end.order for end in ends.values()), default=-1),
        options=wish.options,
    )
    return msgspec.structs.replace(container, endpoints={**ends, network.id: end})


def lease(intent: Intent, container: Container, end: Endpoint, host: Host) -> tuple[Intent, Container]:
    """Give one endpoint its address. Raises Conflict when the range is used up or it is taken."""
    network = intent.networks.get(end.network)
    if network is None:
        raise NotFound(
            f"network {end.name or end.network[:12]} of container {container.name} no longer exists",
            hint=f"netkit network disconnect -f {end.name or end.network[:12]} {container.name}",
        )
    used = taken(intent, network, host, but=container.id)
    address = ipam.claim(network, end.ip, used) if end.ip else ipam.lease(network, used)
    if end.ip is None:
        network = msgspec.structs.replace(network, cursor=int(address))
    leased = msgspec.structs.replace(end, address=address)
    container = msgspec.structs.replace(container, endpoints={**container.endpoints, network.id: leased})
    return intent.with_network(network).with_container(container), container


def connect(
    intent: Intent, network_ref: str, container_ref: str, wish: EndpointRequest, host: Host
) -> tuple[Intent, Container]:
    """Attach a container, running or not. Raises NotFound, Conflict, SpecError, Forbidden."""
    container = find.container(intent, container_ref)
    _check_connectable(container)
    network = find.network(intent, network_ref)
    wish = msgspec.structs.replace(wish, network=network.id)
    container = declare(intent, container, wish, host)
    if container.running:
        intent, container = lease(intent, container, container.endpoints[network.id], host)
    intent = intent.with_container(container)
    for target, alias in wish.links:
        intent, container = link.add(intent, container.id, target, alias)
    return intent, container


def disconnect(
    intent: Intent, network_ref: str, container_ref: str, force: bool = False
) -> tuple[Intent, Container]:
    """Detach a container. Raises NotFound where it is not attached.

    Raises Conflict where its published ports would lead nowhere; with `force` they are closed until
    it is started again.
    """
    container = find.container(intent, container_ref)
    network_id = _network_id(intent, container, network_ref)
    ends = {key: end for key, end in container.endpoints.items() if key != network_id}
    container = msgspec.structs.replace(container, endpoints=ends)
    if container.running and container.published and not _reachable(intent, container):
        if not force:
            raise Conflict(
                f"container {container.name} publishes ports through this network",
                hint="unpublish them first, or connect it to another network, or use -f",
            )
        container = msgspec.structs.replace(container, published=())
    return intent.with_container(container), container


def alias(
    intent: Intent,
    network_ref: str,
    container_ref: str,
    add: tuple[str, ...],
    remove: tuple[str, ...],
) -> tuple[Intent, Container]:
    """Change the aliases of a container on a network. Raises NotFound, SpecError."""
    container = find.container(intent, container_ref)
    network_id = _network_id(intent, container, network_ref)
    end = container.endpoints[network_id]
    if missing := [name for name in remove if name not in end.aliases]:
        hint = names.nearest(missing[0], end.aliases, "it has no aliases there")
        raise NotFound(f"no alias {missing[0]!r}", hint=hint)
    kept = [name for name in end.aliases if name not in remove]
    changed = msgspec.structs.replace(end, aliases=tuple(dict.fromkeys([*kept, *_aliases(add)])))
    ends = {**container.endpoints, network_id: changed}
    container = msgspec.structs.replace(container, endpoints=ends)
    return intent.with_container(container), container


def taken(intent: Intent, network: Network, host: Host, but: str = "") -> set[int]:
    """The addresses in use or spoken for on a network, as numbers, less those of container `but`.

    What the host has on the bridge is in use as well: whose bridge was there before us may have several.
    """
    found = {address.value for address in host.addresses.get(network.bridge, ())}
    network_id = network.id
    # Plainly, without the library's truth of an address: this is asked of all containers at each attachment.
    for container_id, container in intent.containers.items():
        end = container.endpoints.get(network_id)
        if end is None or container_id == but:
            continue
        address = end.ip if end.address is None else end.address
        if address is not None:
            found.add(address.value)
    return found


def _aliases(wanted: Iterable[str]) -> tuple[str, ...]:
    """Each once: they are names in DNS and in hosts files. Raises SpecError."""
    return tuple(dict.fromkeys(names.parse_name(name, "alias") for name in wanted))


def _holder(intent: Intent, network: Network, mac: str) -> str:
    """The container that has a MAC address on a network; empty where none has."""
    for container in intent.containers.values():
        end = container.endpoints.get(network.id)
        if end and mac == (end.mac or (ipam.mac_of(end.address) if end.address else "")):
            return container.name
    return ""


def _check_connectable(container: Container) -> None:
    if container.mode in {"host", "none"} or container.mode.startswith("container:"):
        raise Forbidden(
            f"container {container.name} has network mode {container.mode}",
            hint="create it on a network to be able to connect it to others",
        )


def _network_id(intent: Intent, container: Container, ref: str) -> str:
    """The id of a network that the container is on, even of one that no longer exists."""
    for key, end in container.endpoints.items():
        gone = key not in intent.networks
        if ref == key or (gone and (ref == end.name or (len(ref) >= 12 and key.startswith(ref)))):
            return key
    network = find.network(intent, ref)
    if network.id not in container.endpoints:
        known = [intent.networks[key].name for key in container.endpoints if key in intent.networks]
        raise NotFound(
            f"container {container.name} is not on network {network.name}",
            hint=names.nearest(network.name, known, "it is on none"),
        )
    return network.id


def _interface(wanted: str, used: set[str]) -> str:
    """The name inside the container: the one wished for, or the first free ethN."""
    if wanted:
        names.parse_interface(wanted)
        if wanted in used or wanted == "lo":
            raise SpecError(f"interface name {wanted} is in use in the container", hint="choose another")
        return wanted
    return next(name for number in range(len(used) + 1) if (name := f"eth{number}") not in used)


def _reachable(intent: Intent, container: Container) -> bool:
    """Whether a network is left through which published ports can lead."""
    return any(not intent.networks[e.network].internal for e in linking.attached(container))
