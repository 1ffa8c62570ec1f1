"""Admission of links: a container may reach the exposed ports of another under an alias.

>>> intent, web = add(intent, "web", "db", "database")
"""

import msgspec

from netkit.core import link as linking
from netkit.core.admit import find
from netkit.errors import Conflict, NotFound, SpecError
from netkit.model.names import nearest, parse_name
from netkit.model.spec import Container, Intent, Link


def declare(intent: Intent, parent: Container, target_ref: str, alias: str) -> tuple[Intent, Container]:
    """The parent with one more link. The target exists; whether it runs is asked at start."""
    target, alias = find.container(intent, target_ref), parse_name(alias, "alias")
    if target.id == parent.id:
        raise SpecError(f"container {parent.name} cannot be linked to itself", hint="name another")
    if any(item.alias == alias for item in parent.links):
        raise Conflict(f"container {parent.name} has a link named {alias}", hint="choose another alias")
    if not set(parent.endpoints) & set(target.endpoints):
        raise Conflict(
            f"containers {parent.name} and {target.name} are on no common network",
            hint=f"netkit network connect {_some_network(intent, parent)} {target.name}",
        )
    parent = msgspec.structs.replace(parent, links=(*parent.links, Link(target=target.id, alias=alias)))
    return intent.with_container(parent), parent


def add(intent: Intent, parent_ref: str, target_ref: str, alias: str) -> tuple[Intent, Container]:
    """Link while they run, or before. Raises NotFound, Conflict, SpecError."""
    intent, parent = declare(intent, find.container(intent, parent_ref), target_ref, alias)
    if parent.running:
        check_open(intent, parent, parent.links[-1])
    return intent, parent


def remove(intent: Intent, parent_ref: str, name: str) -> tuple[Intent, Container]:
    """Take away the link called `name`, an alias or the target's name. Raises NotFound."""
    parent = find.container(intent, parent_ref)
    known = {item.alias: item for item in parent.links}
    for item in parent.links:
        target = intent.containers.get(item.target)
        known.setdefault(target.name if target else item.target, item)
    if name not in known:
        raise NotFound(
            f"container {parent.name} has no link {name!r}", hint=nearest(name, known, "it has no links")
        )
    kept = tuple(item for item in parent.links if item is not known[name])
    parent = msgspec.structs.replace(parent, links=kept)
    return intent.with_container(parent), parent


def waits(intent: Intent, parent: Container, wanted: Link) -> bool:
    """Whether a link's target is down and can only start after the parent, to which its own links lead."""
    target = intent.containers.get(wanted.target)
    down = target is not None and not target.running
    return down and linking.leads_to(intent, wanted.target, parent.id)


def check_open(intent: Intent, parent: Container, wanted: Link) -> None:
    """A link of a running parent leads to a running target on a common network."""
    target = intent.containers.get(wanted.target)
    if target is None:
        raise NotFound(
            f"the target of link {wanted.alias} no longer exists",
            hint=f"netkit link rm {parent.name} {wanted.alias}",
        )
    if not target.running:
        raise Conflict(
            f"cannot link to stopped container {target.name} as {wanted.alias}",
            hint=f"start it first: netkit start {target.name}",
        )
    if linking.shared_address(parent, target) is None:
        raise Conflict(
            f"containers {parent.name} and {target.name} are on no common network",
            hint=f"netkit network connect {_some_network(intent, parent)} {target.name}",
        )


def _some_network(intent: Intent, container: Container) -> str:
    known = [intent.networks[key].name for key in container.endpoints if key in intent.networks]
    return min(known, default="NETWORK")
