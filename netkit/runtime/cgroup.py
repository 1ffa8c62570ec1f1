"""A container's cgroups: who is in them, and taking away what nobody is in any more.

The OCI runtime makes and removes a container's own; those above it (`/netkit/…`) stay behind,
and so do all of them where the runtime lost its state. On hosts with cgroup v1 the same path is
in every hierarchy.

    >>> members("/netkit/1a2b3c4d/4f1c")
    {4711, 4712}
"""

import os
from collections.abc import Iterator
from pathlib import Path

from netkit.runtime import detect
from netkit.runtime.folder import read

OURS = "/netkit/"
_ROOT = Path("/sys/fs/cgroup")


def members(cgroup: str) -> set[int]:
    """The processes in a cgroup of ours and below it."""
    if not cgroup.startswith(OURS):
        return set()
    roots = (root / cgroup.lstrip("/") for root in _hierarchies())
    folders = (Path(place) for root in roots for place, _, _ in os.walk(root))
    return {int(word) for folder in folders for word in read(folder / "cgroup.procs").split()}


def remove(cgroup: str) -> bool:
    """Remove a cgroup of ours and those above it, as far as they are empty; whether it has gone."""
    if not cgroup.startswith(OURS):
        return False
    names = [name.lstrip("/") for name in (cgroup, *map(str, Path(cgroup).parents)) if name != "/"]
    for root in _hierarchies():
        remove_empty(*(root / name for name in names))
    return not any((root / names[0]).exists() for root in _hierarchies())


def remove_empty(*folders: Path) -> None:
    """Remove folders from the innermost out, until one is in use."""
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return


def _hierarchies() -> Iterator[Path]:
    if detect.only_v2():
        yield _ROOT
    else:
        yield from (entry for entry in _ROOT.iterdir() if entry.is_dir())
