"""Containers for the runtime's tests: one state folder with an image, and what is needed around it."""

import contextlib
import os
from pathlib import Path

from netkit.core import bundle
from netkit.kernel import libc
from netkit.model import paths
from netkit.model.resource import File, Mount, Process
from netkit.model.spec import Container, Host
from netkit.runtime.containers import Runtime
from netkit.runtime.files import FileDriver
from netkit.runtime.images import Images
from netkit.runtime.overlay import OverlayDriver
from netkit.runtime.places import Places
from netkit.runtime.process import ProcessDriver
from netkit.testing.images import busybox_tar


class Boxes:
    """Makes containers by hand, in the order in which the engine does; `close` takes all away."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.places = Places(self.state)
        self.host = Host(state_dir=str(self.state))
        self.files, self.overlays = FileDriver(self.places), OverlayDriver(self.places)
        self.processes, self.runtime = ProcessDriver(self.places), Runtime(self.places)
        self.images = Images(self.state / "images")
        with open(busybox_tar(folder / "box.tar"), "rb") as tar:
            self.image = self.images.import_tar(tar, "box")
        (self.state / "netns").mkdir()
        self._namespaces: list[str] = []

    def container(self, name: str, *argv: str, **fields: object) -> Container:
        known = {"image": "box", "image_id": self.image.id, "lowers": self.image.lowers, **fields}
        new_id = (name.encode().hex() + "0" * 64)[:64]
        return Container(id=new_id, name=name, created="2026-01-01T00:00:00Z", command=argv, **known)

    def resources(self, container: Container) -> tuple[list[File], Mount, Process]:
        state, folder = str(self.state), paths.folder(str(self.state), container.id)
        owner = container.owner
        files = [
            File(path=at, content=f"{Path(at).name} of {container.name}\n", owner=owner)
            for at in paths.files(state, container.id).values()
        ]
        rootfs = paths.rootfs(state, container.id)
        mount = Mount(
            target=rootfs,
            lowers=container.lowers,
            upper=f"{folder}/upper",
            work=f"{folder}/work",
            owner=owner,
        )
        process = Process(
            container=container.id,
            config=bundle.config(container, self.host),
            terminal=container.terminal,
            stdin=container.stdin,
            stdin_once=container.stdin_once,
            namespace=paths.namespace(state, container),
            rootfs=rootfs,
            files=tuple(file.path for file in files),
            owner=owner,
        )
        return files, mount, process

    def create(self, name: str, *argv: str, **fields: object) -> Container:
        container = self.container(name, *argv, **fields)
        files, mount, process = self.resources(container)
        namespace = process.namespace
        if namespace and not os.path.exists(namespace):
            libc.new_namespace(namespace)
            self._namespaces.append(namespace)
        for file in files:
            self.files.create(file)
        self.overlays.create(mount)
        self.processes.create(process)
        return container

    def run(self, name: str, *argv: str, timeout_s: float = 20, **fields: object) -> tuple[int, str]:
        """Run to the end: exit code and what it printed."""
        container = self.create(name, *argv, **fields)
        self.runtime.start(container.id)
        code = self.runtime.wait(container.id, timeout_s)
        return code, self.printed(container)

    def printed(self, container: Container) -> str:
        log = self.places.folder(container.id) / "ctr.log"
        return "".join(line.split(" ", 3)[3] for line in log.read_text().splitlines(keepends=True))

    def remove(self, container: Container) -> None:
        files, mount, process = self.resources(container)
        self.processes.delete(process)
        self.overlays.delete(mount)
        for file in files:
            self.files.delete(file)
        self.runtime.remove(container.id)

    def close(self) -> None:
        for process in list(self.processes.observe(None)):
            self.processes.delete(process)
        for mount in list(self.overlays.observe(None)):
            self.overlays.delete(mount)
        for namespace in self._namespaces:
            libc.umount(namespace, libc.MNT_DETACH)
            os.unlink(namespace)

    def left(self) -> list[str]:
        """What is still there of this state folder: processes, mounts, cgroups, runtime state."""
        state = str(self.state)
        found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if state in line]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and entry.name != str(os.getpid()):
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().decode(errors="replace")
                    found += [f"{entry.name} {words}"] if state in words else []
                    inside = str(self.places.run) in words
                    found += [f"{entry.name} {words}"] if inside else []
        group = bundle.cgroup(state, "").rstrip("/")
        found += [str(at) for at in Path("/sys/fs/cgroup").glob(f"*{group}")]
        found += [str(self.places.run)] if self.places.run.exists() else []
        return found
