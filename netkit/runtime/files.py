"""The driver for the files that are mounted over a container's image: hosts, hostname, resolv.conf.

They are rewritten in place: the container's mount holds the file itself, not its name.

    FileDriver(Places(state_dir)).create(File(path="…/hosts", content="127.0.0.1 localhost\\n", owner="…"))
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from netkit.errors import ApplyError
from netkit.kernel.driver import OneByOne
from netkit.model.paths import FILES
from netkit.model.resource import File, Resource
from netkit.runtime.places import Places


class FileDriver(OneByOne):
    """Files below the folders of containers."""

    kinds = frozenset({"file"})

    def __init__(self, places: Places) -> None:
        self._places = places

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        if scope is None:
            folders = sorted(self._places.containers.iterdir())
            paths = [str(folder / name) for folder in folders for name in FILES]
        else:
            paths = [resource.name_of() for resource in scope]
        return filter(None, map(_read, paths))

    def create(self, wanted: Resource) -> None:
        if not isinstance(wanted, File):
            raise TypeError(f"not a file: {wanted!r}")
        path = Path(wanted.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
            path.write_text(wanted.content)
            path.chmod(0o644)
        except OSError as err:
            raise ApplyError(f"cannot write {path}: {err.strerror}", hint="is the disk full?") from err

    def modify(self, observed: Resource, wanted: Resource) -> None:
        self.create(wanted)

    def delete(self, observed: Resource) -> None:
        Path(observed.name_of()).unlink(missing_ok=True)


def _read(path: str) -> File | None:
    try:
        return File(path=path, content=Path(path).read_text(errors="replace"), owner="")
    except FileNotFoundError:
        return None
