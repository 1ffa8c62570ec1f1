"""The daemon as a process: its checks, locks, signals and order of start and stop.

One daemon for each state folder (a lock in it) and one for each network namespace (an abstract
unix socket, which the kernel keeps by namespace). SIGTERM and SIGINT end it; containers go on.

    exit_code = serve(Options(state_dir="/var/lib/netkit", hosts=("unix:///run/netkit.sock",)))
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from netkit.daemon import checks, recovery, server
from netkit.daemon.events import Events
from netkit.daemon.options import Options
from netkit.errors import Conflict, NetkitError, SpecError

NAMESPACE_LOCK = "\0netkit-daemon"
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_CREDENTIALS = struct.Struct("3i")
log = logging.getLogger(__name__)


def serve(options: Options) -> int:
    """Run the daemon until it is told to end; returns the exit code. Errors are told on stderr."""
    logging.basicConfig(format=_FORMAT, level=options.log_level.upper(), stream=sys.stderr)
    try:
        recovery.check(options)
        checks.demand()
        with _state_lock(Path(options.state_dir)), _namespace_lock():
            asyncio.run(_run(options))
    except NetkitError as err:
        sys.stderr.write(f"netkit: {err.message}\n")
        if err.hint:
            sys.stderr.write(f"hint: {err.hint}\n")
        return err.exit_code
    return 0


async def _run(options: Options) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # Listening comes first: whoever connects while we take over waits, and is then answered.
    with _listening(options.hosts) as sockets:
        service = await recovery.take_over(options, Events())
        try:
            runner = await server.serve(server.application(service, options.state_dir), sockets)
            log.info("ready on %s", ", ".join(options.hosts))
            try:
                await stopped.wait()
            finally:
                await runner.cleanup()
        finally:
            service.close()
    log.info("stopped; containers go on")


@contextlib.contextmanager
def _listening(addresses: Sequence[str]) -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    names: list[str] = []  # asked for now: by the end the sockets are closed
    try:
        for address in addresses:
            sockets.append(server.listen(address))
            if sockets[-1].family == socket.AF_UNIX:
                names.append(sockets[-1].getsockname())
        yield sockets
    finally:
        server.remove(names)


@contextlib.contextmanager
def _state_lock(state_dir: Path) -> Iterator[None]:
    """The state folder is ours alone, and `daemon.pid` in it says whose. Raises Conflict.

    A folder made for a daemon that is then refused goes again, unless something is in it by then.
    """
    made = [folder for folder in (state_dir, *state_dir.parents) if not folder.exists()]
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise SpecError(
            f"cannot use state folder {state_dir}: {err.strerror}", hint="choose another with --state-dir"
        ) from err
    pid_file = state_dir / "daemon.pid"
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise Conflict(
                f"a daemon uses state folder {state_dir} already{_named(_read(pid_file))}",
                hint="stop it, or choose another folder with --state-dir",
            ) from err
        pid_file.write_text(f"{os.getpid()}\n")
        yield
        pid_file.unlink(missing_ok=True)
    except NetkitError:
        if made:
            _take_back(made, pid_file, state_dir / "lock")
        raise
    finally:
        os.close(descriptor)


def _take_back(made: Sequence[Path], *files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: it has been used, or somebody else's things are in it
        for folder in made:
            folder.rmdir()


@contextlib.contextmanager
def _namespace_lock() -> Iterator[None]:
    """Abstract sockets belong to a network namespace, so one name is one lock for each."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.bind(NAMESPACE_LOCK)
        except OSError as err:
            raise Conflict(
                f"a daemon serves this network namespace already{_named(_lock_holder())}",
                hint="stop it, or start this one in another namespace",
            ) from err
        sock.listen(4096)
        yield


def _lock_holder() -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # nobody accepts: a full queue is not to be waited for
        try:
            probe.connect(NAMESPACE_LOCK)
        except OSError:
            return ""
        data = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return str(_CREDENTIALS.unpack(data)[0])


def _named(pid: str) -> str:
    return f": process {pid}" if pid else ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
