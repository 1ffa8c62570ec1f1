"""The driver for bridges, adopted bridges, ports and addresses of the host.

A bridge or address is ours by the number it carries (group, protocol); the alias says in words
whose, and stands in for a group that was taken away. An address that somebody took from a bridge of
ours and gave back is as good as ours. A link that is not ours is never changed, except one that the
user named as a port.

    LinkDriver(Rtnl.open()).observe(None)
"""

import errno
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from netaddr import IPNetwork
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from netkit.errors import ApplyError, Conflict, NotFound
from netkit.kernel import linkinfo
from netkit.kernel import rtnl as wire
from netkit.kernel.attributes import pack, pack_number, pack_text
from netkit.kernel.driver import OneByOne
from netkit.kernel.linkinfo import Link
from netkit.kernel.rtnl import Packed, Rtnl, RtnlError, message
from netkit.model.names import LINK_GROUP, PROTOCOL, mark
from netkit.model.resource import Address, Adopted, Bridge, Port, Resource

IFF_UP = linkinfo.IFF_UP


# A bridge that snoops sends queries to every port whenever one comes or goes (docs/decisions/0010).
_BRIDGE = (("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_MCAST_SNOOPING", 0))


class LinkDriver(OneByOne):
    """Bridges, ports and addresses in the namespace of `rtnl`."""

    kinds = frozenset({"bridge", "adopted", "port", "address"})

    def __init__(self, rtnl: Rtnl) -> None:
        self._rtnl = rtnl

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        return self._everything() if scope is None else filter(None, map(self._observed, scope))

    def create(self, wanted: Resource) -> None:
        match wanted:
            case Bridge():
                self._create_bridge(wanted)
            case Adopted():
                self._rtnl.do(set_link(self._adopted(wanted.name).index, up=True))
            case Port():
                self._create_port(wanted)
            case Address():
                self._create_address(wanted)

    def modify(self, observed: Resource, wanted: Resource) -> None:
        match wanted:
            case Bridge():
                self._rtnl.do(
                    set_link(
                        self._existing(wanted.name).index,
                        up=True,
                        mtu=wanted.mtu,
                        group=LINK_GROUP,
                        alias=mark(wanted.owner),
                    )
                )
            case _:
                self.create(wanted)

    def delete(self, observed: Resource) -> None:
        match observed:
            case Bridge():
                if link := linkinfo.find(self._rtnl, observed.name):
                    self._tolerate(delete_link(link.index), errno.ENODEV)
            case Port():
                if link := linkinfo.find(self._rtnl, observed.link):
                    self._rtnl.do(set_link(link.index, master=0, alias=""))
            case Address():
                if link := linkinfo.find(self._rtnl, observed.link):
                    gone = address_message(wire.RTM_DELADDR, wire.ACK, link.index, observed.cidr)
                    self._tolerate(gone, errno.EADDRNOTAVAIL)

    def _everything(self) -> Iterator[Resource]:
        links = {link.index: link for link in linkinfo.links(self._rtnl)}
        for link in links.values():
            if link.ours and link.kind == "bridge":
                yield _bridge(link)
            elif not link.ours and link.owner and link.master in links:
                yield Port(link=link.name, bridge=links[link.master].name, owner=link.owner)
        reached = linkinfo.on_link(self._rtnl)
        for address in linkinfo.addresses(self._rtnl):
            if address.protocol == PROTOCOL and address.index in links:
                link = links[address.index]
                routed = is_routed(address.index, address.cidr, reached)
                yield Address(link=link.name, cidr=address.cidr, routed=routed, owner=link.owner)

    def _observed(self, resource: Resource) -> Resource | None:
        match resource:
            case Bridge():
                link = linkinfo.find(self._rtnl, resource.name)
                return _bridge(link) if link and link.ours and link.kind == "bridge" else None
            case Adopted():
                link = linkinfo.find(self._rtnl, resource.name)
                return resource if link and link.kind == "bridge" and link.up else None
            case Port():
                return self._observed_port(resource)
            case Address():
                return self._observed_address(resource)
        return None

    def _observed_address(self, address: Address) -> Address | None:
        link = linkinfo.find(self._rtnl, address.link)
        if link is None or not self._stands(link, address.cidr):
            return None
        routed = is_routed(link.index, address.cidr, linkinfo.on_link(self._rtnl, link.index))
        return msgspec.structs.replace(address, routed=routed)

    def _stands(self, link: Link, cidr: str) -> bool:
        """Whether the address is on the link, and ours or as good as ours."""
        here = (each for each in linkinfo.addresses(self._rtnl, link.index) if each.cidr == cidr)
        return any(link.ours or each.protocol == PROTOCOL for each in here)

    def _observed_port(self, port: Port) -> Port | None:
        link = linkinfo.find(self._rtnl, port.link)
        if link is None or not link.owner or not link.master:
            return None
        masters = {each.index: each.name for each in linkinfo.links(self._rtnl)}
        return Port(link=port.link, bridge=masters.get(link.master, ""), owner=link.owner)

    def _create_bridge(self, bridge: Bridge) -> None:
        octets = (0x02, 0x42, *secrets.token_bytes(4))
        attributes = [
            ("IFLA_IFNAME", bridge.name),
            ("IFLA_GROUP", LINK_GROUP),
            # Another one than is wanted: what is changed later is the user's to the kernel, and stays.
            # Otherwise it is reset to the smallest port's, and to Ethernet's with the last port.
            ("IFLA_MTU", bridge.mtu ^ 1),
            # An address of its own: otherwise the bridge takes its lowest port's, and changes it
            # under everybody's ARP caches as containers come and go.
            ("IFLA_ADDRESS", ":".join(f"{octet:02x}" for octet in octets)),
            (
                "IFLA_LINKINFO",
                {
                    "attrs": [
                        ("IFLA_INFO_KIND", "bridge"),
                        ("IFLA_INFO_DATA", {"attrs": list(_BRIDGE)}),
                    ]
                },
            ),
        ]
        made = message(ifinfmsg, wire.RTM_NEWLINK, wire.CREATE, attributes, flags=IFF_UP, change=IFF_UP)
        try:
            self._rtnl.do(made)
        except RtnlError as err:
            if err.errno != errno.EEXIST:
                raise
            self._refuse_foreign(bridge.name, err)
        link = self._existing(bridge.name)
        self._rtnl.do(set_link(link.index, up=True, mtu=bridge.mtu, alias=mark(bridge.owner)))

    def _refuse_foreign(self, name: str, err: OSError) -> None:
        """A link of that name exists: fine when it is our bridge, a conflict otherwise."""
        link = linkinfo.find(self._rtnl, name)
        if link is None or not (link.ours and link.kind == "bridge"):
            kind = link.kind if link else "unknown"
            raise Conflict(
                f"an interface named {name} exists already ({kind})",
                hint="choose another name, or use it as it is with --adopt",
            ) from err

    def _create_port(self, port: Port) -> None:
        link, bridge = self._existing(port.link), self._existing(port.bridge)
        if link.alias and not link.owner:
            raise Conflict(
                f"interface {port.link} has an alias of its own: {link.alias!r}",
                hint=f"netkit keeps its mark there: ip link set {port.link} alias ''",
            )
        if link.master not in {0, bridge.index} and not link.owner:
            raise Conflict(
                f"interface {port.link} is in another bridge already",
                hint=f"take it out first: ip link set {port.link} nomaster",
            )
        # The mark first: a port without it could not be told from somebody else's.
        self._rtnl.do(set_link(link.index, alias=mark(port.owner)))
        self._rtnl.do(set_link(link.index, up=True, master=bridge.index))

    def _create_address(self, address: Address) -> None:
        link = self._existing(address.link)
        made = address_message(wire.RTM_NEWADDR, wire.CREATE, link.index, address.cidr)
        try:
            self._rtnl.do(made)
        except RtnlError as err:
            if err.errno != errno.EEXIST:
                raise
            if not self._stands(link, address.cidr):
                raise Conflict(
                    f"address {address.cidr} is on {address.link} already and is not netkit's",
                    hint=f"remove it: ip address del {address.cidr} dev {address.link}",
                ) from err
            reach(self._rtnl, link.index, address.cidr)

    def _existing(self, name: str) -> Link:
        link = linkinfo.find(self._rtnl, name)
        if link is None:
            raise ApplyError(f"there is no interface named {name}", hint="somebody has removed it")
        return link

    def _adopted(self, name: str) -> Link:
        link = linkinfo.find(self._rtnl, name)
        if link is None or link.kind != "bridge":
            raise NotFound(
                f"there is no bridge named {name}",
                hint=f"make it again: ip link add {name} type bridge",
            )
        return link

    def _tolerate(self, sent: Any, number: int) -> None:
        """Send a removal; that the thing has gone already is a success."""
        try:
            self._rtnl.do(sent)
        except RtnlError as err:
            if err.errno != number:
                raise


def set_link(
    index: int,
    *,
    up: bool | None = None,
    mtu: int = 0,
    group: int = 0,
    master: int | None = None,
    alias: str | None = None,
    hairpin: bool = False,
) -> Packed:
    """A message that changes a link; what is None or 0 stays as it is, `master` 0 takes it out.

    `hairpin` lets a bridge send a frame back out of the port it came in by.
    """
    body = linkinfo.head(index, IFF_UP if up else 0, 0 if up is None else IFF_UP)
    if mtu:
        body += pack_number(linkinfo.IFLA_MTU, mtu)
    if group:
        body += pack_number(linkinfo.IFLA_GROUP, group)
    if master is not None:
        body += pack_number(linkinfo.IFLA_MASTER, master)
    if alias is not None:
        body += pack(linkinfo.IFLA_IFALIAS, alias.encode())
    if hairpin:
        port = pack(linkinfo.IFLA_BRPORT_MODE, b"\1")
        kind = pack_text(linkinfo.IFLA_INFO_SLAVE_KIND, "bridge")
        body += pack(linkinfo.IFLA_LINKINFO, kind + pack(linkinfo.IFLA_INFO_SLAVE_DATA, port))
    return Packed(wire.RTM_NEWLINK, wire.ACK, body)


def delete_link(index: int) -> Packed:
    """A message that removes a link."""
    return Packed(wire.RTM_DELLINK, wire.ACK, linkinfo.head(index))


def address_message(kind: int, flags: int, index: int, cidr: str) -> Packed:
    """A message about one IPv4 address of a link, with our protocol number."""
    address, _, prefix = cidr.partition("/")
    length = int(prefix)
    octets = bytes(int(octet) for octet in address.split("."))
    body = linkinfo.address_head(index, length)
    body += pack(linkinfo.IFA_LOCAL, octets) + pack(linkinfo.IFA_ADDRESS, octets)
    if kind == wire.RTM_NEWADDR:
        if length < 31:
            last = int.from_bytes(octets, "big") | ((1 << (32 - length)) - 1)
            body += pack(linkinfo.IFA_BROADCAST, last.to_bytes(4, "big"))
        body += pack(linkinfo.IFA_PROTO, bytes([PROTOCOL]))
    return Packed(kind, flags, body)


def reach(rtnl: Rtnl, index: int, cidr: str) -> None:
    """Make the route again that came with an address of a link, as the kernel makes it."""
    if not linkinfo.on_link_route(cidr):
        return
    address, subnet = IPNetwork(cidr).ip, IPNetwork(cidr).cidr
    body = linkinfo.route_head(subnet.prefixlen) + pack(linkinfo.RTA_DST, subnet.ip.packed)
    body += pack(linkinfo.RTA_PREFSRC, address.packed) + pack_number(linkinfo.RTA_OIF, index)
    try:
        rtnl.do(Packed(wire.RTM_NEWROUTE, wire.APPEND, body))  # beside one of others to the same place
    except RtnlError as err:
        if err.errno != errno.EEXIST:
            raise


def _bridge(link: Link) -> Bridge:
    # One that is down is shown without its MTU, which differs from any that is wanted.
    return Bridge(name=link.name, mtu=link.mtu if link.up else 0, owner=link.marked)


def is_routed(index: int, cidr: str, reached: Collection[tuple[int, str]]) -> bool:
    """Whether the route that came with an address still stands."""
    destination = linkinfo.on_link_route(cidr)
    return not destination or (index, destination) in reached
