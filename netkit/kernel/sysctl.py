"""The driver for kernel settings, written below /proc/sys and read back.

The value a setting had before us is kept by the store and put back when the setting is no longer
wanted: the one thing that cannot be observed. Only what is remembered is ours.

    SysctlDriver(store.sysctls).create(Sysctl(name="net.ipv4.ip_forward", value="1", owner="host"))
"""

import re
from collections.abc import Iterable, MutableMapping, Sequence
from pathlib import Path

from netkit.errors import ApplyError, Unsupported
from netkit.kernel.command import run
from netkit.kernel.driver import OneByOne
from netkit.model.resource import Resource, Sysctl

_ROOT = Path("/proc/sys")
_BRIDGE_FILTER = "net.bridge."
_OF_LINK = re.compile(r"(net\.ipv[46]\.conf)\.(.+)\.(\w+)")


class SysctlDriver(OneByOne):
    """Settings of the calling thread's network namespace; `previous` is the store's memory."""

    kinds = frozenset({"sysctl"})

    def __init__(self, previous: MutableMapping[str, str]) -> None:
        self._previous = previous

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        if scope is not None:
            wanted = (each for each in scope if isinstance(each, Sysctl))
            return filter(None, map(self._observed, wanted))
        remembered = (Sysctl(name=name, value="", owner="host") for name in tuple(self._previous))
        return filter(None, map(self._observed, remembered))

    def create(self, wanted: Resource) -> None:
        if not isinstance(wanted, Sysctl):
            raise TypeError(f"not a sysctl: {wanted!r}")
        path = _path(wanted.name)
        if wanted.name.startswith(_BRIDGE_FILTER) and not path.exists():
            _load_bridge_filter()
        before = _read(path)
        # Remembered first, and also where it is right already: only what is remembered is ours.
        if wanted.name not in self._previous:
            self._previous[wanted.name] = before
        if before == wanted.value:
            return
        _write(path, wanted.value)
        if (after := _read(path)) != wanted.value:
            raise ApplyError(f"{wanted.name} is {after} after {wanted.value} was written to it")

    def modify(self, observed: Resource, wanted: Resource) -> None:
        self.create(wanted)

    def delete(self, observed: Resource) -> None:
        before = self._previous.get(observed.name_of())
        if before is None:
            return
        path = _path(observed.name_of())
        if path.exists():  # a link's settings go with the link
            _write(path, before)
        del self._previous[observed.name_of()]

    def _observed(self, wanted: Sysctl) -> Sysctl | None:
        path = _path(wanted.name)
        if wanted.name not in self._previous:
            return None
        if not path.exists():
            # Its link has gone: nothing to see while it is wanted, a memory to drop when it is not.
            return None if wanted.value else wanted
        return Sysctl(name=wanted.name, value=_read(path), link=wanted.link, owner=wanted.owner)


def _path(name: str) -> Path:
    """The file of a setting. A link's name, in the middle, may itself have dots in it."""
    if match := _OF_LINK.fullmatch(name):
        return _ROOT.joinpath(*match[1].split("."), match[2], match[3])
    return _ROOT.joinpath(*name.split("."))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as err:
        raise ApplyError(f"cannot read {path}: {err.strerror}") from err


def _write(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as err:
        raise ApplyError(
            f"cannot set {path} to {value}: {err.strerror}", hint="is /proc/sys writable here?"
        ) from err


def _load_bridge_filter() -> None:
    """Without br_netfilter, icc=false would hold nothing back."""
    run(["modprobe", "br_netfilter"], check=False)
    if not (_ROOT / "net/bridge").exists():
        raise Unsupported(
            "the kernel does not filter traffic within a bridge",
            hint="icc=false needs it: modprobe br_netfilter",
        )
