"""The host's device nodes, as the OCI runtime makes them again for a privileged container.

Left out is what a container has of its own (terminals, shared memory, the console), as Docker
does. Nothing is opened. Source: the OCI runtime specification 1.0, Linux devices.

    >>> [device["path"] for device in host_devices() if "tun" in device["path"]]
    ['/dev/net/tun']
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any

_OWN = frozenset({"pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev"})


def host_devices(folder: str = "/dev") -> list[dict[str, Any]]:
    """Every character and block device below `folder`, by path."""
    return sorted(_below(folder), key=lambda device: str(device["path"]))


def _below(folder: str) -> Iterator[dict[str, Any]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in _OWN:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path)
                continue
            with contextlib.suppress(FileNotFoundError):  # a device may be unplugged at any time
                yield from _device(entry.path, entry.stat(follow_symlinks=False))


def _device(path: str, state: os.stat_result) -> Iterator[dict[str, Any]]:
    kind = "c" if stat.S_ISCHR(state.st_mode) else "b" if stat.S_ISBLK(state.st_mode) else ""
    if kind:
        yield {
            "path": path,
            "type": kind,
            "major": os.major(state.st_rdev),
            "minor": os.minor(state.st_rdev),
            "fileMode": stat.S_IMODE(state.st_mode),
            "uid": state.st_uid,
            "gid": state.st_gid,
        }
