"""The driver of containers: makes them with the OCI runtime under a monitor, and ends them.

A container whose process has ended is still there until it is deleted: ending is an event, not a
difference to be mended. One that cannot be relied on (its monitor was killed, the host was
rebooted, a creation was cut short) is observed with an empty config, which is never wanted, so
that a reconcile replaces or removes it. How it ended stays in its folder for `containers.status`.

    driver = ProcessDriver(Places("/var/lib/netkit"))
"""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from netkit.errors import ApplyError
from netkit.kernel.driver import OneByOne
from netkit.model.resource import Process, Resource
from netkit.runtime import cgroup, detect, monitor
from netkit.runtime.devices import host_devices
from netkit.runtime.folder import ENDED, LOG, MADE, WANTED, Folder, await_end, kill, monitor_of
from netkit.runtime.places import Places, private_folder, write_private

_END_S = 10.0
_ANY_DEVICE = {"allow": True, "access": "rwm"}


class ProcessDriver(OneByOne):
    """The hands for `Process`."""

    kinds = frozenset({"process"})
    waits = True

    def __init__(self, places: Places) -> None:
        self._places = places

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        ids = self._all() if scope is None else (each.name_of() for each in scope)
        for container_id in ids:
            folder = Folder(self._places, container_id)
            if folder.anything():
                yield _observed(folder)

    def create(self, wanted: Resource) -> None:
        assert isinstance(wanted, Process)
        folder = Folder(self._places, wanted.container)
        if folder.anything():
            if folder.whole() and _observed(folder) == wanted:
                return
            self.delete(wanted)
        _prepare(folder, wanted)
        try:
            monitor.start(detect.tools(), _launch(folder, wanted))
        except Exception:
            self.delete(wanted)
            raise

    def delete(self, observed: Resource) -> None:
        folder = Folder(self._places, observed.name_of())
        group = folder.cgroup()
        _end(folder)
        _end_rest(group)
        _forget(folder, group)
        shutil.rmtree(folder.path / "exec", ignore_errors=True)
        folder.clear(*MADE)
        cgroup.remove_empty(folder.runtime_root, folder.runtime_root.parent)
        folder.clear(WANTED)  # last: as long as it is there, there is something to delete

    def _all(self) -> Iterator[str]:
        """Whoever has a folder, and whoever only the runtime knows."""
        roots = (self._places.containers, self._places.runtime_root)
        yield from sorted({entry.name for root in roots for entry in _entries(root)})


def _entries(place: Path) -> list[Path]:
    return [entry for entry in place.iterdir() if entry.is_dir()] if place.is_dir() else []


def _observed(folder: Folder) -> Process:
    text = folder.read(WANTED)
    try:
        made = msgspec.json.decode(text, type=Process)
    except msgspec.DecodeError:  # written only in part, or not at all
        return Process(container=folder.id, config="", owner=f"container/{folder.id[:12]}")
    return made if folder.whole() else msgspec.structs.replace(made, config="")


def _prepare(folder: Folder, wanted: Process) -> None:
    """Write the config; nothing of an earlier run may be taken for this one's."""
    private_folder(folder.path)
    private_folder(folder.runtime_root)
    folder.clear(*ENDED)
    write_private(folder.path / WANTED, msgspec.json.encode(wanted))
    config = possible(wanted.config, detect.capabilities(), host_devices)
    write_private(folder.path / "config.json", config.encode())


def possible(
    config: str, capabilities: frozenset[str], devices: Callable[[], Sequence[Mapping[str, Any]]]
) -> str:
    """The config as this host can have it.

    It loses the capabilities that we have not got: the runtime would refuse to hand them on. Who
    may open every device has them all; they are not in the wanted config, since they come and go.
    """
    asked: dict[str, Any] = json.loads(config)
    sets = asked["process"].get("capabilities", {})
    if not all(capabilities.issuperset(names) for names in sets.values()):
        sets = {kind: [name for name in names if name in capabilities] for kind, names in sets.items()}
        asked["process"]["capabilities"] = sets
    if _ANY_DEVICE in asked.get("linux", {}).get("resources", {}).get("devices", ()):
        asked["linux"]["devices"] = list(devices())
    return json.dumps(asked)


def _launch(folder: Folder, wanted: Process) -> monitor.Launch:
    options = ["--terminal"] if wanted.terminal else []
    if wanted.stdin:
        options.append("--stdin")
        # The monitor closes stdin with the first client that leaves, unless told otherwise.
        options += [] if wanted.stdin_once and not wanted.terminal else ["--leave-stdin-open"]
    return monitor.Launch(
        folder=folder.path,
        container=folder.id,
        name=folder.id,
        root=folder.runtime_root,
        log=f"k8s-file:{LOG}",
        options=tuple(options),
    )


def _end(folder: Folder) -> None:
    """Kill the first process, with which all others go, and wait until the monitors have gone."""
    watcher = folder.monitor()
    if pid := folder.process():
        kill(pid, signal.SIGKILL, watcher)
    elif watcher and not folder.ended():
        kill_monitor(watcher, folder.id)  # it has not come as far as having a container
    if watcher and not await_end(watcher, _END_S):
        kill_monitor(watcher, folder.id)
        if not await_end(watcher, _END_S):
            raise ApplyError(f"the monitor of container {folder.id[:12]} does not end", hint=f"pid {watcher}")
    for place in _entries(folder.path / "exec"):
        await_end(monitor_of(place, place.name), _END_S)


def _end_rest(group: str) -> None:
    """Kill what lives on without its monitor; who has joined the cgroup from outside goes too."""
    for pid in cgroup.members(group):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        await_end(pid, _END_S)


def _forget(folder: Folder, group: str) -> None:
    """Take away what the runtime keeps of a container whose processes have ended.

    That is its cgroups and its state; only what it alone can mend is left to its own, slower program.
    """
    if group and cgroup.remove(group):
        shutil.rmtree(folder.runtime_state, ignore_errors=True)
    if folder.runtime_state.exists():
        words = ("delete", "--force", folder.id)
        monitor.command(detect.tools(), folder.runtime_root, words, "delete")
        cgroup.remove(group)


def kill_monitor(pid: int, name: str) -> None:
    """End a monitor that will not end by itself."""
    words = Path(f"/proc/{pid}/cmdline")
    if words.exists() and name in words.read_text(errors="replace"):
        os.kill(pid, signal.SIGKILL)
