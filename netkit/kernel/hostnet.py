"""What the host's network looks like: routes, interfaces, foreign addresses. Reading only.

>>> HostNetwork(Rtnl.open()).kinds()
{'lo': 'loopback', 'eth0': 'physical'}
"""

from collections.abc import Collection
from pathlib import Path

from netkit.kernel import linkinfo
from netkit.kernel.rtnl import Rtnl
from netkit.model.names import PROTOCOL

_ETHERNET_MTU = 1500
_DEFAULT = "0.0.0.0/0"
# Set where an address comes and goes between machines, and programs are bound to it in advance.
_NONLOCAL = Path("/proc/sys/net/ipv4/ip_nonlocal_bind")


class HostNetwork:
    """The network of the namespace of `rtnl`."""

    def __init__(self, rtnl: Rtnl) -> None:
        self._rtnl = rtnl

    def routes(self) -> list[tuple[str, str]]:
        """(destination in CIDR form, name of the outgoing link), without default routes.

        The name is empty where what goes there is thrown away (blackhole, unreachable, prohibit).
        """
        names = {link.index: link.name for link in linkinfo.links(self._rtnl)}
        return [
            (route.destination, names.get(route.index, ""))
            for route in linkinfo.routes(self._rtnl)
            if route.destination != _DEFAULT
        ]

    def ways(self) -> list[tuple[str, str]]:
        """(destination in CIDR form, name of the outgoing link) of all routes, the preferred ones first."""
        names = {link.index: link.name for link in linkinfo.links(self._rtnl)}
        routes = sorted(linkinfo.routes(self._rtnl), key=lambda route: route.priority)
        return [(route.destination, names[route.index]) for route in routes if route.index in names]

    def foreign_ports(self) -> dict[str, str]:
        """The links that are in a bridge and that we did not make, each with its bridge."""
        links = linkinfo.links(self._rtnl)
        bridges = {link.index: link.name for link in links if link.kind == "bridge"}
        return {link.name: bridges[link.master] for link in links if link.master in bridges and not link.ours}

    def kinds(self) -> dict[str, str]:
        """Every link and its kind: bridge, veth, loopback, physical, …"""
        return {link.name: link.kind for link in linkinfo.links(self._rtnl)}

    def uplink_mtu(self) -> int:
        """The MTU of the link that the default route leaves by, in bytes; Ethernet's without one."""
        links = {link.index: link for link in linkinfo.links(self._rtnl)}
        routes = linkinfo.routes(self._rtnl)
        defaults = [route for route in routes if route.destination == _DEFAULT and route.index]
        best = min(defaults, key=lambda r: r.priority, default=None)
        link = links.get(best.index) if best is not None else None
        return link.mtu if link else _ETHERNET_MTU

    def own(self) -> list[str]:
        """Addresses and subnets in CIDR form that a program here can be bound to."""
        return ["0.0.0.0/0"] if _NONLOCAL.read_text().strip() == "1" else linkinfo.own(self._rtnl)

    def foreign_addresses(self, names: Collection[str] | None) -> dict[str, list[str]]:
        """Addresses in CIDR form that are not ours, by link; of all links, or of those named."""
        if names is not None:
            return {name: self._foreign_on(name) for name in names}
        links = {link.index: link.name for link in linkinfo.links(self._rtnl)}
        found: dict[str, list[str]] = {name: [] for name in links.values()}
        for address in linkinfo.addresses(self._rtnl):
            if address.protocol != PROTOCOL and address.index in links:
                found[links[address.index]].append(address.cidr)
        return found

    def _foreign_on(self, name: str) -> list[str]:
        """The same of one link: there may be a thousand others, which need not be looked at."""
        link = linkinfo.find(self._rtnl, name)
        here = linkinfo.addresses(self._rtnl, link.index) if link else []
        return [address.cidr for address in here if address.protocol != PROTOCOL]
