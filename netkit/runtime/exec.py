"""Exec: one more process in a running container, with pipes or a terminal of its own.

The OCI runtime's own `exec` stays in the foreground as our child and ends with the process' code,
so there is nothing to clean up after it; when the daemon goes, so do its execs.

    session = await start(places, "4f1c…", ExecSpec(argv=("ls",)), container)
    async for stream, data in session.output(): …
    code = await session.wait()
"""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import tempfile
import termios
from collections.abc import AsyncIterator

import msgspec

from netkit.runtime import detect
from netkit.runtime.places import Places

_CHUNK = 65536


class ExecSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: `env` in full, `uid`, `gid` and `groups` resolved, `capabilities` by name."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    terminal: bool = False
    stdin: bool = False
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = ()


class ExecSession:
    """A process started by `start`; the same shape as an attach session."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int) -> None:
        self._process = process
        self._terminal = terminal
        self._loop = asyncio.get_running_loop()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Chunks with their stream, 1 or 2, until the process has closed them."""
        if self._terminal >= 0:
            while data := await self._read_terminal():
                yield 1, data
            return
        chunks: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(64)
        readers = [
            asyncio.ensure_future(_pump(number, stream, chunks))
            for number, stream in ((1, self._process.stdout), (2, self._process.stderr))
            if stream is not None
        ]
        ended = 0
        try:
            while ended < len(readers):
                number, data = await chunks.get()
                if data:
                    yield number, data
                else:
                    ended += 1
        finally:
            for reader in readers:
                reader.cancel()

    async def write(self, data: bytes) -> None:
        """To stdin. Raises OSError where nobody reads any more."""
        if self._terminal >= 0:
            await self._loop.run_in_executor(None, _write_all, self._terminal, data)
        elif self._process.stdin is not None:
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def close_stdin(self) -> None:
        """The end of stdin; a terminal has none but ^D."""
        if self._terminal < 0 and self._process.stdin is not None:
            self._process.stdin.close()

    def resize(self, height: int, width: int) -> None:
        """Tell the terminal its size, in characters."""
        if self._terminal >= 0:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGWINCH)

    async def wait(self) -> int:
        """The exit code, 128 + n for a process that a signal ended."""
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def close(self) -> None:
        """Let go of the streams; the process goes on where it does not mind."""
        await self.close_stdin()
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    async def _read_terminal(self) -> bytes:
        ready: asyncio.Future[None] = self._loop.create_future()
        descriptor = self._terminal
        self._loop.add_reader(descriptor, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
            return os.read(descriptor, _CHUNK)
        except OSError:
            return b""  # EIO: the other side has closed the terminal
        finally:
            self._loop.remove_reader(descriptor)


async def start(places: Places, container_id: str, spec: ExecSpec) -> ExecSession:
    """Run `spec` in the container. That it cannot be executed shows as code 126, 127 or 255."""
    descriptor, path = tempfile.mkstemp(prefix="exec-", dir=places.folder(container_id))
    with os.fdopen(descriptor, "w") as file:
        json.dump(_process(spec), file)
    argv = [detect.find(), f"--root={places.runtime_root}", "exec", "--process", path, container_id]
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        if not spec.terminal:
            stdin = pipe if spec.stdin else null
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=stdin, stdout=pipe, stderr=pipe, start_new_session=True
            )
            return ExecSession(process, -1)
        ours, theirs = pty.openpty()
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
            )
        finally:
            os.close(theirs)
        return ExecSession(process, ours)
    finally:
        # The runtime has read it once the process runs; a moment is enough, and exit is certain.
        asyncio.get_running_loop().call_later(5, _forget, path)


def _process(spec: ExecSpec) -> dict[str, object]:
    held = list(spec.capabilities) if spec.uid == 0 else []
    return {
        "terminal": spec.terminal,
        "user": {"uid": spec.uid, "gid": spec.gid, "additionalGids": list(spec.groups)},
        "args": list(spec.argv),
        "env": list(spec.env),
        "cwd": spec.cwd,
        "capabilities": {
            "bounding": list(spec.capabilities),
            "effective": held,
            "permitted": held,
            "inheritable": [],
            "ambient": [],
        },
    }


async def _pump(
    number: int, stream: asyncio.StreamReader, chunks: asyncio.Queue[tuple[int, bytes]]
) -> None:
    while data := await stream.read(_CHUNK):
        await chunks.put((number, data))
    await chunks.put((number, b""))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
