"""Unpacking a root file system from a tar: owners, modes, links, devices, times, attributes.

Nothing is ever written outside the given folder: names and links are followed as a process
inside that root would follow them. The folder must be nobody else's meanwhile. Source: the pax
and ustar formats of POSIX.1-2017 as `tarfile` reads them.

    size = unpack(tarfile.open(fileobj=stream, mode="r|"), folder)
"""

import os
import shutil
import tarfile
from pathlib import Path

from netkit.errors import SpecError
from netkit.runtime.rootpath import inside

_XATTR = "SCHILY.xattr."
_BLOCK_BYTES = 1 << 20


def unpack(archive: tarfile.TarFile, root: Path) -> int:
    """Unpack everything; the number of bytes of its files. Raises SpecError, OSError."""
    size, folders = 0, []
    for member in archive:
        path = _place(root, member)
        if path == root:
            folders.append((path, member))
            continue
        if not _make(archive, member, root, path):
            continue
        if member.isdir():
            folders.append((path, member))  # a file in it would change its time, its mode forbid it
        elif not member.islnk():
            _dress(path, member)
        size += member.size if member.isreg() else 0
    if not any(root.iterdir()):
        raise SpecError("the tar is empty", hint="a root file system: bin, etc, usr, …")
    for path, member in reversed(folders):
        _dress(path, member)
    return size


def _place(root: Path, member: tarfile.TarInfo) -> Path:
    words = [word for word in member.name.split("/") if word not in {"", "."}]
    if ".." in words:
        raise SpecError(f"unsafe path {member.name!r} in the tar", hint="make it from the root's own folder")
    folder = inside(root, "/".join(words[:-1]))
    return folder / words[-1] if words else root


def _make(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path, path: Path) -> bool:
    """Make the bare thing in the place of whatever had its name; False for a kind nobody needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        if path.is_symlink() or not path.is_dir():
            _clear(path)
            path.mkdir()
        return True
    _clear(path)
    if member.isreg():
        _copy(archive, member, path)
    elif member.issym():
        os.symlink(member.linkname, path)
    elif member.islnk():
        os.link(inside(root, member.linkname, follow_last=False), path, follow_symlinks=False)
    elif member.isfifo():
        os.mkfifo(path)
    elif member.ischr() or member.isblk():
        kind = 0o020000 if member.ischr() else 0o060000
        os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
    else:
        return False
    return True


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = archive.extractfile(member)
    if source is None:
        raise SpecError(f"{member.name!r} has no content in the tar", hint="is the tar whole?")
    with path.open("xb") as target:
        shutil.copyfileobj(source, target, _BLOCK_BYTES)


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _dress(path: Path, member: tarfile.TarInfo) -> None:
    """Owner first: changing it takes setuid bits and file capabilities away."""
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(path, member.mode & 0o7777)
    for name, value in member.pax_headers.items():
        if name.startswith(_XATTR):
            data = value.encode(errors="surrogateescape")
            os.setxattr(path, name.removeprefix(_XATTR), data, follow_symlinks=False)
    os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)
