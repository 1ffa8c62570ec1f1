"""The driver for containers' roots: an overlay with the image's layers below and a folder on top.

What a container wrote goes with its mount's upper folder when the container is removed, not when
it stops: the folders stay, as its log does, until `Runtime.remove`.

    OverlayDriver(Places(state_dir)).create(Mount(target="…/rootfs", lowers=("/images/box",), …))
"""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from netkit.errors import ApplyError
from netkit.kernel import libc
from netkit.kernel.driver import OneByOne
from netkit.model.resource import Mount, Resource
from netkit.runtime.places import Places


class OverlayDriver(OneByOne):
    """Overlays whose targets are below the folders of containers."""

    kinds = frozenset({"mount"})

    def __init__(self, places: Places) -> None:
        self._places = places

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        if scope is None:
            return self._everything()
        return [mount for mount in scope if isinstance(mount, Mount) and _mounted(mount.target)]

    def create(self, wanted: Resource) -> None:
        if not isinstance(wanted, Mount):
            raise TypeError(f"not a mount: {wanted!r}")
        try:
            for folder in (wanted.target, wanted.upper, wanted.work):
                Path(folder).mkdir(parents=True, exist_ok=True, mode=0o711)
            os.chmod(wanted.upper, 0o755)  # it becomes the container's root folder
            if not _mounted(wanted.target):
                self._mount(wanted)
        except OSError as err:
            raise ApplyError(
                f"cannot mount {wanted.target}: {os.strerror(err.errno or 0)}",
                hint="is the disk full, or overlayfs missing from the kernel?",
            ) from err

    def delete(self, observed: Resource) -> None:
        target = observed.name_of()
        while _mounted(target):
            try:
                libc.umount(target)
            except OSError as err:
                if err.errno != errno.EBUSY:
                    raise
                libc.umount(target, libc.MNT_DETACH)

    def _mount(self, wanted: Mount) -> None:
        lowers = ":".join(_escaped(lower) for lower in wanted.lowers)
        options = f"lowerdir={lowers},upperdir={_escaped(wanted.upper)},workdir={_escaped(wanted.work)}"
        libc.mount("overlay", wanted.target, "overlay", data=options)

    def _everything(self) -> Iterator[Mount]:
        prefix = f"{self._places.containers}/"
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            target = _unescaped(before.split()[4])
            if not (target.startswith(prefix) and after.startswith("overlay ")):
                continue
            options = dict(o.split("=", 1) for o in after.split()[2].split(",") if "=" in o)
            yield Mount(
                target=target,
                lowers=tuple(options.get("lowerdir", "").split(":")),
                upper=options.get("upperdir", ""),
                work=options.get("workdir", ""),
                owner="",
            )


def _mounted(target: str) -> bool:
    """Whether something is mounted on the folder: it is on another device than its parent."""
    try:
        return os.stat(target).st_dev != os.stat(os.path.dirname(target)).st_dev
    except FileNotFoundError:
        return False


def _escaped(path: str) -> str:
    """In mount options a backslash, colon or comma in a path is escaped."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _unescaped(path: str) -> str:
    """mountinfo writes blanks as octal numbers."""
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
