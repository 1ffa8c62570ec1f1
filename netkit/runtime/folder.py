"""What lies in a container's folder, and what it says about the container.

    wanted.json   the resource the container was made from      config.json  what the runtime reads
    pidfile       the container's first process                 conmon.pid   its monitor
    exit          the exit code, written when it has ended      oom          it ran out of memory
    started       when its process was let go (mtime)           ctr.log      what it printed
    attach, ctl   the monitor's socket and control pipe         exec/ID/     the same for an exec

The runtime keeps its own state elsewhere (`places`). Only files and /proc are read here: no
program is started. Reading never fails for a file that is missing.
"""

import os
import re
import select
import signal
from datetime import UTC, datetime
from pathlib import Path

from netkit.runtime.places import Places

# Everything the monitor and we put there; the log stays until the container is forgotten.
MADE = ("config.json", "pidfile", "conmon.pid", "attach", "ctl", "winsz")
ENDED = ("exit", "oom", "started")
WANTED = "wanted.json"
LOG = "ctr.log"
_EXEC_FIFO = "exec.fifo"
_WRITES_S = 5.0  # within which a monitor writes how its container ended
_CGROUP = re.compile(r'"cgroupsPath": ?"([^"]*)"')


class Folder:
    """One container's folder below a state folder."""

    def __init__(self, places: Places, container_id: str) -> None:
        self.id = container_id
        self.path = places.folder(container_id)
        self.runtime_root = places.runtime_root
        self.runtime_state = places.runtime_state(container_id)
        self.gate = self.runtime_state / _EXEC_FIFO

    def read(self, name: str) -> str:
        """A file's text, "" where there is none."""
        return read(self.path / name)

    def monitor(self) -> int:
        """The pid of the living monitor, 0 where there is none."""
        return monitor_of(self.path, self.id)

    def process(self) -> int:
        """The pid of the container's first process, 0 where it has ended."""
        monitor, pid = self.monitor(), _number(self.read("pidfile"))
        if not monitor or not pid or self.ended():
            return 0
        return pid if parent_of(pid) == monitor else 0

    def ended(self) -> bool:
        return (self.path / "exit").exists()

    def unstarted(self) -> bool:
        """Whether the container has been created and waits to be let go."""
        return self.gate.exists()

    def exit_code(self, unknown: int) -> int:
        return _number(self.read("exit"), unknown)

    def moment(self, name: str) -> str:
        """When a file was written, as RFC 3339 in UTC; "" where there is none."""
        try:
            return rfc3339((self.path / name).stat().st_mtime_ns)
        except FileNotFoundError:
            return ""

    def anything(self) -> bool:
        """Whether anything of a process is there, be it whole or a wreck."""
        return (self.path / WANTED).exists() or self.runtime_state.exists() or self.monitor() > 0

    def whole(self) -> bool:
        """Whether the container can be relied on: it is watched, or it has ended and said how."""
        known = (self.path / WANTED).exists() and self.runtime_state.exists()
        return known and (self.ended() or self.process() > 0 or self._has_just_ended())

    def _has_just_ended(self) -> bool:
        """Whether its monitor has written down how it ended since we looked, or does so while we wait."""
        if self.read("pidfile") and (watcher := self.monitor()):
            await_end(watcher, _WRITES_S)
        return self.ended()

    def cgroup(self) -> str:
        """The path of its cgroup, "" where it was never configured."""
        found = _CGROUP.search(self.read("config.json"))
        return found[1] if found else ""

    def clear(self, *names: str) -> None:
        for name in names:
            (self.path / name).unlink(missing_ok=True)


def read(path: Path) -> str:
    """A file's text, "" where there is none."""
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return ""


def monitor_of(path: Path, name: str) -> int:
    """The living monitor that wrote `conmon.pid` in `path`, 0 where there is none.

    A pid may have been given to somebody else meanwhile: the command line tells.
    """
    pid = _number(read(path / "conmon.pid"))
    words = read(Path(f"/proc/{pid}/cmdline")).split("\0") if pid else []
    return pid if words and words[0].endswith("conmon") and name in words else 0


def parent_of(pid: int) -> int:
    """The parent's pid, 0 where there is no such process. proc(5): field 4, after the name in ()."""
    stat = read(Path(f"/proc/{pid}/stat"))
    return int(stat.rpartition(")")[2].split()[1]) if stat else 0


def descriptors(pid: int) -> int:
    """How many descriptors a process has open, 0 where it has gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except FileNotFoundError:
        return 0


def kill(pid: int, number: int, parent: int) -> bool:
    """Signal a process that is `parent`'s child; False where it has gone. No other is ever hit."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if parent_of(pid) != parent:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def gone_descriptor(pid: int) -> int:
    """A descriptor that is readable once the process has ended; the caller closes it."""
    try:
        return os.pidfd_open(pid) if pid else os.eventfd(1)
    except ProcessLookupError:
        return os.eventfd(1)


def await_end(pid: int, timeout_s: float) -> bool:
    """Wait for a process that need not be our child; False where it is still there."""
    descriptor = gone_descriptor(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)


def rfc3339(moment_ns: int) -> str:
    """Nanoseconds since 1970 as `2026-01-31T12:00:00.123456789Z`."""
    seconds, rest = divmod(moment_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _number(text: str, otherwise: int = 0) -> int:
    return int(text) if text.strip().lstrip("-").isdigit() else otherwise
