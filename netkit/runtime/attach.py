"""A container's standard streams, live: through the socket that its conmon keeps.

Clients attach before they start a container, so that no output is lost. Until it is created there
is no socket; such a session waits, and `Attachments.connect` gives it one between creation and
start. Source: conmon's `attach` socket, SOCK_SEQPACKET, each packet led by a byte for its stream.

    session = await attachments.attach("4f1c…", stdin=True)
    async for stream, data in session.output(): …
"""

import asyncio
import contextlib
import socket
import threading
from collections import defaultdict
from collections.abc import AsyncIterator

from netkit.errors import ApplyError
from netkit.runtime.places import Places

_STREAMS = {2: 1, 3: 2}  # conmon's numbers for stdout and stderr → Docker's
_PACKET = 32 * 1024  # conmon reads and writes at most this much at once


class AttachSession:
    """One client's view of a container's streams. Lives on the event loop that made it."""

    def __init__(self, *, writes: bool = True) -> None:
        self._writes = writes
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[socket.socket | None] = self._loop.create_future()

    def settle(self, sock: socket.socket | None) -> None:
        """Give the session its socket, or None where the container never came to be. Any thread."""
        self._loop.call_soon_threadsafe(self._settle, sock)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Chunks with their stream, 1 or 2, until the container has closed them."""
        sock = await asyncio.shield(self._ready)
        if sock is None:
            return
        while True:
            try:
                packet = await self._loop.sock_recv(sock, _PACKET + 1)
            except ConnectionError:
                return
            if not packet:
                return
            if stream := _STREAMS.get(packet[0]):
                yield stream, packet[1:]

    async def write(self, data: bytes) -> None:
        """To stdin. Raises OSError where nobody reads any more."""
        sock = await asyncio.shield(self._ready)
        for start in range(0, len(data) if sock else 0, _PACKET):
            await self._loop.sock_sendall(_given(sock), data[start : start + _PACKET])

    async def close_stdin(self) -> None:
        """The end of stdin."""
        sock = await asyncio.shield(self._ready)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Let go; the container goes on."""
        if not self._ready.done():
            self._ready.set_result(None)
        elif sock := self._ready.result():
            sock.close()

    def _settle(self, sock: socket.socket | None) -> None:
        if not self._ready.done():
            self._ready.set_result(sock)
        elif sock is not None:
            sock.close()


class Attachments:
    """The sessions that wait for their containers, and the way to a running one's socket."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._waiting: dict[str, list[AttachSession]] = defaultdict(list)

    def attach(self, container_id: str, *, running: bool) -> AttachSession:
        """A session with a running container, or with one that will be started. On the loop."""
        session = AttachSession()
        if running:
            session.settle(self._connected(container_id))
        else:
            with self._lock:
                self._waiting[container_id].append(session)
        return session

    def connect(self, container_id: str) -> None:
        """The container has been created and not started: connect those who wait. Any thread."""
        with self._lock:
            sessions = self._waiting.pop(container_id, [])
        for session in sessions:
            session.settle(self._connected(container_id))

    def give_up(self, container_id: str) -> None:
        """The container will not run: those who wait see the end. Any thread."""
        with self._lock:
            sessions = self._waiting.pop(container_id, [])
        for session in sessions:
            session.settle(None)

    def _connected(self, container_id: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            sock.connect(str(self._places.sockets(container_id) / "attach"))
        except OSError as err:
            sock.close()
            raise ApplyError(
                f"cannot attach to container {container_id[:12]}: {err.strerror}", hint="has it just ended?"
            ) from err
        sock.setblocking(False)
        return sock


def _given(sock: socket.socket | None) -> socket.socket:
    if sock is None:
        raise BrokenPipeError("the container never ran")
    return sock
