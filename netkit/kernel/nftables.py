"""What filters IPv4 packets besides iptables: tables that `nft` and its like made. Reading only.

The nft variant of iptables keeps its rules in tables of the kernel's nf_tables as well, with names
of its own; every other table there is somebody else's, and `iptables-save` does not show it.

    >>> foreign_tables()
    ['inet firewalld']
"""

import socket
import struct

from netkit.kernel import attributes
from netkit.kernel.rtnl import Rtnl

# linux/netfilter/nf_tables.h; a message's type is its subsystem and what is asked of it.
_NETLINK_NETFILTER = 12
_GET_CHAINS = 10 << 8 | 4
_HEAD = struct.Struct("!BBH")  # family, version, resource
_TABLE, _HOOK, _POLICY, _RULES = 1, 4, 5, 6  # attributes of a chain
_DROP = 0
_FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge"}
_OF_IPTABLES = {"filter", "nat", "mangle", "raw", "security"}


def foreign_tables(namespace: str = "") -> list[str]:
    """The tables, as `FAMILY NAME`, that are not of iptables and have a say in IPv4 packets.

    Empty where the kernel has no nf_tables.
    """
    try:
        with Rtnl.open(namespace, _NETLINK_NETFILTER) as link:
            answers = link.ask_all(_GET_CHAINS, _HEAD.pack(socket.AF_UNSPEC, 0, 0))
    except OSError:
        return []
    return sorted({found for answer in answers if (found := _foreign(answer))})


def _foreign(answer: bytes) -> str:
    """The table of a chain that packets meet by themselves and that does something; or an empty text."""
    family = _FAMILIES.get(_HEAD.unpack_from(answer)[0], "")
    found = attributes.split(answer[_HEAD.size :])
    table = attributes.text(found, _TABLE)
    decides = _big(found, _RULES) > 0 or (_POLICY in found and _big(found, _POLICY) == _DROP)
    if not family or _HOOK not in found or not decides or (family == "ip" and table in _OF_IPTABLES):
        return ""
    return f"{family} {table}"


def _big(found: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), "big")
