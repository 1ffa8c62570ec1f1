"""What is done with created containers: start, signal, ask, follow to the end, forget.

    runtime = Runtime(Places(state_dir))
    runtime.start("4f1c…")
    runtime.status("4f1c…").status
"""

import datetime
import os
import shutil
import signal as signals
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from netkit.errors import ApplyError, Conflict, NotFound
from netkit.kernel.command import run
from netkit.runtime import detect
from netkit.runtime.attach import Attachments, AttachSession
from netkit.runtime.exec import ExecSession, ExecSpec
from netkit.runtime.exec import start as exec_start
from netkit.runtime.logs import Line
from netkit.runtime.logs import read as read_log
from netkit.runtime.places import Places
from netkit.runtime.process import CreateError


class State(msgspec.Struct, frozen=True):
    """What a container does: status created, running, exited or dead; times in RFC 3339."""

    status: str
    pid: int = 0
    exit_code: int = 0
    started: str = ""
    finished: str = ""
    oom: bool = False
    error: str = ""


class StartError(CreateError):
    """The process could not be started."""

    exit_code = 13


class Runtime:
    """The containers of one state folder."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._attachments = Attachments(places)

    async def attach(self, container_id: str, *, stdin: bool) -> AttachSession:
        """The container's streams: at once where it runs, else from its start on."""
        del stdin  # whoever does not want to write does not
        running = self.places.runtime_state(container_id).exists()
        return self._attachments.attach(container_id, running=running)

    async def exec(self, container_id: str, spec: ExecSpec) -> ExecSession:
        """One more process in the container."""
        return await exec_start(self.places, container_id, spec)

    def logs(
        self,
        container_id: str,
        *,
        follow: bool,
        tail: int | None,
        since: float,
        until: float | None,
    ) -> AsyncIterator[Line]:
        """The container's output as it was written down; times in seconds since the epoch."""
        return read_log(
            self.places.folder(container_id) / "ctr.log",
            follow=follow,
            tail=tail,
            since=since,
            until=until,
            alive=lambda: self.status(container_id).status in {"created", "running"},
        )

    def give_up(self, container_id: str) -> None:
        """The container will not be started: whoever waits for its streams sees their end."""
        self._attachments.give_up(container_id)

    def start(self, container_id: str) -> None:
        """Let the created process run, seen by all who attached before. Raises StartError."""
        self._attachments.connect(container_id)
        done = run(self._argv("start", container_id), check=False)
        if done.code != 0:
            raise StartError(done.stderr.strip().rpartition("msg=")[2].strip('"') or "no reason given")
        (self.places.folder(container_id) / "started").write_text(_stamp(datetime.datetime.now(datetime.UTC)))

    def signal(self, container_id: str, number: int) -> None:
        """Send a signal to the container's first process; one that has ended is no error."""
        pid = self._pid(container_id)
        if pid == 0:
            raise Conflict(f"container {container_id[:12]} is not running", hint="start it first")
        try:
            os.kill(pid, signals.Signals(number) if number < 32 else number)
        except ProcessLookupError:
            return

    def status(self, container_id: str) -> State:
        """What it does now; reads files only."""
        started = self._text(container_id, "started")
        exit_file = self.places.exit_file(container_id)
        try:
            code = int(exit_file.read_text())
            finished = datetime.datetime.fromtimestamp(exit_file.stat().st_mtime, datetime.UTC)
            oom = (exit_file.parent / "oom").exists()
            return State("exited", 0, code, started, _stamp(finished), oom)
        except (FileNotFoundError, ValueError):
            pass  # no exit is written: it has not ended, or was never there
        pid = self._pid(container_id)
        if pid == 0:
            return State("dead", exit_code=137, started=started)
        waiting = (self.places.runtime_state(container_id) / "exec.fifo").exists()
        return State("created" if waiting else "running", pid, 0, started)

    def exit_descriptor(self, container_id: str) -> int:
        """A descriptor that becomes readable when the container has ended and its code is written.

        It is the caller's to close.
        """
        try:
            return os.pidfd_open(int(self._text(container_id, "conmon.pid")))
        except (ValueError, ProcessLookupError):
            # It has ended already: a pipe nobody holds open is readable at once.
            reading, writing = os.pipe()
            os.close(writing)
            return reading

    def remove(self, container_id: str) -> None:
        """Forget a container's folder: its log, and what it wrote."""
        self.give_up(container_id)
        shutil.rmtree(self.places.folder(container_id), ignore_errors=True)

    def processes(self, container_id: str, ps_args: str = "-ef") -> tuple[list[str], list[list[str]]]:
        """The titles and rows of `ps` for the container's processes. Raises Conflict, ApplyError."""
        if self._pid(container_id) == 0:
            raise Conflict(f"container {container_id[:12]} is not running", hint="start it first")
        pids = set(run(self._argv("ps", "--format", "json", container_id)).stdout.strip("[]\n ").split(","))
        lines = run(["ps", *ps_args.split()]).stdout.splitlines()
        titles = lines[0].split()
        if "PID" not in titles:
            raise ApplyError("the columns asked for have no PID", hint="add pid to the ps options")
        column = titles.index("PID")
        rows = [line.split(None, len(titles) - 1) for line in lines[1:]]
        return titles, [row for row in rows if len(row) > column and row[column] in pids]

    def resize(self, container_id: str, height: int, width: int) -> None:
        """Tell the container's terminal its size, in characters."""
        self._control(container_id, f"1 {height} {width}\n")

    def _control(self, container_id: str, line: str) -> None:
        """Write to conmon's control pipe."""
        path = self.places.folder(container_id) / "ctl"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as err:
            raise NotFound(f"container {container_id[:12]} has no terminal", hint="is it running?") from err
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def _argv(self, *words: str) -> list[str]:
        return [detect.find(), f"--root={self.places.runtime_root}", *words]

    def _pid(self, container_id: str) -> int:
        """The first process, or 0: the number must still mean this container's."""
        try:
            pid = int(self._text(container_id, "pidfile"))
            state = msgspec.json.decode(
                (self.places.runtime_state(container_id) / "state.json").read_bytes()
            )
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError, ValueError, msgspec.MsgspecError):
            return 0
        alive = fields[0] not in {"Z", "X"}
        return pid if alive and int(fields[19]) == int(state.get("init_process_start", -1)) else 0

    def _text(self, container_id: str, name: str) -> str:
        try:
            return (self.places.folder(container_id) / name).read_text().strip()
        except FileNotFoundError:
            return ""


def _stamp(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


