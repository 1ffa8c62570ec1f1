"""The host as the packet walk sees it: containers' ends, the host's links, addresses, routes.

World(resources=rendered, uplinks={"eth0": (IPNetwork("198.51.100.1/24"),)})
"""

import functools
from collections.abc import Mapping

import msgspec
from netaddr import IPAddress, IPNetwork

from netkit.model.resource import Address, Key, Port, Resource, Route, Sysctl, Veth
from netkit.model.rule import Rule
from netkit.model.saved import Saved

HOST = "host"
_LOOPBACK = IPNetwork("127.0.0.0/8")
_BRIDGE_FILTER = "net.bridge.bridge-nf-call-iptables"
_FORWARD = "net.ipv4.ip_forward"


class End(msgspec.Struct, frozen=True):
    """A container's interface: where it is, its address, and the bridge at the other end."""

    namespace: str
    interface: str
    address: IPNetwork
    bridge: str


class World(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Resources, and what is on the host besides.

    `uplinks` are links that are not ours, with their addresses; the first one is where the default
    route leads, if `default_route`. `adopted` are the addresses on bridges that others made.
    `ways` are routes of the host besides those to the networks of its addresses. `ports` are the
    links that others put into bridges, by name, with the bridge: anybody may be behind them.
    `bridge_filter_default` and `forward_default` are the host's settings where no resource asks
    for them. `saved` is the firewall as it stands, whoever wrote it; without it there is what the
    resources hold, and `user_rules` in NETKIT-USER.
    """

    resources: Mapping[Key, Resource]
    uplinks: Mapping[str, tuple[IPNetwork, ...]] = {}
    adopted: Mapping[str, tuple[IPNetwork, ...]] = {}
    ways: tuple[tuple[IPNetwork, str], ...] = ()
    ports: Mapping[str, str] = {}
    user_rules: tuple[Rule, ...] = ()
    saved: Saved | None = None
    default_route: bool = True
    bridge_filter_default: bool = True
    forward_default: bool = False

    @functools.cached_property
    def all_ends(self) -> tuple[End, ...]:
        """Every container's every interface, in the order of their names."""
        veths = [each for each in self.resources.values() if isinstance(each, Veth)]
        veths.sort(key=lambda veth: (veth.namespace, veth.peer))
        return tuple(End(v.namespace, v.peer, IPNetwork(v.cidr), v.bridge) for v in veths)

    @functools.cached_property
    def _bridges(self) -> dict[str, tuple[IPNetwork, ...]]:
        found: dict[str, tuple[IPNetwork, ...]] = dict(self.adopted)
        for each in self.resources.values():
            if isinstance(each, Address):
                found[each.link] = (*found.get(each.link, ()), IPNetwork(each.cidr))
        return found

    @functools.cached_property
    def wires(self) -> dict[str, tuple[str, ...]]:
        """By bridge: its ports that are no container's ends."""
        own = {each.link: each.bridge for each in self.resources.values() if isinstance(each, Port)}
        found: dict[str, tuple[str, ...]] = {}
        for link, bridge in sorted({**self.ports, **own}.items()):
            found[bridge] = (*found.get(bridge, ()), link)
        return found

    @functools.cached_property
    def _settings(self) -> dict[str, str]:
        return {each.name: each.value for each in self.resources.values() if isinstance(each, Sysctl)}

    @property
    def bridge_filter(self) -> bool:
        """Whether frames within a bridge meet the rules."""
        return self._settings.get(_BRIDGE_FILTER, "1" if self.bridge_filter_default else "0") == "1"

    @property
    def forwards(self) -> bool:
        return self._settings.get(_FORWARD, "1" if self.forward_default else "0") == "1"

    def routes_loopback(self, link: str) -> bool:
        """Whether addresses of the loopback may come and go by a link."""
        return self._settings.get(f"net.ipv4.conf.{link}.route_localnet") == "1"

    def ends(self, namespace: str) -> list[End]:
        return [end for end in self.all_ends if end.namespace == namespace]

    def way_out(self, namespace: str) -> tuple[End, IPAddress] | None:
        """The interface and the gateway of a container's default route."""
        for each in self.resources.values():
            if isinstance(each, Route) and each.namespace == namespace:
                end = next((e for e in self.ends(namespace) if e.interface == each.link), None)
                return (end, IPAddress(each.gateway)) if end else None
        return None

    def holder(self, bridge: str, address: IPAddress) -> End | None:
        """The container's interface on a bridge that has an address."""
        found = (end for end in self.all_ends if end.bridge == bridge and end.address.ip == address)
        return next(found, None)

    def networks_of(self, link: str) -> tuple[IPNetwork, ...]:
        """The host's own addresses on a link, each in its network."""
        return self._bridges.get(link, ()) or self.uplinks.get(link, ())

    def addresses_of(self, link: str) -> list[IPAddress]:
        """The host's own addresses on a link."""
        return [network.ip for network in self.networks_of(link)]

    def is_bridge(self, link: str) -> bool:
        """Whether a link is a bridge of containers."""
        return link in self._bridges or Key("bridge", link) in self.resources

    def is_local(self, address: IPAddress) -> bool:
        """Whether the host takes an address as its own."""
        links = (*self._bridges, *self.uplinks)
        return address in _LOOPBACK or any(address in self.addresses_of(link) for link in links)

    def route(self, address: IPAddress) -> str | None:
        """The link by which the host sends to an address."""
        places = [
            (network.prefixlen, link)
            for table in (self._bridges, self.uplinks)
            for link, networks in table.items()
            for network in networks
            if address in network.cidr
        ]
        places += [(network.prefixlen, link) for network, link in self.ways if address in network]
        if places:
            return max(places, key=lambda place: place[0])[1]
        return next(iter(self.uplinks), None) if self.default_route else None

    def source_on(self, link: str, toward: IPAddress) -> IPAddress:
        """The address that the host uses on a link: one of the other side's network where there is one.

        A link without any, such as lo, borrows another's.
        """
        networks = self.networks_of(link)
        near = [network.ip for network in networks if toward in network.cidr]
        borrowed = (network for each in (*self.uplinks, *self._bridges) for network in self.networks_of(each))
        known = near or [network.ip for network in networks or borrowed]
        return next(iter(known), IPAddress(0))
