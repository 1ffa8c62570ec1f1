"""Carrying bytes between a client and a container, both ways, until either has had enough.

The session is a container's attach or an exec. It ends when its output ends, when the client
types the detach keys, or when the client goes away; the end of the client's stdin does not end
it, since the answer to it may be still to come.

    finished = await carry(wire, session, DetachKeys(""))
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Protocol

from netkit.daemon.hijack import DetachKeys, Wire

log = logging.getLogger(__name__)


class Session(Protocol):
    """The container's side."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Chunks with their stream, 1 or 2, until the process has closed them."""

    async def write(self, data: bytes) -> None:
        """To stdin. Raises OSError where nobody reads any more."""

    async def close_stdin(self) -> None:
        """The end of stdin."""


async def carry(wire: Wire, session: Session, keys: DetachKeys | None, streams: frozenset[int]) -> bool:
    """Carry until the end; False where the client left first. Only output of `streams` is sent."""
    feeding = asyncio.ensure_future(_feed(wire, session, keys))
    sending = asyncio.ensure_future(_send(wire, session, streams))
    try:
        await asyncio.wait({feeding, sending}, return_when=asyncio.FIRST_COMPLETED)
        if feeding.done() and feeding.result():
            return False
        await sending
        return True
    except ConnectionError:
        return False
    finally:
        for task in (feeding, sending):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await task


async def _feed(wire: Wire, session: Session, keys: DetachKeys | None) -> bool:
    """Client to container; True where the detach keys came."""
    while data := await wire.read():
        passed, detached = keys.feed(data) if keys else (data, False)
        try:
            if passed:
                await session.write(passed)
        except OSError as err:
            log.debug("stdin is closed: %s", err)
            return detached
        if detached:
            return True
    with contextlib.suppress(OSError):
        await session.close_stdin()
    return False


async def _send(wire: Wire, session: Session, streams: frozenset[int]) -> None:
    """Container to client."""
    async for stream, data in session.output():
        if stream in streams:
            await wire.write(stream, data)
