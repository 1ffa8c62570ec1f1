"""The driver of a container's root file system: an overlay of its own writes on its image's layers.

What is mounted is read from /proc/self/mountinfo. Deleting unmounts and keeps the upper layer:
a stopped container has its files when it starts again; they go with the container's folder. The
mount of the host's own image is made with its first user and goes with its last; one that a crash
left without users is observed, and so removed, like anything else that nobody wants.

    driver = OverlayDriver("/var/lib/netkit")
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

_OCTAL = re.compile(r"\\([0-7]{3})")
_COMMA = re.compile(r"(?<!\\),")
_COLON = re.compile(r"(?<!\\):")
_OPTIONS_MAX = 4095  # mount(2) takes one page of options


class OverlayDriver(OneByOne):
    """The hands for `Mount`."""

    kinds = frozenset({"mount"})

    def __init__(self, state_dir: str | Path) -> None:
        self._containers = f"{os.path.realpath(state_dir)}/containers/"
        self._host = f"{os.path.realpath(state_dir)}/images/host"
        self._state_dir = str(state_dir)

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        there = {mount.target: mount for mount in mounted()}
        if scope is not None:
            yield from (self._as(there[at], each) for each in scope if (at := _real(each)) in there)
            return
        ours = [mount for target, mount in there.items() if target.startswith(self._containers)]
        yield from ours
        if hostimage.is_mounted(self._host) and not _users(ours, self._host):
            yield Mount(target=hostimage.root(self._host), lowers=("/",), upper="", work="", owner="image/host")

    def create(self, wanted: Resource) -> None:
        assert isinstance(wanted, Mount)
        for folder in (wanted.target, wanted.upper, wanted.work):
            os.makedirs(folder, exist_ok=True)
        if hostimage.root(self._host) in map(os.path.realpath, wanted.lowers):
            hostimage.prepare(self._host, hidden=os.path.realpath(self._state_dir))
        lowers = ":".join(_escape(lower).replace(":", "\\:") for lower in wanted.lowers)
        options = f"lowerdir={lowers},upperdir={_escape(wanted.upper)},workdir={_escape(wanted.work)}"
        if len(options) > _OPTIONS_MAX:
            raise ApplyError(f"the paths of {len(wanted.lowers)} layers are too long", hint="shorten --state-dir")
        try:
            libc.mount("overlay", wanted.target, "overlay", 0, options)
        except OSError as err:
            raise ApplyError(f"mount overlay {wanted.target}: {err.strerror}", hint=_hint(wanted)) from err

    def delete(self, observed: Resource) -> None:
        target = _real(observed)
        if target == hostimage.root(self._host):
            hostimage.drop(self._host)
            return
        hostimage.unmount(target)
        assert isinstance(observed, Mount)
        shutil.rmtree(observed.work, ignore_errors=True)
        _remove_empty(target)
        others = [mount for mount in mounted() if mount.target.startswith(self._containers)]
        if hostimage.is_mounted(self._host) and not _users(others, self._host):
            hostimage.drop(self._host)

    def _as(self, found: Mount, wished: Resource) -> Mount:
        """With the paths as they were wished, where they are the same places by other names."""
        assert isinstance(wished, Mount)
        lowers = [_same(pair) for pair in zip(found.lowers, wished.lowers, strict=False)]
        return Mount(
            target=wished.target,
            lowers=(*lowers, *found.lowers[len(lowers) :]),
            upper=_same((found.upper, wished.upper)),
            work=_same((found.work, wished.work)),
            owner=wished.owner,
        )


def mounted() -> Iterator[Mount]:
    """Every overlay that this process sees; of several on one target the last, which is on top."""
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            place, _, rest = line.partition(" - ")
            kind, _, options = rest.split(" ", 2)
            if kind == "overlay":
                yield _parse(_plain(place.split()[4]), options.split()[0])


def _parse(target: str, options: str) -> Mount:
    """mountinfo writes `,` and `:` in a path behind a backslash, and that backslash as \\134."""
    words = dict(word.partition("=")[::2] for word in _COMMA.split(_plain(options)))
    lowers = tuple(_bare(lower) for lower in _COLON.split(words.get("lowerdir", "")))
    upper, work = (_bare(words.get(name, "")) for name in ("upperdir", "workdir"))
    owner = f"container/{Path(target).parent.name[:12]}"
    return Mount(target=target, lowers=lowers, upper=upper, work=work, owner=owner)


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(",", "\\,")


def _bare(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def _same(pair: tuple[str, str]) -> str:
    found, wished = pair
    return wished if os.path.realpath(wished) == found else found


def _real(resource: Resource) -> str:
    return os.path.realpath(resource.name_of())


def _users(mounts: Iterable[Mount], host: str) -> bool:
    return any(hostimage.root(host) in mount.lowers for mount in mounts)


def _remove_empty(target: str) -> None:
    try:
        os.rmdir(target)
    except FileNotFoundError:  # somebody was quicker, and it is what we want
        return
    except OSError as err:
        raise ApplyError(f"{target} is not empty: {err.strerror}", hint="files were put under the mount") from err


def _hint(wanted: Mount) -> str:
    missing = [lower for lower in wanted.lowers if not os.path.isdir(lower)]
    if missing:
        return f"the image's layer {missing[0]} is missing: import the image again"
    return "is the state folder on a file system that can hold an overlay's upper layer (not overlay itself)?"
