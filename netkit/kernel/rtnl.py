"""Route netlink on a plain socket: messages encoded by pyroute2, several sent at once.

The library's own request costs most of a millisecond in its event loop; a container's attachment
is four messages. So the message classes are the library's and the socket is ours: `do` sends any
number of changes in one system call and reads an acknowledgement for each. A socket belongs to
the network namespace in which it was made.

    with Rtnl.open("/run/netns/h1") as rtnl:
        rtnl.do(set_link(index, up=True))
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
)

from netkit.kernel import libc

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

REQUEST, ACK, DUMP = NLM_F_REQUEST, NLM_F_REQUEST | NLM_F_ACK, NLM_F_REQUEST | NLM_F_DUMP
CREATE = ACK | NLM_F_CREATE | NLM_F_EXCL
APPEND = ACK | NLM_F_CREATE | NLM_F_APPEND
REPLACE = ACK | NLM_F_CREATE | NLM_F_REPLACE

_HEADER = struct.Struct("=IHHII")
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_DUMP_INTR = 0x10
_DUMPS = 8  # where links come and go all the time, the last one is taken as it is
_QUEUE = 1 << 20
_DATAGRAM = 1 << 16  # twice what the kernel puts into one; much more costs a page table each time
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12


Result = TypeVar("Result")


class RtnlError(OSError):
    """The kernel refused a message; errno says why, `position` which of those sent together."""

    def __init__(self, number: int, position: int) -> None:
        super().__init__(number, os.strerror(number))
        self.position = position


class Packed(NamedTuple):
    """A message that is bytes already: what every attachment sends is packed by ourselves."""

    kind: int
    flags: int
    body: bytes


class Rtnl:
    """One route netlink socket. Not thread-safe."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sequence = 0
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE)
        sock.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        sock.settimeout(30)
        sock.bind((0, 0))

    @classmethod
    def open(cls, namespace: str = "", protocol: int = socket.NETLINK_ROUTE) -> "Rtnl":
        """A socket made in the namespace at that path; empty for one's own. Raises OSError.

        Another `protocol` is spoken alike: only what the bodies of its messages mean differs.
        """
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        return cls(libc.socket_in(namespace, socket.AF_NETLINK, kind, protocol))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "Rtnl":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def do(self, *messages: Any) -> None:
        """Send changes together. Raises RtnlError for the first one refused; the others are done."""
        first = self._sequence + 1
        self._socket.send(b"".join(self._encode(message) for message in messages))
        failure: RtnlError | None = None
        waiting = len(messages)
        while waiting:
            for kind, _, sequence, payload in self._receive():
                if kind != _NLMSG_ERROR or not first <= sequence <= self._sequence:
                    continue
                waiting -= 1
                number = -struct.unpack_from("=i", payload)[0]
                if number and failure is None:
                    failure = RtnlError(number, sequence - first)
        if failure is not None:
            raise failure

    def ask(self, kind: int, body: bytes) -> bytes | None:
        """The body of the answer to a request for one thing, or None where it does not exist."""
        self._send(kind, REQUEST, body)
        while True:
            for answer, _, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if answer == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", payload)[0]
                    if number in {errno.ENODEV, errno.ENOENT}:
                        return None
                    raise RtnlError(number, 0)
                return payload

    def ask_all(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all answers to a request for everything."""
        for _ in range(_DUMPS):
            answers, whole = self._dump(kind, body)
            if whole:
                break
        return answers

    def _dump(self, kind: int, body: bytes) -> tuple[list[bytes], bool]:
        """All answers, and whether nothing changed meanwhile: otherwise some may be missing."""
        self._send(kind, DUMP, body)
        answers: list[bytes] = []
        whole = True
        while True:
            for answer, flags, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _NLM_F_DUMP_INTR
                if answer == _NLMSG_DONE:
                    return answers, whole
                if answer == _NLMSG_ERROR:
                    raise RtnlError(-struct.unpack_from("=i", payload)[0], 0)
                answers.append(payload)

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        head = _HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0)
        self._socket.send(head + body)

    def _encode(self, message: Any) -> bytes:
        self._sequence += 1
        if isinstance(message, Packed):
            length = _HEADER.size + len(message.body)
            return _HEADER.pack(length, message.kind, message.flags, self._sequence, 0) + message.body
        message["header"]["sequence_number"] = self._sequence
        message.reset()
        message.encode()
        return bytes(message.data)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data, _, flags, _ = self._socket.recvmsg(_DATAGRAM)
        if flags & socket.MSG_TRUNC:
            raise RtnlError(errno.EMSGSIZE, 0)
        yield from _split(data)


def in_each(namespaces: Iterable[str], read: Callable[[Rtnl], Result]) -> dict[str, Result]:
    """What `read` finds with a socket in each of the namespaces, by path; without those that have gone."""

    def look() -> Result:
        with Rtnl.open() as rtnl:
            return read(rtnl)

    return libc.in_namespaces(namespaces, look)


def message(cls: type, kind: int, flags: int, attributes: Sequence[tuple[str, Any]], /, **fields: Any) -> Any:
    """A netlink message: `cls` is pyroute2's, `fields` those of its fixed header."""
    made = cls()
    made["header"]["type"] = kind
    made["header"]["flags"] = flags
    for name, value in fields.items():
        made[name] = value
    made["attrs"] = list(attributes)
    return made


def _split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of one datagram as (type, flags, sequence, payload)."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3
