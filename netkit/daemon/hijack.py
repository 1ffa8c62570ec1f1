"""Hijacked connections: after its head, a call becomes a plain two-way stream of bytes.

Docker's clients ask for it with `Upgrade: tcp`, for attach and exec. The head is written by
itself before any byte of the stream, since some clients lose what comes in the same read; what a
client sends before it has seen the head is not taken for stdin. The client's end of sending is
the end of stdin; the other direction stays open until we close it. Without a terminal, output
goes in frames:

    0        1        4               8
    +--------+--------+---------------+---------------
    | stream | 0 0 0  | length, big-endian | payload …      stream: 1 stdout, 2 stderr
    +--------+--------+---------------+---------------
"""

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web

from netkit.daemon.middleware import standing_headers
from netkit.errors import SpecError

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_FRAME = struct.Struct(">BxxxL")
_QUEUED_MAX = 1 << 20  # bytes of stdin read ahead of the container
_PARTING_S = 5.0  # a client that reads to the end leaves at once


class Hijacked(web.StreamResponse):
    """A response whose head and body have been written by hand; the connection ends with it."""

    def __init__(self, status: int) -> None:
        super().__init__(status=status)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> Any:
        return None

    async def write_eof(self, data: Any = b"") -> None:
        return None


class Wire:
    """Both directions of a hijacked connection; made by `take`."""

    def __init__(self, request: web.Request, multiplexed: bool, upgraded: bool) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        self._transport = transport
        self._request = request
        self._multiplexed = multiplexed
        self._upgraded = upgraded
        self._stdin = _Stdin(transport)

    async def read(self) -> bytes:
        """What the client has sent; b"" when it has sent everything."""
        return await self._stdin.read()

    async def write(self, stream: int, data: bytes) -> None:
        """Send output of stream 1 or 2; waits while the client is slow. Raises ConnectionError."""
        if self._transport.is_closing():
            raise ConnectionResetError("the client has gone")
        self._transport.write(frame(stream, data) if self._multiplexed else data)
        await self._request.writer.drain()

    async def end(self) -> None:
        """End our side, then wait a little for the client to end its own.

        What a client has sent and nobody has read is thrown away first: a socket that is closed with
        such bytes in it resets the connection, and the client may lose the output it has not read.
        """
        if self._transport.is_closing():
            return
        self._transport.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARTING_S):
                while await self._stdin.read():
                    continue

    def response(self) -> Hijacked:
        """What the handler returns when the stream is over; the connection is then closed."""
        return Hijacked(101 if self._upgraded else 200)


async def take(request: web.Request, *, terminal: bool, version: tuple[int, int]) -> Wire:
    """Turn a call into a stream: the head goes out now, as a write of its own."""
    upgraded = "upgrade" in request.headers.get("Connection", "").lower()
    wire = Wire(request, not terminal, upgraded)
    protocol = request.protocol
    protocol.set_parser(cast(Any, wire._stdin))
    wire._transport.set_protocol(_HalfOpen(protocol, wire._stdin))
    kind = RAW if terminal or version < (1, 42) else MULTIPLEXED
    wire._transport.write(_head(upgraded, kind))
    await request.writer.drain()
    await asyncio.sleep(0)
    return wire


def frame(stream: int, data: bytes) -> bytes:
    """Output with the header that says which stream it is of."""
    return _FRAME.pack(stream, len(data)) + data


class DetachKeys:
    """Looks for the keys with which a person leaves a terminal without ending what runs in it."""

    def __init__(self, text: str) -> None:
        self.keys = parse_keys(text or DEFAULT_DETACH_KEYS)
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the sequence is complete; a beginning of it is held back."""
        text = self._held + data
        at = text.find(self.keys)
        if at >= 0:
            return text[:at], True
        longest = next(
            (size for size in range(len(self.keys) - 1, 0, -1) if text.endswith(self.keys[:size])), 0
        )
        self._held = text[len(text) - longest :]
        return text[: len(text) - longest], False


def parse_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` or `a,b` as the bytes a terminal sends. Raises SpecError."""
    return b"".join(_parse_key(word) for word in text.split(","))


def _parse_key(word: str) -> bytes:
    name = word.removeprefix("ctrl-")
    if len(name) != 1 or not name.isascii():
        raise SpecError(f"invalid detach key {word!r}", hint="write them as ctrl-p,ctrl-q")
    if name == word:
        return name.encode()
    code = ord(name.upper()) ^ 0x40
    if not (code < 0x20):
        raise SpecError(f"invalid detach key {word!r}", hint="ctrl- with a letter or one of @[\\]^_")
    return bytes([code])


def _head(upgraded: bool, kind: str) -> bytes:
    lines = ["HTTP/1.1 101 UPGRADED" if upgraded else "HTTP/1.1 200 OK", f"Content-Type: {kind}"]
    if upgraded:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    lines += [f"{name}: {value}" for name, value in standing_headers().items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class _Stdin:
    """Bytes from the client, in the shape that the protocol feeds; holds the client back when full."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._queued = 0
        self._ended = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        if data and not self._ended:
            self._chunks.put_nowait(bytes(data))
            self._queued += len(data)
            if self._queued >= _QUEUED_MAX:
                self._transport.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        if not self._ended:
            self._ended = True
            self._chunks.put_nowait(b"")

    async def read(self) -> bytes:
        data = await self._chunks.get()
        if not data:
            self._chunks.put_nowait(b"")  # the end stays the end
        full = self._queued >= _QUEUED_MAX
        self._queued -= len(data)
        if full and self._queued < _QUEUED_MAX and not self._transport.is_closing():
            self._transport.resume_reading()
        return data


class _HalfOpen(asyncio.Protocol):
    """The server's protocol, except that the client's end of sending does not end the connection."""

    def __init__(self, inner: "RequestHandler", stdin: _Stdin) -> None:
        self._inner = inner
        self._stdin = stdin

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool:
        self._stdin.feed_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._stdin.feed_eof()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
