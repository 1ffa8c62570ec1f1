"""Reading links, addresses and routes: what the kernel answers, as small values.

>>> find(rtnl, "br0").kind
'bridge'
"""

import struct

import msgspec
from netaddr import IPNetwork

from netkit.kernel import rtnl as wire
from netkit.kernel.attributes import number, pack, pack_text, split, text
from netkit.kernel.rtnl import Rtnl
from netkit.model.names import LINK_GROUP, owner_of

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
_INET = 2
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
# family, dst length, src length, tos, table, protocol, scope, type, flags
_RTMSG = struct.Struct("=BBBBBBBBI")
_RT_TABLE_MAIN, _RTN_UNICAST, _RTN_LOCAL = 254, 1, 2
_RTN_REFUSING = frozenset({6, 7, 8})  # blackhole, unreachable, prohibit
RTA_DST, RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, RTA_PREFSRC = 1, 4, 5, 6, 7
_RTPROT_KERNEL, _RT_SCOPE_LINK = 2, 253
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, _IFLA_EXT_MASK = 18, 20, 27, 29
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_MODE, IFLA_NET_NS_FD, VETH_INFO_PEER = 4, 28, 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_PROTO = 1, 2, 4, 11
_SKIP_STATISTICS = pack(_IFLA_EXT_MASK, struct.pack("=I", 8))  # half the size of an answer


class Link(msgspec.Struct, frozen=True):
    """A link: `kind` is bridge, veth, …, loopback, or physical; `master` and `peer` are indexes.

    `hairpin` is set on a bridge's port that may send frames back to where they came from.
    """

    index: int
    name: str
    kind: str
    mtu: int
    mac: str
    up: bool
    master: int
    peer: int
    group: int
    alias: str
    hairpin: bool = False

    @property
    def ours(self) -> bool:
        """Whether we made it: by its group, or, where somebody took that away, by its words.

        A link of somebody else's may carry our words as well, as a port: they name a network then.
        """
        maker = {"bridge": "network/", "veth": "container/"}.get(self.kind)
        return self.group == LINK_GROUP or (maker is not None and self.owner.startswith(maker))

    @property
    def owner(self) -> str:
        """Whose it is, in words; empty where the words are missing."""
        return owner_of(self.alias) or ""

    @property
    def marked(self) -> str:
        """The owner of a link that we made; empty, as nobody wants it, where half the mark is missing."""
        return self.owner if self.group == LINK_GROUP else ""


class InterfaceAddress(msgspec.Struct, frozen=True):
    """An IPv4 address on a link, in CIDR form, with the protocol number that tells whose it is."""

    index: int
    cidr: str
    protocol: int


class RouteEntry(msgspec.Struct, frozen=True):
    """A route: `destination` in CIDR form, `gateway` empty where it is on the link.

    One that refuses what goes there (blackhole, unreachable, prohibit) has no link: its index is 0.
    """

    destination: str
    gateway: str
    index: int
    priority: int
    protocol: int


def head(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """The fixed part of a message about a link."""
    return _IFINFO.pack(0, 0, index, flags, change)


def address_head(index: int, prefix_length: int) -> bytes:
    """The fixed part of a message about an IPv4 address."""
    return _IFADDR.pack(_INET, prefix_length, 0, 0, index)


def route_head(prefix_length: int) -> bytes:
    """The fixed part of a message about a route of the kernel's own to what is on a link."""
    table, protocol, scope, kind = _RT_TABLE_MAIN, _RTPROT_KERNEL, _RT_SCOPE_LINK, _RTN_UNICAST
    return _RTMSG.pack(_INET, prefix_length, 0, 0, table, protocol, scope, kind, 0)


def find(rtnl: Rtnl, name: str) -> Link | None:
    """The link of that name, or None."""
    wanted = pack(IFLA_IFNAME, name.encode() + b"\0")
    answer = rtnl.ask(wire.RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0) + wanted + _SKIP_STATISTICS)
    return None if answer is None else _link(answer)


def links(rtnl: Rtnl, kind: str = "") -> list[Link]:
    """All links of the namespace, or those of one kind that is made: bridge, veth, …"""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + _SKIP_STATISTICS
    body += pack(IFLA_LINKINFO, pack_text(IFLA_INFO_KIND, kind)) if kind else b""
    found = [_link(answer) for answer in rtnl.ask_all(wire.RTM_GETLINK, body)]
    # The kernel leaves out the others only where it knows the kind.
    return [link for link in found if link.kind == kind] if kind else found


def addresses(rtnl: Rtnl, index: int = 0) -> list[InterfaceAddress]:
    """All IPv4 addresses, or those of one link."""
    body = _IFADDR.pack(_INET, 0, 0, 0, index)
    return [_address(answer) for answer in rtnl.ask_all(wire.RTM_GETADDR, body)]


def routes(rtnl: Rtnl, protocol: int = 0) -> list[RouteEntry]:
    """The IPv4 routes of the main table, of everybody's or with one protocol number."""
    answers = rtnl.ask_all(wire.RTM_GETROUTE, _RTMSG.pack(_INET, 0, 0, 0, 0, protocol, 0, 0, 0))
    kinds = {_RTN_UNICAST, *_RTN_REFUSING}
    found = [_route(each) for each in answers if each[4] == _RT_TABLE_MAIN and each[7] in kinds]
    return [route for route in found if route.protocol == protocol] if protocol else found


def on_link(rtnl: Rtnl, index: int = 0) -> set[tuple[int, str]]:
    """What is reached without a gateway, as (index of the link, destination), in whatever table.

    Of one link, or of all.
    """
    body = _RTMSG.pack(_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    body += pack(RTA_OIF, struct.pack("=I", index)) if index else b""
    answers = rtnl.ask_all(wire.RTM_GETROUTE, body)
    found = [_route(each) for each in answers if each[7] == _RTN_UNICAST]
    return {(route.index, route.destination) for route in found if not route.gateway}


def on_link_route(cidr: str) -> str:
    """The destination that an address in CIDR form makes reachable without a gateway; "" for one alone."""
    subnet = IPNetwork(cidr).cidr
    return "" if subnet.prefixlen == 32 else str(subnet)


def own(rtnl: Rtnl) -> list[str]:
    """What the namespace takes for its own, in CIDR form: its IPv4 addresses, and all of 127.0.0.0/8."""
    answers = rtnl.ask_all(wire.RTM_GETROUTE, _RTMSG.pack(_INET, 0, 0, 0, 0, 0, 0, 0, 0))
    return [_route(answer).destination for answer in answers if answer[7] == _RTN_LOCAL]


def _route(answer: bytes) -> RouteEntry:
    _, length, _, _, _, protocol, _, _, _ = _RTMSG.unpack_from(answer)
    found = split(answer[_RTMSG.size :])
    return RouteEntry(
        destination=f"{_dotted(found.get(RTA_DST, bytes(4)))}/{length}",
        gateway=_dotted(found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else "",
        index=number(found, RTA_OIF),
        priority=number(found, _RTA_PRIORITY),
        protocol=protocol,
    )


def _dotted(octets: bytes) -> str:
    return ".".join(str(octet) for octet in octets)


def _link(answer: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(answer)
    found = split(answer[_IFINFO.size :])
    info = split(found.get(IFLA_LINKINFO, b""))
    port = split(info.get(IFLA_INFO_SLAVE_DATA, b""))
    plain = "loopback" if flags & IFF_LOOPBACK else "physical"
    return Link(
        index=index,
        name=text(found, IFLA_IFNAME),
        kind=text(info, IFLA_INFO_KIND) or plain,
        mtu=number(found, IFLA_MTU),
        mac=":".join(f"{octet:02x}" for octet in found.get(IFLA_ADDRESS, b"")),
        up=bool(flags & IFF_UP),
        master=number(found, IFLA_MASTER),
        peer=number(found, IFLA_LINK),
        group=number(found, IFLA_GROUP),
        alias=text(found, IFLA_IFALIAS),
        hairpin=bool(number(port, IFLA_BRPORT_MODE)),
    )


def _address(answer: bytes) -> InterfaceAddress:
    _, prefix, _, _, index = _IFADDR.unpack_from(answer)
    found = split(answer[_IFADDR.size :])
    octets = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS, bytes(4))
    return InterfaceAddress(index, f"{_dotted(octets)}/{prefix}", number(found, IFA_PROTO))
