"""Repair of an intent that was stored damaged: what refers to a network that is not in it.

>>> lost_networks(intent)
frozenset({'4f1c…'})
"""

import msgspec

from netkit.model.spec import Container, Endpoint, Intent


def lost_networks(intent: Intent) -> frozenset[str]:
    """The ids of networks that running containers have addresses on and that the intent does not have."""
    leased = (end.network for each in intent.containers.values() for end in _leased(each))
    return frozenset(network for network in leased if network not in intent.networks)


def without_lost(intent: Intent) -> tuple[Intent, tuple[Container, ...]]:
    """The intent without addresses on networks that it does not have, and the containers that had one.

    Such a container keeps its endpoint, as a stopped one does whose network was removed.
    """
    lost, mended = lost_networks(intent), []
    for container in intent.containers.values():
        if any(end.network in lost for end in _leased(container)):
            ends = {k: _unleased(e) if k in lost else e for k, e in container.endpoints.items()}
            mended.append(msgspec.structs.replace(container, endpoints=ends))
    for container in mended:
        intent = intent.with_container(container)
    return intent, tuple(mended)


def _leased(container: Container) -> list[Endpoint]:
    return [end for end in container.endpoints.values() if end.address is not None]


def _unleased(end: Endpoint) -> Endpoint:
    return msgspec.structs.replace(end, address=None)
