"""A container's streams at a terminal: run in the foreground, start -a, attach, exec.

Without a terminal of its own, a container's output comes in frames: a byte for the stream, three
of nothing, four for the length. With one it comes as it is, and our terminal is put into raw mode.
"""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Mapping
from typing import Any

import click

from netkit.cli.base import Door, containers, demand_terminal, verb
from netkit.errors import Conflict, NetkitError
from netkit.exchange import Response

_CHUNK = 65536
# What is about ourselves: our children and pipes, our faults, and our place at the terminal. Nobody
# can catch the last two.
_OWN_SIGNALS = frozenset(
    getattr(signal, f"SIG{name}") for name in "CHLD PIPE URG SEGV BUS FPE ILL TTIN TTOU KILL STOP".split()
)


@verb("attach")
@containers(1)
@click.option("--no-stdin", is_flag=True)
@click.option("--detach-keys", default="")
def attach(door: Door, name: str, no_stdin: bool, detach_keys: str) -> None:
    """Join a running container's streams; ctrl-p ctrl-q leaves again."""
    container = door.client.get(f"/containers/{name}/json")
    if not _runs(container["State"]):
        raise Conflict(f"container {name} is not running", hint=f"netkit start -a {name}")
    stdin = container["Config"]["OpenStdin"] and not no_stdin
    sock = _attached(door, container["Id"], stdin, detach_keys)
    with _signals(door, container["Id"], proxy=not container["Config"]["Tty"]):
        carry(door, sock, container["Id"], terminal=container["Config"]["Tty"], stdin=stdin)
    state = door.client.get(f"/containers/{container['Id']}/json")["State"]
    raise click.exceptions.Exit(0 if _runs(state) else state["ExitCode"])


@verb("exec", context_settings={"allow_interspersed_args": False})
@click.option("--detach", "-d", is_flag=True)
@click.option("--interactive", "-i", is_flag=True)
@click.option("--tty", "-t", "terminal", is_flag=True)
@click.option("--user", "-u", default="")
@click.option("--workdir", "-w", default="")
@click.option("--env", "-e", multiple=True, metavar="KEY=VALUE")
@click.option("--privileged", is_flag=True)
@containers(1)
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(door: Door, name: str, argv: tuple[str, ...], **given: Any) -> None:
    """Run one more process in a container."""
    terminal, interactive = given["terminal"], given["interactive"]
    body = {
        "Cmd": list(argv),
        "AttachStdin": interactive and not given["detach"],
        "AttachStdout": not given["detach"],
        "AttachStderr": not given["detach"],
        "Tty": terminal,
        "User": given["user"],
        "WorkingDir": given["workdir"],
        "Env": list(given["env"]),
        "Privileged": given["privileged"],
    }
    if body["AttachStdin"] and terminal:
        demand_terminal()
    made = door.client.post(f"/containers/{name}/exec", body)["Id"]
    if given["detach"]:
        door.client.post(f"/exec/{made}/start", {"Detach": True, "Tty": terminal})
        door.done({"Id": made})
        return
    sock = door.client.hijack(f"/exec/{made}/start", {"Detach": False, "Tty": terminal})
    carry(door, sock, made, terminal=terminal, stdin=interactive, resize=f"/exec/{made}/resize")
    raise click.exceptions.Exit(door.client.get(f"/exec/{made}/json")["ExitCode"])


def follow(
    door: Door, number: str, *, terminal: bool, stdin: bool, detach_keys: str = "", removed: bool = False
) -> int:
    """Attach to a container, start it, carry its streams to the end; returns its exit code."""
    sock = _attached(door, number, stdin, detach_keys)
    codes: list[int] = []
    waiting = _waiter(door, number, "removed" if removed else "next-exit", codes)
    try:
        door.change("POST", f"/containers/{number}/start")
    except NetkitError:
        sock.close()
        raise
    with _signals(door, number, proxy=not terminal):
        ended = carry(door, sock, number, terminal=terminal, stdin=stdin)
        if not ended:
            return 0  # the detach keys
        waiting.join()
    return codes[0] if codes else 125


def copy_response(response: Response, terminal: bool) -> None:
    """Print a response that is a container's output."""
    if terminal:
        while data := response.read1(_CHUNK):
            _write(1, data)
        return
    while head := response.read(8):
        stream, length = struct.unpack(">BxxxI", head)
        _write(stream, response.read(length))


def carry(
    door: Door, sock: socket.socket, number: str, *, terminal: bool, stdin: bool, resize: str = ""
) -> bool:
    """Carry bytes both ways until the other side closes. False where the user detached."""
    place = resize or f"/containers/{number}/resize"
    ours = _Stdin(sock, sys.stdin.fileno() if stdin else -1)
    pending = b""
    with _raw(terminal and stdin), _resizing(door, place, terminal):
        while True:
            awaited = [sock] if ours.unsent else []
            ready, writable, _ = select.select([sock.fileno(), *ours.sources], awaited, [])
            ours.go_on(readable=any(source in ready for source in ours.sources), writable=bool(writable))
            if sock.fileno() in ready:
                try:
                    data = sock.recv(_CHUNK)
                except ConnectionResetError:
                    data = b""
                if not data:
                    break
                pending = _show(pending + data, terminal)
    sock.close()
    # Who cannot type the detach keys has not left, and an exec is asked for its end by the caller.
    return bool(resize) or not (stdin and sys.stdin.isatty()) or not _still_runs(door, number)


class _Stdin:
    """What we read for the other side; never waits for it, since it may wait for us to take its output."""

    def __init__(self, sock: socket.socket, source: int) -> None:
        self._sock = sock
        self._source = source
        self.unsent = b""

    @property
    def sources(self) -> list[int]:
        """What to read from now: nothing at the end, and as long as something is unsent."""
        return [] if self._source < 0 or self.unsent else [self._source]

    def go_on(self, *, readable: bool, writable: bool) -> None:
        """Read what is there, send what is taken. Nothing more is read once nobody takes it."""
        try:
            if writable:
                self.unsent = self.unsent[self._sock.send(self.unsent, socket.MSG_DONTWAIT) :]
            elif readable:
                self.unsent = os.read(self._source, _CHUNK)
                if not self.unsent:
                    self._source = -1
                    self._sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._source, self.unsent = -1, b""


def _still_runs(door: Door, number: str) -> bool:
    """The stream has ended: because the process has, or because the user detached?"""
    try:
        state = door.client.get(f"/containers/{number}/json")["State"]
    except NetkitError:
        return False
    if not _runs(state):
        return False
    # The daemon may be about to settle the end; a detached container goes on running.
    try:
        os.kill(state["Pid"], 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _runs(state: Mapping[str, Any]) -> bool:
    """Whether there is a process: one between two runs counts as running, as Docker has it."""
    return bool(state["Running"] and not state["Restarting"])


def _show(data: bytes, terminal: bool) -> bytes:
    """Print what is complete; returns the rest."""
    if terminal:
        _write(1, data)
        return b""
    while len(data) >= 8:
        stream, length = struct.unpack(">BxxxI", data[:8])
        if len(data) < 8 + length:
            break
        _write(stream, data[8 : 8 + length])
        data = data[8 + length :]
    return data


def _write(stream: int, data: bytes) -> None:
    target = sys.stderr.buffer if stream == 2 else sys.stdout.buffer
    target.write(data)
    target.flush()


def _attached(door: Door, number: str, stdin: bool, detach_keys: str) -> socket.socket:
    query = {"stream": True, "stdout": True, "stderr": True, "stdin": stdin, "detachKeys": detach_keys}
    return door.client.hijack(f"/containers/{number}/attach", **query)


def _waiter(door: Door, number: str, condition: str, codes: list[int]) -> threading.Thread:
    """Ask for the exit code before the start, in a thread; the request is on its way on return."""
    asked = threading.Event()

    def wait() -> None:
        query = {"condition": condition}
        path = f"/containers/{number}/wait"
        with contextlib.suppress(NetkitError), door.client.open("POST", path, query=query) as response:
            asked.set()
            codes.append(json.loads(response.read())["StatusCode"])
        asked.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    asked.wait(10)
    return thread


@contextlib.contextmanager
def _raw(wanted: bool) -> Iterator[None]:
    """Our terminal in raw mode, put back whatever happens."""
    if not (wanted and sys.stdin.isatty()):
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin, termios.TCSADRAIN)  # what was typed ahead is kept
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizing(door: Door, place: str, wanted: bool) -> Iterator[None]:
    """Tell the size of our terminal now and whenever it changes."""
    if not (wanted and sys.stdout.isatty()):
        yield
        return

    def tell(*_: Any) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        with contextlib.suppress(NetkitError):
            door.client.post(place, h=size.lines, w=size.columns)

    before = signal.signal(signal.SIGWINCH, tell)
    tell()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


@contextlib.contextmanager
def _signals(door: Door, number: str, *, proxy: bool) -> Iterator[None]:
    """Hand signals on to the container, as long as it is in the foreground."""
    if not proxy:
        yield
        return

    def hand_on(received: int, _: Any) -> None:
        with contextlib.suppress(NetkitError):
            door.client.post(f"/containers/{number}/kill", signal=str(received))

    passed = signal.valid_signals() - _OWN_SIGNALS
    before = {number_: signal.signal(number_, hand_on) for number_ in passed}
    try:
        yield
    finally:
        for number_, handler in before.items():
            signal.signal(number_, handler)
