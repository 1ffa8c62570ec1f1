"""Which driver serves which kind of resource on this host: the one place where drivers are made.

drivers = build(state_dir, store.sysctls, variant="auto")
"""

import msgspec

from netkit.kernel.driver import Driver
from netkit.kernel.hostnet import HostNetwork
from netkit.kernel.links import LinkDriver


class Hands(msgspec.Struct):
    """The drivers of this host, and those that are asked for more than resources."""

    drivers: tuple[Driver, ...]
    links: LinkDriver
    network: HostNetwork
    variant: str
