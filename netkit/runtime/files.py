"""The driver of the files that are mounted into a container: hosts, hostname, resolv.conf.

A file is rewritten in place, because the container's mount holds its inode: a new file under the
old name would never be seen inside. Where somebody removed or replaced it nevertheless, the new one
is mounted in the place of the old one in the running container. Readers may see a file half written for a
moment; it is written with one call, so that the moment is short. The owner cannot be kept with a
file; without a scope it is told from the folder that the file lies in.

    driver = FileDriver(Places("/var/lib/netkit"))
"""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from netkit.errors import ApplyError
from netkit.kernel import libc
from netkit.kernel.driver import OneByOne
from netkit.model import paths
from netkit.model.resource import File, Resource
from netkit.runtime.folder import Folder
from netkit.runtime.places import Places


class FileDriver(OneByOne):
    """The hands for `File`."""

    kinds = frozenset({"file"})

    def __init__(self, places: Places) -> None:
        self._places = places

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        wished = self._all() if scope is None else ((Path(each.name_of()), each.owner) for each in scope)
        lost: dict[Path, Mapping[str, list[str]]] = {}
        for path, owner in wished:
            match _is_file(path):
                case None:
                    continue
                case False:  # a folder, a link: nothing of it can be what was mounted
                    yield File(path=str(path), content="", shown=False, owner=owner)
                case True:
                    content = path.read_text(errors="surrogateescape")
                    yield File(path=str(path), content=content, shown=self._is_shown(path, lost), owner=owner)

    def create(self, wanted: Resource) -> None:
        assert isinstance(wanted, File)
        path = Path(wanted.path)
        os.makedirs(path.parent, exist_ok=True)
        if _is_file(path) is False:
            _remove(path)
        _write(wanted)
        self._show(path)

    def modify(self, observed: Resource, wanted: Resource) -> None:
        self.create(wanted)

    def delete(self, observed: Resource) -> None:
        _remove(Path(observed.name_of()))

    def _all(self) -> Iterator[tuple[Path, str]]:
        containers = self._places.containers
        for folder in sorted(containers.iterdir()) if containers.is_dir() else ():
            for name in paths.FILES:
                yield folder / name, f"container/{folder.name[:12]}"

    def _folder(self, path: Path) -> Folder:
        return Folder(self._places, path.parent.name)

    def _is_shown(self, path: Path, lost: dict[Path, Mapping[str, list[str]]]) -> bool:
        """Whether the container has no other file in its place; `lost` keeps what each folder lacks."""
        folder = self._folder(path)
        if _sees(folder, path):
            return True
        if path.parent not in lost:
            lost[path.parent] = _lost(folder)
        return path.name not in lost[path.parent]

    def _show(self, path: Path) -> None:
        """Mount the file in the place of the one that the container has, where that is another."""
        folder = self._folder(path)
        if _sees(folder, path):
            return
        targets, pid = _lost(folder).get(path.name, ()), folder.process()
        if not targets or not pid:
            return
        try:
            namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # it has just ended
        try:
            if folder.process() == pid:  # and not somebody who has been given its number
                for target in targets:
                    libc.bind_into(namespace, str(path), target)
        except OSError as err:
            raise ApplyError(
                f"cannot show {path} to the container: {err.strerror}",
                hint=f"start it again: netkit restart {folder.id[:12]}",
            ) from err
        finally:
            os.close(namespace)


def _sees(folder: Folder, path: Path) -> bool:
    """Whether the container's process has this very file: a look that takes a tenth of reading its mounts."""
    try:
        inside = os.stat(f"/proc/{folder.read('pidfile').strip()}/root/etc/{path.name}")
    except OSError:
        return False
    return os.path.samestat(inside, path.lstat())


def _lost(folder: Folder) -> dict[str, list[str]]:
    """What the running container has mounted that lies no longer in its folder: name → places inside.

    mountinfo tells a mount's file by its path now: another name, or `//deleted` behind it. What the
    user mounted over ours is from elsewhere. A pid that was given to another process does no harm.
    """
    pid = folder.read("pidfile").strip()
    roots = {place: root for root, place in _mounts(pid)}  # of several the last is on top
    here = f"/{folder.id}/"
    lost: dict[str, list[str]] = {}
    for place, root in roots.items():
        name = place.rpartition("/")[2]
        if here in root and not root.endswith(here + name):
            lost.setdefault(name, []).append(place)
    return lost


def _mounts(pid: str) -> Iterator[tuple[str, str]]:
    """What a process sees mounted: path on the file system, place. proc(5), fields 4 and 5."""
    try:
        with open(f"/proc/{pid}/mountinfo") as lines:
            for line in lines:
                _, _, _, root, place, _ = line.split(" ", 5)
                yield root, place
    except OSError:
        return  # there is none, or it has just ended


def _is_file(path: Path) -> bool | None:
    """Whether a plain file is there; None where nothing is."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _remove(path: Path) -> None:
    """Whatever is there instead goes as well: the folder is the container's, and goes with it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
