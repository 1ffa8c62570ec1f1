"""Images: the root file systems that containers start from, kept as plain folders.

    STATE/images/<hex>/image.json     what is known of it        STATE/images/<hex>/rootfs/   its files
    STATE/images/host/                the image named `host`: see `hostimage`

An image is there when its folder has its own name: it is filled under another one and renamed, so
that an import that fails or is cut short leaves no image, and what it leaves is swept when the
folder is opened the next time. Other sources of images come in through `Images.add`.

    image = Images("/var/lib/netkit/images").import_tar(stream, "busybox")
"""

import errno
import gzip
import hashlib
import lzma
import os
import platform
import shutil
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

import msgspec

from netkit.errors import ApplyError, Conflict, NotFound, SpecError
from netkit.model.names import nearest
from netkit.runtime import changes as instructions
from netkit.runtime import folder
from netkit.runtime.changes import Settings
from netkit.runtime.places import private_folder
from netkit.runtime.unpack import unpack

HOST = "host:latest"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_DRAFT = ".import-"
_PREFIX_MIN = 2
_MAGIC_BYTES = 6
_BLOCK_BYTES = 1 << 20

Fill = Callable[[Path], tuple[str, int]]
"""Puts a root file system into a folder; gives the hex digest of its source and its size in bytes."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One image: `id` is `sha256:…`, `lowers` its folders, top first, `size` in bytes."""

    id: str
    names: tuple[str, ...]
    lowers: tuple[str, ...]
    created: str
    size: int
    architecture: str
    env: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    exposed: tuple[tuple[int, str], ...] = ()
    labels: dict[str, str] = {}
    stop_signal: str = ""

    @property
    def name(self) -> str:
        """The first of its names; of one that lost them all, the beginning of its id."""
        return self.names[0] if self.names else self.id.removeprefix("sha256:")[:12]


class Images:
    """The images in one folder."""

    def __init__(self, place: str | Path) -> None:
        self._place = Path(place)
        private_folder(self._place)
        self._lock = threading.Lock()
        for left in self._place.glob(f"{_DRAFT}*"):
            shutil.rmtree(left, ignore_errors=True)

    def all(self) -> list[Image]:
        """All of them, newest first; the builtin one last."""
        texts = [folder.read(path) for path in self._place.glob("*/image.json")]
        found = [msgspec.json.decode(text, type=Image) for text in texts if text]
        return [*sorted(found, key=lambda image: image.created, reverse=True), _host()]

    def get(self, ref: str) -> Image:
        """By name, with or without `:latest`, or by the beginning of an id. Raises NotFound."""
        images = self.all()
        for image in images:
            if full(ref) in image.names:
                return image
        digest = ref.removeprefix("sha256:")
        found = [image for image in images if _is_id(digest) and image.id[7:].startswith(digest)]
        if len(found) > 1:
            raise Conflict(f"several images begin with {ref!r}", hint="give more of the id")
        if not found:
            known = [name.removesuffix(":latest") for image in images for name in image.names]
            raise NotFound(f"No such image: {full(ref)}", hint=nearest(ref, known))  # docker looks for it
        return found[0]

    def import_tar(self, stream: BinaryIO, name: str, changes: Sequence[str] = ()) -> Image:
        """A root file system as a tar: plain, gzip or xz. Raises SpecError, ApplyError."""
        return self.add(lambda root: fill_from_tar(stream, root), name, instructions.apply(changes))

    def add(self, fill: Fill, name: str, settings: Settings) -> Image:
        """An image from any source; its name moves here from whoever had it. Raises ApplyError."""
        if name and full(name) == HOST:
            raise Conflict("the name host means the builtin image", hint="choose another name")
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self._place))
        try:
            (draft / "rootfs").mkdir(mode=0o755)
            digest, size = fill(draft / "rootfs")
            with self._lock:
                return self._settle(draft, digest, size, (full(name),) if name else (), settings)
        except OSError as err:
            raise _broken(err) from err
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def tag(self, ref: str, name: str) -> Image:
        """One more name for an image."""
        with self._lock:
            return self._named(self.get(ref), full(name))

    def remove(
        self, ref: str, in_use: Mapping[str, Collection[str]], dry_run: bool = False
    ) -> tuple[list[str], str]:
        """Take a name away, and the image with its last one: the names gone, and its id if it went.

        `in_use` maps the ids of images to the containers that have them. With `dry_run` nothing goes.
        Raises NotFound, Conflict.
        """
        with self._lock:
            image = self.get(ref)
            if HOST in image.names:
                raise Conflict("the image host is builtin", hint="it takes no space")
            if full(ref) in image.names and len(image.names) > 1:
                if not dry_run:
                    self._write(_renamed(image, [name for name in image.names if name != full(ref)]))
                return [full(ref)], ""
            if image.id in in_use:
                users = sorted(in_use[image.id])
                raise Conflict(
                    f"image {image.name} is in use by {', '.join(users)}",
                    hint=f"remove that first: netkit rm {' '.join(users)}",
                )
            if not dry_run:
                doomed = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self._place))
                os.rename(self._folder(image), doomed / "image")
                shutil.rmtree(doomed)
            return list(image.names), image.id

    def _settle(
        self, draft: Path, digest: str, size: int, names: tuple[str, ...], settings: Settings
    ) -> Image:
        """Rename the filled draft to what it is; the same content with the same settings is there already."""
        said = msgspec.json.encode(settings, order="sorted")
        key = hashlib.sha256(digest.encode() + said).hexdigest()
        image = Image(
            id=f"sha256:{key}",
            names=(),
            lowers=(str(self._place / key / "rootfs"),),
            created=folder.rfc3339(os.stat(draft).st_mtime_ns),
            size=size,
            architecture=_architecture(),
            **msgspec.structs.asdict(settings),
        )
        if not self._folder(image).exists():
            _save(draft, image)
            os.rename(draft, self._folder(image))
        else:
            image = msgspec.json.decode(folder.read(self._folder(image) / "image.json"), type=Image)
        return self._named(image, *names)

    def _named(self, image: Image, *names: str) -> Image:
        for other in self.all():
            if other.id != image.id and HOST not in other.names and set(names) & set(other.names):
                self._write(_renamed(other, [name for name in other.names if name not in names]))
        return self._write(_renamed(image, dict.fromkeys((*image.names, *names))))

    def _write(self, image: Image) -> Image:
        _save(self._folder(image), image)
        return image

    def _folder(self, image: Image) -> Path:
        return self._place / image.id.removeprefix("sha256:")


def full(name: str) -> str:
    """A name as it is kept: `docker.io/library/box` is `box:latest`."""
    for prefix in ("docker.io/library/", "docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def fill_from_tar(stream: BinaryIO, root: Path) -> tuple[str, int]:
    """Unpack a tar of any known compression. Raises SpecError for what is none."""
    plain = _Hashed(_decompressed(stream))
    try:
        with tarfile.open(fileobj=cast(IO[bytes], plain), mode="r|") as archive:
            size = unpack(archive, root)
        while plain.read(_BLOCK_BYTES):
            continue  # what pads the tar belongs to what is hashed
        if not plain.ended:
            raise tarfile.ReadError("it ends in the middle")
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as err:
        raise SpecError(
            f"this is not a whole tar: {err}", hint="a tar, plain or packed by gzip or xz"
        ) from err
    return plain.hexdigest(), size


class _Hashed:
    """A stream that is hashed while it is read; `ended` says that it had a tar's end, blocks of zeros."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._tail = b""

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        self._tail = (self._tail + data)[-tarfile.BLOCKSIZE :]
        return data

    @property
    def ended(self) -> bool:
        return self._tail == bytes(tarfile.BLOCKSIZE)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class _Again:
    """A stream some bytes of which were read already, and come once more."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._rest.read(size)
        data, self._head = (self._head, b"") if size < 0 else (self._head[:size], self._head[size:])
        return data + self._rest.read(-1 if size < 0 else size - len(data))


def _decompressed(stream: BinaryIO) -> IO[bytes]:
    head = stream.read(_MAGIC_BYTES)
    again = cast(BinaryIO, _Again(head, stream))
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=again))
    if head == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(again)
    if head.startswith((b"\x28\xb5\x2f\xfd", b"BZh")):
        raise SpecError("the tar is packed by zstd or bzip2", hint="unpack it first: zstd -dc FILE | …")
    return again


def _host() -> Image:
    """The builtin image; it is as old as the host's system."""
    release = "/etc/os-release" if os.path.exists("/etc/os-release") else "/"
    return Image(
        id=f"sha256:{hashlib.sha256(b'netkit host image').hexdigest()}",
        names=(HOST,),
        lowers=("/",),  # see `overlay`: what is mounted is not the root itself
        created=folder.rfc3339(os.stat(release).st_mtime_ns),
        size=0,
        architecture=_architecture(),
        command=("/bin/sh",),
    )


def _architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _renamed(image: Image, names: Iterable[str]) -> Image:
    return msgspec.structs.replace(image, names=tuple(names))


def _save(place: Path, image: Image) -> None:
    draft = place / "image.json.new"
    draft.write_bytes(msgspec.json.encode(image))
    os.rename(draft, place / "image.json")


def _is_id(text: str) -> bool:
    return len(text) >= _PREFIX_MIN and all(letter in "0123456789abcdef" for letter in text)


def _broken(err: OSError) -> ApplyError:
    """Why an image could not be written; nothing of it is left."""
    if err.errno in {errno.ENOSPC, errno.EDQUOT}:
        return ApplyError("the disk is full: the image was not imported", hint="netkit rmi frees some")
    return ApplyError(f"the image was not imported: {err}", hint="nothing of it was kept")
