"""The driver for containers' processes: created by the OCI runtime under a conmon each.

A resource is the created container. Starting it, signals and its exit are `runtime.containers`.
conmon is started once for each container, leaves our session, and stays when the daemon goes: it
holds the log, the terminal, the attach socket, and writes the exit code.

    ProcessDriver(Places(state_dir)).create(Process(container="4f1c…", config="{…}", owner="…"))
"""

import contextlib
import json
import os
import re
import select
import shutil
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from netkit.errors import ApplyError
from netkit.kernel.command import run
from netkit.kernel.driver import OneByOne
from netkit.model.resource import Process, Resource
from netkit.runtime import detect
from netkit.runtime.places import Places

_CONMON_ENDS_S = 10
_STARTED = ("pidfile", "conmon.pid", "started", "config.json", "process.json")


class CreateError(ApplyError):
    """The OCI runtime refused; `container_exit_code` is what `docker run` would exit with."""

    status = 400
    exit_code = 12

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"OCI runtime create failed: {reason}", hint="does the command exist in the image?"
        )
        self.container_exit_code = code_of(reason)


class ProcessDriver(OneByOne):
    """Containers known to the OCI runtime of one state folder."""

    kinds = frozenset({"process"})

    def __init__(self, places: Places) -> None:
        self._places = places

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        if scope is None:
            root = self._places.containers
            ids = [folder.name for folder in sorted(root.iterdir())] + self._runtime_ids()
        else:
            ids = [resource.name_of() for resource in scope]
        return filter(None, map(self._observed, dict.fromkeys(ids)))

    def create(self, wanted: Resource) -> None:
        if not isinstance(wanted, Process):
            raise TypeError(f"not a process: {wanted!r}")
        if self._observed(wanted.container) == wanted:
            return
        self.delete(wanted)
        folder = self._places.folder(wanted.container)
        try:
            (folder / "exit").mkdir(parents=True, exist_ok=True, mode=0o700)
            self._places.sockets(wanted.container).mkdir(parents=True, exist_ok=True, mode=0o700)
            (folder / "config.json").write_text(wanted.config)
            (folder / "process.json").write_bytes(msgspec.json.encode(wanted))
        except OSError as err:
            raise ApplyError(f"cannot write {folder}: {err.strerror}", hint="is the disk full?") from err
        try:
            self._start_monitor(wanted)
        except BaseException:
            self.delete(wanted)
            raise

    def delete(self, observed: Resource) -> None:
        container_id = observed.name_of()
        folder = self._places.folder(container_id)
        if self._places.runtime_state(container_id).exists():
            done = run(self.runtime_argv("delete", "--force", container_id), check=False)
            if done.code != 0 and self._places.runtime_state(container_id).exists():
                raise ApplyError(f"cannot remove container {container_id[:12]}: {done.stderr.strip()}")
        _end_monitor(folder / "conmon.pid", container_id)
        for name in _STARTED:
            (folder / name).unlink(missing_ok=True)
        for name in ("ctl", "winsz", "attach", "shm"):
            _remove(folder / name)
        _remove(folder / "exit")
        _remove(self._places.sockets(container_id))

    def runtime_argv(self, *words: str) -> list[str]:
        """A command line of the OCI runtime with its state where this daemon keeps it."""
        return [detect.find(), f"--root={self._places.runtime_root}", *words]

    def _observed(self, container_id: str) -> Process | None:
        """What was created, where the runtime knows it; else what is left of it, to be removed."""
        folder = self._places.folder(container_id)
        known = self._places.runtime_state(container_id).exists()
        try:
            process = msgspec.json.decode((folder / "process.json").read_bytes(), type=Process)
        except (FileNotFoundError, msgspec.MsgspecError):
            return Process(container=container_id, config="", owner="") if known else None
        if not known:
            return msgspec.structs.replace(process, config="")
        return process

    def _runtime_ids(self) -> list[str]:
        root = self._places.runtime_root
        return sorted(entry.name for entry in root.iterdir()) if root.exists() else []

    def _start_monitor(self, wanted: Process) -> None:
        """Start conmon and wait for its word on what the OCI runtime said."""
        reading, writing = os.pipe()
        try:
            environment = {"_OCI_SYNCPIPE": str(writing)}
            run(
                self._monitor_argv(wanted), env=environment, pass_fds=(writing,), timeout_s=60
            )
            os.close(writing)
            writing = -1
            told = _read_line(reading)
        finally:
            os.close(reading)
            if writing >= 0:
                os.close(writing)
        answer = json.loads(told) if told else {"data": -1, "message": "conmon said nothing"}
        if answer.get("data", -1) < 0:
            raise CreateError(_reason(answer.get("message", ""), self._places.folder(wanted.container)))

    def _monitor_argv(self, wanted: Process) -> list[str]:
        container_id = wanted.container
        folder = self._places.folder(container_id)
        argv = [detect.monitor(), "--api-version", "1", "--cid", container_id, "--cuuid", container_id]
        argv += ["--name", container_id[:12], "--runtime", detect.find(), "--bundle", str(folder)]
        argv += ["--container-pidfile", str(folder / "pidfile"), "--exit-dir", str(folder / "exit")]
        argv += ["--conmon-pidfile", str(folder / "conmon.pid"), "--persist-dir", str(folder / "exit")]
        argv += ["--log-path", f"k8s-file:{folder / 'ctr.log'}", "--log-level", "error"]
        argv += ["--socket-dir-path", str(self._places.run)]
        argv += [f"--runtime-arg=--root={self._places.runtime_root}"]
        argv += ["--terminal"] if wanted.terminal else []
        argv += ["--stdin"] if wanted.stdin else []
        return argv


def code_of(reason: str) -> int:
    """127 where the command does not exist, 126 where it cannot be executed, else 128."""
    if re.search(r"executable file not found|no such file or directory", reason, re.IGNORECASE):
        return 127
    return 126 if re.search(r"permission denied|is a directory", reason, re.IGNORECASE) else 128


def _end_monitor(pidfile: Path, container_id: str) -> None:
    """Wait until conmon has gone; it goes by itself when its container has."""
    try:
        pid = int(pidfile.read_text())
        descriptor = os.pidfd_open(pid)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        if container_id.encode() not in line:
            return  # the number belongs to another process by now
        if not select.select([descriptor], [], [], _CONMON_ENDS_S)[0]:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], 1)
    except (FileNotFoundError, ProcessLookupError):
        return
    finally:
        os.close(descriptor)


def _read_line(descriptor: int) -> str:
    told = b""
    while not told.endswith(b"\n") and select.select([descriptor], [], [], 60)[0]:
        chunk = os.read(descriptor, 65536)
        if not chunk:
            break
        told += chunk
    return told.decode(errors="replace").strip()


def _reason(message: str, folder: Path) -> str:
    """What the OCI runtime said, without its log's dressing."""
    del folder
    found = re.findall(r'msg="((?:[^"\\]|\\.)*)"', message) or [message]
    text = found[-1].replace('\\"', '"').strip()
    return text or "the OCI runtime said nothing"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
