"""Which driver serves which kind of resource on this host: the one place where drivers are made.

hands = build(state_dir, store.sysctls, variant="auto")
"""

import contextlib
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Literal

import msgspec

from netkit.core.firewall import SET_NAMES
from netkit.engine.flows import FlowsFollow
from netkit.kernel.driver import Driver
from netkit.kernel.hostnet import HostNetwork
from netkit.kernel.ipset import IpSets
from netkit.kernel.links import LinkDriver
from netkit.kernel.netns import NamespaceDriver
from netkit.kernel.routes import RouteDriver
from netkit.kernel.rtnl import Rtnl
from netkit.kernel.sysctl import SysctlDriver
from netkit.kernel.veths import VethDriver
from netkit.kernel.xtables import XTables
from netkit.runtime.containers import Runtime
from netkit.runtime.files import FileDriver
from netkit.runtime.overlay import OverlayDriver
from netkit.runtime.places import Places
from netkit.runtime.process import ProcessDriver

Variant = Literal["auto", "nft", "legacy"]


class Hands(msgspec.Struct):
    """The drivers of this host, and what is asked for more than resources. `close` ends them.

    `firewall` gives all of the tables as they stand, as `iptables-save` prints them.
    """

    drivers: tuple[Driver, ...]
    network: HostNetwork
    runtime: Runtime
    variant: str
    firewall: Callable[[], str]
    close: Callable[[], None]


def build(state_dir: Path, previous: MutableMapping[str, str], variant: Variant) -> Hands:
    """Drivers for the caller's network namespace. Raises Unsupported where something is missing."""
    places, rtnl, netns = Places(state_dir), Rtnl.open(), state_dir / "netns"
    rules = XTables(variant=None if variant == "auto" else variant)
    sets, veths = IpSets(names=SET_NAMES), VethDriver(rtnl, netns)

    def close() -> None:
        veths.close()
        sets.close()
        rtnl.close()
        for folder in (places.runtime_root, places.run):
            with contextlib.suppress(OSError):  # not empty while containers run
                folder.rmdir()

    drivers: tuple[Driver, ...] = (
        SysctlDriver(previous),
        FlowsFollow(sets),
        FlowsFollow(rules),
        NamespaceDriver(netns),
        LinkDriver(rtnl),
        veths,
        RouteDriver(netns),
        FileDriver(places),
        OverlayDriver(places),
        ProcessDriver(places),
    )
    return Hands(drivers, HostNetwork(rtnl), Runtime(places), rules.variant, rules.saved, close)
