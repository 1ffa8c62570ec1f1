"""Links: what `--link db:alias` gives a container, as pure values.

The classic variables are fixed when the container starts, as everywhere; the hosts file is
rewritten when the target's address changes, because it can be.

    >>> environment("/web/db", "db", IPAddress("10.0.0.2"), [(5432, "tcp")], [])[1]
    'DB_PORT=tcp://10.0.0.2:5432'
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from netaddr import IPAddress

from netkit.model.spec import Container, Endpoint, Intent, Link, Network

_HOSTS = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "ff00::0\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)


def environment(
    path: str, alias: str, address: IPAddress, ports: Sequence[tuple[int, str]], env: Iterable[str]
) -> tuple[str, ...]:
    """The variables of one link. `path` is `/parent/alias`, `env` the target's own variables."""
    prefix = re.sub(r"[^A-Z0-9]", "_", alias.upper())
    words = [f"{prefix}_NAME={path}"]
    for number, (port, protocol) in enumerate(sorted(ports)):
        url = f"{protocol}://{address}:{port}"
        if number == 0:
            words.append(f"{prefix}_PORT={url}")
        stem = f"{prefix}_PORT_{port}_{protocol.upper()}"
        words += [f"{stem}={url}", f"{stem}_ADDR={address}", f"{stem}_PORT={port}"]
        words.append(f"{stem}_PROTO={protocol}")
    words += [f"{prefix}_ENV_{variable}" for variable in env if _inherited(variable)]
    return tuple(words)


def hosts(intent: Intent, container: Container) -> str:
    """The text of /etc/hosts: loopback, --add-host, linked containers, the container itself."""
    lines = [*_HOSTS, *("\t".join(_extra(intent, container, item)) for item in container.extra_hosts)]
    for link in container.links:
        target = intent.containers.get(link.target)
        address = target and shared_address(container, target)
        if target and address:
            lines.append(f"{address}\t{link.alias} {target.name} {target.id[:12]}")
    name = container.hostname or container.id[:12]
    full = f"{name}.{container.domainname} {name}" if container.domainname else name
    lines += [f"{end.address}\t{full}" for end in attached(container)]
    return "\n".join(lines) + "\n"


def attached(container: Container) -> list[Endpoint]:
    """The endpoints that have an address, in the order in which they were declared."""
    ends = (end for end in container.endpoints.values() if end.address is not None)
    return sorted(ends, key=lambda end: end.order)


def shared_address(container: Container, target: Container) -> IPAddress | None:
    """The target's address on the first network that both are on now."""
    for end in attached(container):
        other = target.endpoints.get(end.network)
        if other and other.address is not None:
            return other.address
    return None


def openings(
    intent: Intent, parent: Container, target: Container
) -> Iterator[tuple[Network, IPAddress, IPAddress]]:
    """Each network that both are on now, with the parent's and the target's address there."""
    for end in attached(parent):
        other = target.endpoints.get(end.network)
        if other and other.address is not None and end.address is not None:
            yield intent.networks[end.network], end.address, other.address


def parents(intent: Intent, target_id: str) -> list[tuple[Container, Link]]:
    """Every container that has a link to `target_id`, with that link."""
    return [
        (container, link)
        for container in intent.containers.values()
        for link in container.links
        if link.target == target_id
    ]


def leads_to(intent: Intent, start_id: str, end_id: str) -> bool:
    """Whether a container is linked to another, be it through others; each is to itself."""
    seen: set[str] = set()
    ahead = [start_id]
    while ahead:
        here = ahead.pop()
        if here == end_id:
            return True
        if here not in seen and here in intent.containers:
            seen.add(here)
            ahead += [link.target for link in intent.containers[here].links]
    return False


def targets_first(intent: Intent, containers: Iterable[Container]) -> Iterator[Container]:
    """Containers in an order in which they can be started: a circle of links may begin anywhere."""
    left = {container.id: container for container in containers}
    while left:
        ready = next(
            each
            for each in left.values()
            if all(leads_to(intent, link.target, each.id) for link in each.links if link.target in left)
        )
        yield left.pop(ready.id)


def _inherited(variable: str) -> bool:
    return variable.partition("=")[0] not in {"HOME", "PATH", "HOSTNAME", "TERM"}


def _extra(intent: Intent, container: Container, item: str) -> tuple[str, str]:
    """`name:address`, where `host-gateway` stands for the host's address on the first network."""
    name, _, address = item.partition(":")
    if address == "host-gateway":
        ends = attached(container)
        address = str(intent.networks[ends[0].network].own) if ends else "127.0.0.1"
    return address, name
