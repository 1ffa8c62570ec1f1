"""Forgetting tracked connections that a change has made stale.

The kernel decides where a flow goes with its first packet and then remembers. A UDP client that
keeps its port is never asked again, so a port that is published, moved or taken back must take
the memory of it along; and an opening that is closed must close the flows through it.

    forget([Flow(protocol="udp", dst_port=53)])
"""

import errno
import socket
from collections.abc import Sequence
from typing import Any

import msgspec
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from netkit.errors import ApplyError

_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}


class Flow(msgspec.Struct, frozen=True):
    """Which connections: empty fields match all.

    `src`, `dst`, `dst_port` are those of the first packet as it was sent; `answer` is the address and
    port that it was in fact led to, which the reply comes from.
    """

    protocol: str
    src: str = ""
    dst: str = ""
    dst_port: int = 0
    answer: str = ""
    answer_port: int = 0

    def matches(self, first: Any, reply: Any) -> bool:
        """Whether a tracked connection, given as its two tuples, is meant."""
        return (
            first.proto == _PROTOCOLS.get(self.protocol)
            and self.src in {"", first.saddr}
            and self.dst in {"", first.daddr}
            and self.dst_port in {0, first.dport}
            and self.answer in {"", reply.saddr}
            and self.answer_port in {0, reply.sport}
        )


def forget(flows: Sequence[Flow]) -> int:
    """Delete the tracked connections that any of `flows` means, in the caller's namespace.

    Returns how many. It costs one walk over the kernel's table, some 15 ms, however many are asked.
    """
    deleted = 0
    with NFCTSocket() as table:
        for entry in list(table.dump()):  # read to its end: the library cannot be left half-way
            pair = _tuples(entry)
            if pair is None or not any(flow.matches(*pair) for flow in flows):
                continue
            try:
                table.entry("del", tuple_orig=pair[0])
                deleted += 1
            except NetlinkError as err:
                if err.code != errno.ENOENT:  # it has ended meanwhile
                    raise ApplyError(f"cannot forget a tracked connection: {err}") from err
    return deleted


def _tuples(entry: Any) -> tuple[Any, Any] | None:
    """The two directions of a TCP, UDP or SCTP connection over IPv4; None for others."""
    if entry["nfgen_family"] != socket.AF_INET:
        return None
    pair = tuple(
        NFCTAttrTuple.from_netlink(socket.AF_INET, entry.get_attr(name))
        for name in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY")
    )
    return (pair[0], pair[1]) if all(half.proto in _PROTOCOLS.values() for half in pair) else None
