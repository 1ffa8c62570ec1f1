"""Finding a network or a container by name, id or an unambiguous prefix of an id.

>>> container(intent, "web").name
'web'
"""

from collections.abc import Mapping
from typing import TypeVar

from netkit.errors import NotFound, SpecError
from netkit.model.names import nearest
from netkit.model.spec import DEFAULT_NETWORK, Container, Intent, Network

Named = TypeVar("Named", Network, Container)
_ALIASES = {"default": DEFAULT_NETWORK}


def network(intent: Intent, ref: str) -> Network:
    """The network called `ref`, or on the bridge of that name where no network is called so.

    Raises NotFound with the nearest name, SpecError when ambiguous.
    """
    try:
        return _find(intent.networks, _ALIASES.get(ref, ref), "network")
    except NotFound:
        found = next((net for net in intent.networks.values() if net.bridge == ref), None)
        if found is not None:
            return found
        if ref in {DEFAULT_NETWORK, *_ALIASES}:
            hint = "it comes with the daemon's start, unless that is told -b none: start it again"
            raise NotFound("there is no default network", hint=hint) from None
        raise


def container(intent: Intent, ref: str) -> Container:
    """The container called `ref`. Raises NotFound with the nearest name, SpecError when ambiguous."""
    return _find(intent.containers, ref.removeprefix("/"), "container")


def _find(specs: Mapping[str, Named], ref: str, what: str) -> Named:
    if ref in specs:
        return specs[ref]
    found = [spec for spec in specs.values() if spec.name == ref]
    if not found and ref:
        found = [spec for spec in specs.values() if spec.id.startswith(ref)]
    if len(found) > 1:
        names = ", ".join(sorted(f"{spec.name} ({spec.id[:12]})" for spec in found))
        raise SpecError(f"{what} id {ref!r} is ambiguous", hint=f"it may be {names}")
    if not found:
        raise NotFound(f"no such {what}: {ref}", hint=nearest(ref, (spec.name for spec in specs.values())))
    return found[0]
