"""The verbs of containers: start, signal, look at, follow, attach, exec, forget.

`Runtime` is one state folder's containers. Making and ending them is the driver's (`process`);
what is here acts on containers that are there, and reads what they left. Methods that are not
`async` may block for some ten milliseconds and may be called in any thread; the others belong to
the event loop.

    runtime = Runtime(Places("/var/lib/netkit"))
    runtime.start(container_id)
    descriptor = runtime.exit_descriptor(container_id)   # readable once `status` says exited
"""

import asyncio
import logging
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection

import msgspec

from netkit.errors import ApplyError, Conflict, SpecError
from netkit.kernel.command import run
from netkit.runtime import attach, cgroup, detect, execution, folder, logs, monitor
from netkit.runtime.attach import Session
from netkit.runtime.execution import Command, Execution
from netkit.runtime.folder import Folder
from netkit.runtime.gate import let_go
from netkit.runtime.places import Places

log = logging.getLogger(__name__)

UNKNOWN_EXIT = 255  # it ended while nobody watched: the host was rebooted, the monitor killed
_SETTLE_S = 10.0
_TAKEN_S = 2.0


class State(msgspec.Struct, frozen=True):
    """What a container does: status created, running, restarting or exited; times in RFC 3339, UTC, or ""."""

    status: str
    pid: int = 0
    exit_code: int = 0
    started: str = ""
    finished: str = ""
    oom: bool = False
    error: str = ""


class Runtime:
    """The containers below one state folder."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Session]] = defaultdict(list)

    @property
    def name(self) -> str:
        """The OCI runtime in use, `runc` or `crun`. Raises Unsupported where there is none."""
        return detect.tools().name

    def start(self, container_id: str) -> None:
        """Let a created container's process go. Raises ApplyError."""
        box = self._folder(container_id)
        self._connect_waiting(box)
        (box.path / "started").touch()
        try:
            _let_go(box)
        except BaseException:
            box.clear("started")
            raise

    def status(self, container_id: str) -> State:
        """What it does now, or how it ended. Starts no program."""
        box = self._folder(container_id)
        pid = box.process()
        if not pid and not box.ended() and (watcher := box.monitor()):
            folder.await_end(watcher, _SETTLE_S)  # it has ended, and is about to be written down
        started = box.moment("started")
        if pid:
            return State("created" if box.unstarted() else "running", pid, started=started)
        return State(
            "exited",
            exit_code=box.exit_code(UNKNOWN_EXIT),
            started=started,
            finished=box.moment("exit"),
            oom=(box.path / "oom").exists(),
        )

    def exit_descriptor(self, container_id: str) -> int:
        """A descriptor that becomes readable when the exit code is there; the caller closes it."""
        return folder.gone_descriptor(self._folder(container_id).monitor())

    def wait(self, container_id: str, timeout_s: float) -> int:
        """The exit code. Raises ApplyError when the container runs for longer."""
        if not folder.await_end(self._folder(container_id).monitor(), timeout_s):
            raise ApplyError(f"container {container_id[:12]} still runs", hint=f"waited {timeout_s:g} s")
        return self.status(container_id).exit_code

    def signal(self, container_id: str, number: int) -> None:
        """Send a signal to the first process. Raises Conflict where there is none."""
        box = self._folder(container_id)
        pid = box.process()
        if not pid or not folder.kill(pid, number, box.monitor()):
            raise Conflict(f"container {container_id[:12]} is not running", hint="start it first")

    def resize(self, container_id: str, height: int, width: int) -> None:
        """Size the terminal, in characters. Raises Conflict where nothing runs."""
        attach.resize(self._folder(container_id).path, height, width)

    def pids(self, container_id: str) -> list[int]:
        """All processes of the container, by the host's numbers."""
        box = self._folder(container_id)
        return sorted(cgroup.members(box.cgroup())) if box.process() else []

    def processes(self, container_id: str, ps_args: str) -> tuple[list[str], list[list[str]]]:
        """Column titles and rows of `ps ps_args` for the container's processes."""
        lines = run(["ps", *ps_args.split()], check=True).stdout.splitlines()
        titles = lines[0].split()
        if "PID" not in titles:
            raise SpecError(f"ps {ps_args} prints no PID column", hint="for example -ef")
        column, own = titles.index("PID"), {str(pid) for pid in self.pids(container_id)}
        rows = [line.split(None, len(titles) - 1) for line in lines[1:]]
        return titles, [row for row in rows if row[column] in own]

    def remove(self, container_id: str) -> None:
        """Forget a container that has been deleted: its log, its files, its folder."""
        self.give_up(container_id)
        shutil.rmtree(self._folder(container_id).path, ignore_errors=True)

    def sweep(self, known: Collection[str]) -> list[str]:
        """Remove the folders of containers that nobody knows and that nothing runs in; which ones."""
        place = self._places.containers
        found = [entry.name for entry in place.iterdir()] if place.is_dir() else []
        gone = [name for name in found if name not in known and not self._folder(name).anything()]
        for name in gone:
            self.remove(name)
        return gone

    async def attach(self, container_id: str, *, stdin: bool = False) -> Session:
        """Attach to a container, or to the next run of one that does not run yet.

        `stdin` says that the session writes, which the container must have been made for.
        """
        session = Session(writes=stdin)
        box = self._folder(container_id)
        with self._lock:
            if not box.process():
                self._waiting[container_id].append(session)
                return session
        await asyncio.to_thread(session.connect, box.path)
        return session

    def give_up(self, container_id: str) -> None:
        """End the sessions that wait for a start which will not come."""
        with self._lock:
            waiting = self._waiting.pop(container_id, [])
        for session in waiting:
            session.give_up()

    async def execute(self, container_id: str, exec_id: str, command: Command) -> Execution:
        """Run a program in a running container. Raises NotRunnable, Conflict, ApplyError."""
        box = self._folder(container_id)
        if not box.process() or box.unstarted():
            raise Conflict(f"container {container_id[:12]} is not running", hint="start it first")
        return await execution.begin(box, exec_id, command)

    def logs(
        self,
        container_id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float = 0.0,
        until: float | None = None,
    ) -> AsyncIterator[logs.Line]:
        """What it printed; with `follow` until it ends. Times in seconds since 1970."""
        box = self._folder(container_id)
        wanted = logs.Wanted(tail=tail, since=since, until=until)
        ended = (lambda: not box.process()) if follow else (lambda: True)
        return logs.read(box.path / folder.LOG, wanted, ended)

    def _folder(self, container_id: str) -> Folder:
        return Folder(self._places, container_id)

    def _connect_waiting(self, box: Folder) -> None:
        with self._lock:
            waiting = self._waiting.pop(box.id, [])
        monitor = box.monitor()
        awaited = folder.descriptors(monitor)
        for session in waiting:
            try:
                session.connect(box.path)
                awaited += 1
            except OSError as err:
                log.warning("a client is not attached to container %s: %s", box.id[:12], err)
                session.give_up()
        if len(waiting) > 1:
            _await_descriptors(monitor, awaited)


def _await_descriptors(pid: int, count: int) -> None:
    """Wait until the monitor has taken its clients, which it does one at a time and output in between.

    Whom it has not taken yet does not get what it reads; the first is always taken before.
    """
    deadline = time.monotonic() + _TAKEN_S
    while 0 < folder.descriptors(pid) < count and time.monotonic() < deadline:
        time.sleep(0.001)


def _let_go(box: Folder) -> None:
    tools = detect.tools()
    if tools.name == "runc":
        let_go(box.gate, box.process())
    else:  # whose init waits at the other end of its fifo
        monitor.command(tools, box.runtime_root, ("start", box.id), "start")
