"""Reading links, addresses and routes: what the kernel answers, as small values.

>>> find(rtnl, "br0").kind
'bridge'
"""

import struct

import msgspec

from netkit.kernel import rtnl as wire
from netkit.kernel.attributes import number, pack, split, text
from netkit.kernel.rtnl import Rtnl
from netkit.model.names import LINK_GROUP, owner_of

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
_INET = 2
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
# family, dst length, src length, tos, table, protocol, scope, type, flags
_RTMSG = struct.Struct("=BBBBBBBBI")
_RT_TABLE_MAIN, _RTN_UNICAST = 254, 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_GROUP, _IFLA_EXT_MASK = 18, 20, 27, 29
_IFLA_INFO_KIND, _IFLA_INFO_SLAVE_DATA, _IFLA_BRPORT_MODE = 1, 5, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_PROTO = 1, 2, 11
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
        """Whether we made it."""
        return self.group == LINK_GROUP

    @property
    def owner(self) -> str:
        """Whose it is, in words; empty where the words are missing."""
        return owner_of(self.alias) or ""


class InterfaceAddress(msgspec.Struct, frozen=True):
    """An IPv4 address on a link, in CIDR form, with the protocol number that tells whose it is."""

    index: int
    cidr: str
    protocol: int


class RouteEntry(msgspec.Struct, frozen=True):
    """A route: `destination` in CIDR form, `gateway` empty where it is on the link."""

    destination: str
    gateway: str
    index: int
    priority: int
    protocol: int


def find(rtnl: Rtnl, name: str) -> Link | None:
    """The link of that name, or None."""
    wanted = pack(_IFLA_IFNAME, name.encode() + b"\0")
    answer = rtnl.ask(wire.RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0) + wanted + _SKIP_STATISTICS)
    return None if answer is None else _link(answer)


def links(rtnl: Rtnl) -> list[Link]:
    """All links of the namespace."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + _SKIP_STATISTICS
    return [_link(answer) for answer in rtnl.ask_all(wire.RTM_GETLINK, body)]


def addresses(rtnl: Rtnl, index: int = 0) -> list[InterfaceAddress]:
    """All IPv4 addresses, or those of one link."""
    body = _IFADDR.pack(_INET, 0, 0, 0, index)
    return [_address(answer) for answer in rtnl.ask_all(wire.RTM_GETADDR, body)]


def routes(rtnl: Rtnl) -> list[RouteEntry]:
    """The IPv4 unicast routes of the main table."""
    body = _RTMSG.pack(_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    answers = (answer for answer in rtnl.ask_all(wire.RTM_GETROUTE, body))
    return [_route(answer) for answer in answers if (answer[4], answer[7]) == (_RT_TABLE_MAIN, _RTN_UNICAST)]


def _route(answer: bytes) -> RouteEntry:
    _, length, _, _, _, protocol, _, _, _ = _RTMSG.unpack_from(answer)
    found = split(answer[_RTMSG.size :])
    return RouteEntry(
        destination=f"{_dotted(found.get(_RTA_DST, bytes(4)))}/{length}",
        gateway=_dotted(found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else "",
        index=number(found, _RTA_OIF),
        priority=number(found, _RTA_PRIORITY),
        protocol=protocol,
    )


def _dotted(octets: bytes) -> str:
    return ".".join(str(octet) for octet in octets)


def _link(answer: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(answer)
    found = split(answer[_IFINFO.size :])
    info = split(found.get(_IFLA_LINKINFO, b""))
    port = split(info.get(_IFLA_INFO_SLAVE_DATA, b""))
    plain = "loopback" if flags & IFF_LOOPBACK else "physical"
    return Link(
        index=index,
        name=text(found, _IFLA_IFNAME),
        kind=text(info, _IFLA_INFO_KIND) or plain,
        mtu=number(found, _IFLA_MTU),
        mac=":".join(f"{octet:02x}" for octet in found.get(_IFLA_ADDRESS, b"")),
        up=bool(flags & IFF_UP),
        master=number(found, _IFLA_MASTER),
        peer=number(found, _IFLA_LINK),
        group=number(found, _IFLA_GROUP),
        alias=text(found, _IFLA_IFALIAS),
        hairpin=bool(number(port, _IFLA_BRPORT_MODE)),
    )


def _address(answer: bytes) -> InterfaceAddress:
    _, prefix, _, _, index = _IFADDR.unpack_from(answer)
    found = split(answer[_IFADDR.size :])
    octets = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, bytes(4))
    return InterfaceAddress(index, f"{_dotted(octets)}/{prefix}", number(found, _IFA_PROTO))
