"""Being connected to a process through its monitor: what it prints, its stdin, its window.

The monitor's socket is SOCK_SEQPACKET. Each packet that it sends begins with the number of the
stream (2 stdout, 3 stderr; a terminal has only stdout); what it gets goes to stdin as it is, at
most 32 KiB in a packet, and shutting down our sending side is the end of stdin.

    0        1
    +--------+-----------
    | stream | bytes …
    +--------+-----------

A session may be made before there is a process: it is connected when there is one, in time for
its first byte. Sessions belong to an event loop; connecting may happen in any thread.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from netkit.errors import Conflict

_PACKET_BYTES = 8 * 1024
_RECEIVE_BYTES = 64 * 1024
_STREAMS = {2: 1, 3: 2}  # the monitor's numbers to file descriptors'
_CONNECT_S = 10.0


class Session:
    """Both directions of one attachment; one that does not write leaves stdin to others."""

    def __init__(self, *, writes: bool = True) -> None:
        self._writes = writes
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[socket.socket | None] = self._loop.create_future()

    def connect(self, folder: Path) -> None:
        """Connect to the monitor whose socket lies in `folder`. Any thread. Raises OSError."""
        link = connect(folder)
        self._tell(link)

    def give_up(self) -> None:
        """There will be no process: the output ends. Any thread."""
        self._tell(None)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Chunks with their stream, 1 or 2, until the process has closed them."""
        link = await asyncio.shield(self._connected)
        while link is not None and link.fileno() >= 0:
            try:
                packet = await self._loop.sock_recv(link, _RECEIVE_BYTES)
            except ConnectionResetError:
                # It closed with stdin unread. The kernel tells that once, before what is still queued for us.
                continue
            except ConnectionError:
                return
            if not packet:
                return
            yield _STREAMS.get(packet[0], 1), packet[1:]

    async def write(self, data: bytes) -> None:
        """To stdin; waits while nobody reads it. Raises OSError where it is closed."""
        if not self._writes:
            return
        link = await asyncio.shield(self._connected)
        if link is None:
            raise BrokenPipeError("the process is not running")
        for start in range(0, len(data), _PACKET_BYTES):
            await self._loop.sock_sendall(link, data[start : start + _PACKET_BYTES])

    async def close_stdin(self) -> None:
        """The end of stdin. Raises OSError where there is nobody any more."""
        link = await asyncio.shield(self._connected)
        if link is not None and self._writes:
            link.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Leave; the process goes on."""
        if not self._connected.done():
            self._connected.set_result(None)
        elif link := self._connected.result():
            link.close()

    async def abandon(self) -> None:
        """Leave, whether it is connected by now or will never be."""
        self.give_up()
        await asyncio.shield(self._connected)
        await self.close()

    def _tell(self, link: socket.socket | None) -> None:
        """Settle on the session's own loop; where that is closed nobody waits any more."""
        try:
            self._loop.call_soon_threadsafe(self._settle, link)
        except RuntimeError:
            if link is not None:
                link.close()

    def _settle(self, link: socket.socket | None) -> None:
        if not self._connected.done():
            self._connected.set_result(link)
        elif link is not None:
            link.close()


def connect(folder: Path) -> socket.socket:
    """A non-blocking socket to the monitor; the path may be of any length. Raises OSError."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        link.settimeout(_CONNECT_S)
        # Socket addresses have at most 107 bytes; the way through /proc is always short.
        link.connect(f"/proc/self/fd/{descriptor}/attach")
    except BaseException:
        link.close()
        raise
    finally:
        os.close(descriptor)
    link.setblocking(False)
    return link


def resize(folder: Path, height: int, width: int) -> None:
    """Tell the size of the client's window, in characters. Raises Conflict where nobody listens."""
    try:
        descriptor = os.open(folder / "ctl", os.O_WRONLY | os.O_NONBLOCK)
    except OSError as err:
        raise Conflict("there is no running process to resize", hint="start it first") from err
    try:
        os.write(descriptor, f"1 {height} {width}\n".encode())
    finally:
        os.close(descriptor)
