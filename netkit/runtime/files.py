"""The driver of the files that are mounted into a container: hosts, hostname, resolv.conf.

A file is rewritten in place, because the container's mount holds its inode: a new file under the
old name would never be seen inside. Readers may see it half written for a moment; it is written
with one call, so that the moment is short. The owner cannot be kept with a file; without a scope
it is told from the folder that the file lies in.

    driver = FileDriver(Places("/var/lib/netkit"))
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from netkit.kernel.driver import OneByOne
from netkit.model import paths
from netkit.model.resource import File, Resource
from netkit.runtime.places import Places


class FileDriver(OneByOne):
    """The hands for `File`."""

    kinds = frozenset({"file"})

    def __init__(self, places: Places) -> None:
        self._containers = places.containers

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        wished = self._all() if scope is None else ((Path(each.name_of()), each.owner) for each in scope)
        for path, owner in wished:
            try:
                content = path.read_text(errors="surrogateescape")
            except FileNotFoundError:
                continue
            yield File(path=str(path), content=content, owner=owner)

    def create(self, wanted: Resource) -> None:
        assert isinstance(wanted, File)
        os.makedirs(os.path.dirname(wanted.path), exist_ok=True)
        _write(wanted)

    def modify(self, observed: Resource, wanted: Resource) -> None:
        assert isinstance(wanted, File)
        _write(wanted)

    def delete(self, observed: Resource) -> None:
        Path(observed.name_of()).unlink(missing_ok=True)

    def _all(self) -> Iterator[tuple[Path, str]]:
        for folder in sorted(self._containers.iterdir()) if self._containers.is_dir() else ():
            for name in paths.FILES:
                yield folder / name, f"container/{folder.name[:12]}"


def _write(wanted: File) -> None:
    """Over the old content, then cut: at no time is the file empty for longer than it takes to say."""
    data = wanted.content.encode(errors="surrogateescape")
    descriptor = os.open(wanted.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.ftruncate(descriptor, len(data))
        os.fchmod(descriptor, 0o644)  # whatever our umask: users in the container read it
    finally:
        os.close(descriptor)
