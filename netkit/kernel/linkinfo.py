"""Reading links, addresses and routes: what the kernel answers, as small values.

>>> find(rtnl, "br0").kind
'bridge'
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netkit.kernel import rtnl as wire
from netkit.kernel.rtnl import Rtnl, message
from netkit.model.names import LINK_GROUP, owner_of

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
_SKIP_STATISTICS = ("IFLA_EXT_MASK", 8)  # RTEXT_FILTER_SKIP_STATS: half the size of an answer
_INET = 2


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


def find(rtnl: Rtnl, name: str) -> Link | None:
    """The link of that name, or None."""
    request = message(ifinfmsg, wire.RTM_GETLINK, wire.REQUEST, [("IFLA_IFNAME", name), _SKIP_STATISTICS])
    answer = rtnl.get(request)
    return None if answer is None else _link(answer)


def links(rtnl: Rtnl) -> list[Link]:
    """All links of the namespace."""
    request = message(ifinfmsg, wire.RTM_GETLINK, wire.DUMP, [_SKIP_STATISTICS])
    return [_link(answer) for answer in rtnl.dump(request)]


def addresses(rtnl: Rtnl, index: int = 0) -> list[InterfaceAddress]:
    """All IPv4 addresses, or those of one link."""
    request = message(ifaddrmsg, wire.RTM_GETADDR, wire.DUMP, [], family=_INET, index=index)
    return [_address(answer) for answer in rtnl.dump(request)]


def routes(rtnl: Rtnl) -> Iterator[Any]:
    """The IPv4 routes of the main table, as pyroute2 parses them."""
    request = message(rtmsg, wire.RTM_GETROUTE, wire.DUMP, [], family=_INET)
    for answer in rtnl.dump(request):
        if answer["table"] == 254 and answer["type"] == 1:
            yield answer


def _link(answer: Any) -> Link:
    info = answer.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    flags = answer["flags"]
    return Link(
        index=answer["index"],
        name=answer.get_attr("IFLA_IFNAME"),
        kind=kind or ("loopback" if flags & IFF_LOOPBACK else "physical"),
        mtu=answer.get_attr("IFLA_MTU") or 0,
        mac=answer.get_attr("IFLA_ADDRESS") or "",
        up=bool(flags & IFF_UP),
        master=answer.get_attr("IFLA_MASTER") or 0,
        peer=answer.get_attr("IFLA_LINK") or 0,
        group=answer.get_attr("IFLA_GROUP") or 0,
        alias=answer.get_attr("IFLA_IFALIAS") or "",
        hairpin=_hairpin(info) if info and answer.get_attr("IFLA_MASTER") else False,
    )


def _hairpin(info: Any) -> bool:
    port = info.get_attr("IFLA_INFO_SLAVE_DATA")
    return bool(port and hasattr(port, "get_attr") and port.get_attr("IFLA_BRPORT_MODE"))


def _address(answer: Any) -> InterfaceAddress:
    local = answer.get_attr("IFA_LOCAL") or answer.get_attr("IFA_ADDRESS")
    return InterfaceAddress(
        answer["index"], f"{local}/{answer['prefixlen']}", answer.get_attr("IFA_PROTO") or 0
    )
