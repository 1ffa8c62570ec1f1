"""The driver of a container's root file system: an overlay of its own writes on its image's layers.

What is mounted is read from /proc/self/mountinfo. Deleting unmounts and keeps the upper layer:
a stopped container has its files when it starts again; they go with the container's folder. The
layer `/` stands for the host's own image (`hostimage`), which is mounted with its first user and
goes with its last; one that a crash left without users is observed, and so removed, like anything
else that nobody wants.

    driver = OverlayDriver(Places("/var/lib/netkit"))
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from netkit.errors import ApplyError
from netkit.kernel import libc
from netkit.kernel.driver import OneByOne
from netkit.model.resource import Mount, Resource
from netkit.runtime import hostimage
from netkit.runtime.places import Places

HOST_LAYER = "/"
_OCTAL = re.compile(r"\\([0-7]{3})")
_COMMA = re.compile(r"(?<!\\),")
_COLON = re.compile(r"(?<!\\):")
_OPTIONS_MAX = 4095  # mount(2) takes one page of options


class OverlayDriver(OneByOne):
    """The hands for `Mount`."""

    kinds = frozenset({"mount"})

    def __init__(self, places: Places) -> None:
        self._state_dir = os.path.realpath(places.state_dir)
        self._containers = os.path.realpath(places.containers) + "/"
        self._host = os.path.realpath(places.host_image)

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        there = {mount.target: mount for mount in self._mounted()}
        if scope is not None:
            yield from (_named_as(there[at], each) for each in scope if (at := _real(each)) in there)
            return
        ours = [mount for target, mount in there.items() if target.startswith(self._containers)]
        yield from ours
        if not _host_users(ours) and hostimage.is_mounted(self._host):
            target = hostimage.root(self._host)
            yield Mount(target=target, lowers=(HOST_LAYER,), upper="", work="", owner="image/host")

    def create(self, wanted: Resource) -> None:
        assert isinstance(wanted, Mount)
        if _real(wanted) in {mount.target for mount in self._mounted()}:
            self.delete(wanted)
        for folder in (wanted.target, wanted.upper, wanted.work):
            os.makedirs(folder, exist_ok=True)
        _dress_like(wanted.lowers[0], wanted.upper)
        options = self._options(wanted)
        try:
            libc.mount("overlay", wanted.target, "overlay", 0, options)
        except OSError as err:
            raise ApplyError(f"mount overlay {wanted.target}: {err.strerror}", hint=_hint(wanted)) from err

    def delete(self, observed: Resource) -> None:
        target = _real(observed)
        if target == hostimage.root(self._host):
            hostimage.drop(self._host)
            return
        assert isinstance(observed, Mount)
        hostimage.unmount(target)
        shutil.rmtree(observed.work, ignore_errors=True)
        _remove_folder(target)
        if HOST_LAYER in observed.lowers and not _host_users(self._mounted()):
            hostimage.drop(self._host)

    def _options(self, wanted: Mount) -> str:
        lowers = [self._layer(lower) for lower in wanted.lowers]
        joined = ":".join(hostimage.escape(lower) for lower in lowers)
        upper, work = hostimage.escape(wanted.upper), hostimage.escape(wanted.work)
        options = f"lowerdir={joined},upperdir={upper},workdir={work}"
        if len(options) > _OPTIONS_MAX:
            raise ApplyError(f"the paths of {len(lowers)} layers are too long", hint="shorten --state-dir")
        return options

    def _layer(self, lower: str) -> str:
        if lower != HOST_LAYER:
            return lower
        hostimage.prepare(self._host, hidden=self._state_dir)
        return hostimage.root(self._host)

    def _mounted(self) -> Iterator[Mount]:
        """Every overlay that this process sees; of several on one target the last, which is on top."""
        host = hostimage.root(self._host)
        with open("/proc/self/mountinfo") as lines:
            for line in lines:
                place, _, rest = line.partition(" - ")
                if rest.startswith("overlay "):
                    yield _parse(_plain(place.split()[4]), rest.split()[2], host)


def _parse(target: str, options: str, host: str) -> Mount:
    """mountinfo writes `,` and `:` in a path behind a backslash, and that backslash as \\134."""
    words = dict(word.partition("=")[::2] for word in _COMMA.split(_plain(options)))
    lowers = (_bare(lower) for lower in _COLON.split(words.get("lowerdir", "")))
    return Mount(
        target=target,
        lowers=tuple(HOST_LAYER if lower == host else lower for lower in lowers),
        upper=_bare(words.get("upperdir", "")),
        work=_bare(words.get("workdir", "")),
        owner=f"container/{Path(target).parent.name[:12]}",
    )


def _bare(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def _named_as(found: Mount, wished: Resource) -> Mount:
    """With the wished names where they mean the same places: the kernel tells a target's real path."""
    assert isinstance(wished, Mount)
    return Mount(
        target=wished.target, lowers=found.lowers, upper=found.upper, work=found.work, owner=wished.owner
    )


def _real(resource: Resource) -> str:
    return os.path.realpath(resource.name_of())


def _host_users(mounts: Iterable[Mount]) -> bool:
    """Whether any overlay with an upper layer lies on the host's image."""
    return any(mount.upper and HOST_LAYER in mount.lowers for mount in mounts)


def _dress_like(lower: str, upper: str) -> None:
    """The upper layer's folder is the container's `/`: it has the image's mode, not our umask's."""
    if os.path.isdir(lower) and not os.listdir(upper):
        state = os.stat(lower)
        os.chown(upper, state.st_uid, state.st_gid)
        os.chmod(upper, state.st_mode & 0o7777)


def _remove_folder(target: str) -> None:
    try:
        os.rmdir(target)
    except FileNotFoundError:  # somebody was quicker, and it is what we want
        return
    except OSError as err:
        raise ApplyError(
            f"{target} is not empty: {err.strerror}", hint="files were put under the mount"
        ) from err


def _hint(wanted: Mount) -> str:
    missing = [lower for lower in wanted.lowers if not os.path.isdir(lower)]
    if missing:
        return f"the image's layer {missing[0]} is missing: import the image again"
    return "is the state folder on a file system that can hold an overlay's upper layer (not overlay itself)?"
