"""Images: folders of read-only layers with a little metadata, and the one that needs none, `host`.

`host` is the root of this machine itself: a container on it sees the host's programs, and what it
writes goes to its own overlay. Others come from a tar of a root file system. Another source (a
registry, a builder) would add a function that ends in `_adopt`: layers in a folder, metadata beside.

    >>> Images(Path("/var/lib/netkit/images")).get("host").lowers
    ('/',)
"""

import datetime
import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from netkit.errors import ApplyError, Conflict, NotFound, SpecError
from netkit.model.names import nearest

HOST = "host"
_CHUNK = 1 << 20


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is sha256:…, `lowers` folders with the top layer first, `size` in bytes."""

    id: str
    names: tuple[str, ...]
    lowers: tuple[str, ...]
    created: str
    size: int = 0
    env: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    exposed: tuple[tuple[int, str], ...] = ()
    labels: dict[str, str] = {}
    stop_signal: str = ""


class Images:
    """The images in `folder`: layers in `layers/DIGEST`, metadata in `DIGEST.json`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[Image]:
        """Every image, the host's own first, then by name."""
        found = [
            msgspec.json.decode(path.read_bytes(), type=Image)
            for path in sorted(self._folder.glob("*.json"))
        ]
        return [self._host(), *sorted(found, key=lambda image: image.names)]

    def get(self, ref: str) -> Image:
        """The image of that name (`:latest` may be left out), id or prefix. Raises NotFound."""
        images = self.all()
        digest = ref.removeprefix("sha256:")
        for image in images:
            if ref in image.names or f"{ref}:latest" in image.names or image.id == f"sha256:{digest}":
                return image
        close = [image for image in images if len(digest) >= 6 and image.id[7:].startswith(digest)]
        if len(close) == 1:
            return close[0]
        tagged = ref if ":" in ref else f"{ref}:latest"
        known = {name.removesuffix(":latest") for image in images for name in image.names}
        raise NotFound(f"No such image: {tagged}", hint=nearest(ref, known))

    def import_tar(self, stream: BinaryIO, name: str) -> Image:
        """Make an image of a root file system in a tar (plain, gz, bz2 or xz). Raises SpecError.

        It is whole or not there: layers are unpacked aside and renamed.
        """
        (self._folder / "layers").mkdir(parents=True, exist_ok=True, mode=0o711)
        aside = Path(tempfile.mkdtemp(prefix=".import-", dir=self._folder))
        try:
            digest, size = _unpack(stream, aside)
            layer = self._folder / "layers" / digest
            if not layer.exists():
                (aside / "root").rename(layer)
            return self._adopt(digest, (str(layer),), name, size)
        except OSError as err:
            raise ApplyError(
                f"the image could not be stored: {err.strerror}", hint="is the disk full? nothing is left of it"
            ) from err
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def remove(self, ref: str, in_use: frozenset[str] = frozenset()) -> Image:
        """Remove an image by name or id; `in_use` are the ids that containers have. Raises Conflict."""
        image = self.get(ref)
        if image.id == self._host().id:
            raise Conflict("the image host is the machine itself", hint="it needs no room")
        name = ref if ":" in ref else f"{ref}:latest"
        if name in image.names and len(image.names) > 1:
            self._write(msgspec.structs.replace(image, names=tuple(n for n in image.names if n != name)))
            return image
        if image.id in in_use:
            raise Conflict(f"image {ref} is in use by a container", hint="remove the container first")
        self._metadata(image.id).unlink()
        for lower in image.lowers:
            shutil.rmtree(lower, ignore_errors=True)
        return image

    def _adopt(self, digest: str, lowers: tuple[str, ...], name: str, size: int) -> Image:
        """Register layers under a name; whatever had the name loses it."""
        tagged = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        if tagged == f"{HOST}:latest":
            raise Conflict("the name host means the machine's own root", hint="choose another name")
        for other in self.all()[1:]:
            if tagged in other.names and other.id != f"sha256:{digest}":
                self._write(
                    msgspec.structs.replace(other, names=tuple(n for n in other.names if n != tagged))
                )
        metadata = self._metadata(digest)
        names = {tagged}
        if metadata.exists():
            names |= set(msgspec.json.decode(metadata.read_bytes(), type=Image).names)
        image = Image(
            id=f"sha256:{digest}",
            names=tuple(sorted(names)),
            lowers=lowers,
            created=datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z"),
            size=size,
        )
        self._write(image)
        return image

    def _write(self, image: Image) -> None:
        path = self._metadata(image.id)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(image))
        fresh.rename(path)

    def _metadata(self, image_id: str) -> Path:
        return self._folder / f"{image_id.removeprefix('sha256:')}.json"

    def _host(self) -> Image:
        # overlayfs takes / as the lower folder although the upper one lies within it; what is mounted
        # below / (proc, other file systems) is not part of it.
        digest = hashlib.sha256(HOST.encode()).hexdigest()
        return Image(
            id=f"sha256:{digest}",
            names=(f"{HOST}:latest",),
            lowers=("/",),
            created="1970-01-01T00:00:00Z",
            command=("/bin/sh",),
        )


def _unpack(stream: BinaryIO, aside: Path) -> tuple[str, int]:
    """Unpack a tar into `aside/root`; returns its digest and the size of its files in bytes."""
    archive, digest = aside / "tar", hashlib.sha256()
    with archive.open("wb") as copy:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            digest.update(chunk)
            copy.write(chunk)
    (aside / "root").mkdir(mode=0o755)
    try:
        with tarfile.open(archive) as tar:
            members = list(_safe(tar))
            # The filter keeps owners, modes and devices, and refuses what would land elsewhere.
            tar.extractall(aside / "root", members, numeric_owner=True, filter="tar")
    except (tarfile.TarError, EOFError, ValueError) as err:
        raise SpecError(
            f"the image is not a usable tar: {err}", hint="a tar of a root file system: bin, etc, usr, …"
        ) from err
    archive.unlink()
    return digest.hexdigest(), sum(member.size for member in members if member.isreg())


def _safe(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members, refusing an archive that is no file tree at all. Raises ValueError."""
    empty = True
    for member in tar:
        empty = False
        if ".." in Path(member.name).parts:
            raise ValueError(f"the path {member.name!r} leaves the archive")
        yield member
    if empty:
        raise ValueError("the archive is empty")
