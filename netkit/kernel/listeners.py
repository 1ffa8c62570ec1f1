"""Who listens on which port of this host, and which ports may be given out freely.

It reads what the network namespace of the calling thread has, takes no port itself, and asks the
kernel by netlink where it can: to print /proc/net/tcp takes it 5 ms. The program that owns a
socket is looked for only when particular ports are asked about, because that means walking the
open files of every process.

    >>> listeners({("tcp", 80)})
    {('tcp', '0.0.0.0', 80): 'nginx (pid 812)'}
"""

import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from netkit.kernel.rtnl import Rtnl

FALLBACK_RANGE = (49153, 65535)  # RFC 6335's dynamic ports, as Docker takes them
UNKNOWN = "an unknown program"

# Of this thread: /proc/net is that of the process, which may be another namespace.
_NET = Path("/proc/thread-self/net")
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# include/net/tcp_states.h; an unconnected UDP socket is in the state TCP_CLOSE.
_LISTENING = {"tcp": 10, "udp": 7}

# linux/inet_diag.h: family, protocol, extensions, states, the rest of the request empty; of an
# answer the family, the port and address of our side, and the inode at the end.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST = struct.Struct("=BBBxI48x")
_ANSWER = struct.Struct("!BxxxH2x16s44x")
_INODE = struct.Struct("=68xI")
_FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 16}  # bytes of an address
_SCTP = _NET / "sctp/eps"  # there only once the module is loaded
_SCTP_LISTENING = "10"

Listener = tuple[str, str, int]


class _Socket(msgspec.Struct, frozen=True):
    """A socket that waits for clients, and its inode in sockfs."""

    protocol: str
    ip: str
    port: int
    inode: int


def listeners(ports: Collection[tuple[str, int]] | None = None) -> dict[Listener, str]:
    """The sockets that wait for clients, as (protocol, address, port), and "program (pid N)" of each.

    `ports` are pairs like ("tcp", 80); without them all sockets are told, and no program with any.
    An address `::` takes IPv4 as well unless its program forbade it. A program that cannot be seen
    from here, for example in another pid namespace, is "an unknown program".
    """
    sockets = [found for found in _sockets() if ports is None or (found.protocol, found.port) in ports]
    owners = {} if ports is None else _owners({found.inode for found in sockets})
    otherwise = "" if ports is None else UNKNOWN
    return {(found.protocol, found.ip, found.port): owners.get(found.inode, otherwise) for found in sockets}


def port_range() -> tuple[int, int]:
    """The first and last port to choose from when a publication names none, as Docker chooses them."""
    try:
        low, high = map(int, _RANGE.read_text().split())
    except (OSError, ValueError):
        return FALLBACK_RANGE
    return (low, high) if 0 < low <= high <= 65535 else FALLBACK_RANGE


def _sockets() -> Iterator[_Socket]:
    try:
        yield from asked("tcp", socket.IPPROTO_TCP)
    except OSError:  # a kernel without tcp_diag
        yield from printed("tcp")
    yield from printed("udp")
    if _SCTP.exists():
        yield from parse_sctp(_SCTP.read_text())


def parse_sctp(text: str) -> Iterator[_Socket]:
    """The listening endpoints in `/proc/net/sctp/eps`: one for each address that they are bound to."""
    for row in text.splitlines()[1:]:
        _endpoint, _sock, _style, found, _bucket, port, _uid, inode, *addresses = row.split()
        if found == _SCTP_LISTENING:
            for address in addresses:
                yield _Socket("sctp", _readable(ipaddress.ip_address(address)), int(port), int(inode))


def asked(protocol: str, number: int) -> list[_Socket]:
    """What the kernel answers when asked for the sockets in the state of listening. Raises OSError."""
    found = []
    with Rtnl.open("", _NETLINK_SOCK_DIAG) as link:
        for family, size in _FAMILIES.items():
            request = _REQUEST.pack(family, number, 0, 1 << _LISTENING[protocol])
            for answer in link.ask_all(_SOCK_DIAG_BY_FAMILY, request):
                _, port, address = _ANSWER.unpack_from(answer)
                ip = _readable(ipaddress.ip_address(address[:size]))
                found.append(_Socket(protocol, ip, port, _INODE.unpack_from(answer)[0]))
    return found


def printed(protocol: str) -> Iterator[_Socket]:
    """What is in the files of /proc/net; there is none of a family that the kernel was built without."""
    for path in (_NET / protocol, _NET / f"{protocol}6"):
        if path.exists():
            yield from _rows(protocol, path.read_text())


def _rows(protocol: str, text: str) -> Iterator[_Socket]:
    for row in text.splitlines()[1:]:
        _slot, local, _remote, state, _queues, _timer, _retries, _uid, _timeout, inode, *_ = row.split()
        if int(state, 16) == _LISTENING[protocol]:
            address, _, port = local.partition(":")
            yield _Socket(protocol, _address(address), int(port, 16), int(inode))


def _address(text: str) -> str:
    """An address as /proc/net prints it: words of 32 bits in the byte order of the machine."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return _readable(ipaddress.ip_address(packed))


def _readable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _owners(inodes: Collection[int]) -> dict[int, str]:
    """The program that holds each socket, found among the open files of all processes."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[int, str] = {}
    for process in Path("/proc").iterdir() if wanted else ():
        if not process.name.isdigit():
            continue
        for target in _open_files(process):
            if target in wanted:
                owners.setdefault(wanted[target], f"{_program(process)} (pid {process.name})")
        if len(owners) == len(wanted):
            break
    return owners


def _open_files(process: Path) -> Iterator[str]:
    """What a process' descriptors point at; nothing when it ends meanwhile or is not ours to see."""
    try:
        descriptors = os.listdir(process / "fd")
    except OSError:
        return
    for descriptor in descriptors:
        try:
            yield os.readlink(process / "fd" / descriptor)
        except OSError:
            continue


def _program(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a program that has ended"
