"""Names that netkit makes of ids, so that nobody has to choose them: short, stable, its own.

>>> digest("netkit", "br0")
'964f0977'
"""

import hashlib


def digest(*parts: str, length: int = 8) -> str:
    """A short stable name for something named by `parts`."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:length]


def veth_name(container_id: str, network_id: str) -> str:
    """The host end of an endpoint's veth pair: 12 characters."""
    return "nk" + digest(container_id, network_id, length=10)


def bridge_name(network_id: str) -> str:
    """The bridge of a network whose creator named none, in the manner of `br-<id>`."""
    return "nk-" + network_id[:12]
