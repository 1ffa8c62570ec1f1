"""The driver for network namespaces: each is held by a bind mount on a file, its loopback up.

IPv6 is off on what comes into it later: networks have no IPv6 yet, and link-local addresses would
let containers talk past `icc=false`.

    NamespaceDriver(Path("/var/lib/netkit/netns")).create(Namespace(path="…", owner="container/web"))
"""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from netkit.kernel import libc, linkinfo
from netkit.kernel.driver import OneByOne
from netkit.kernel.links import set_link
from netkit.kernel.rtnl import Rtnl, in_each
from netkit.model.resource import Namespace, Resource

_NO_IPV6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")


class NamespaceDriver(OneByOne):
    """The namespaces held in `folder`."""

    kinds = frozenset({"namespace"})

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        if scope is not None:
            asked = [each for each in scope if isinstance(each, Namespace)]
            return [found for found in _seen(asked) if found.held]
        # A file on which no namespace is mounted is a remainder of ours: there to be removed or replaced.
        return _seen([Namespace(path=str(path), owner="") for path in sorted(self._folder.iterdir())])

    def create(self, wanted: Resource) -> None:
        path = wanted.name_of()
        if not _held(Path(path)):
            libc.new_namespace(path, _prepare)
        with Rtnl.open(path) as inside:
            loopback = linkinfo.find(inside, "lo")
            if loopback is not None:
                inside.do(set_link(loopback.index, up=True))

    def modify(self, observed: Resource, wanted: Resource) -> None:
        self.create(wanted)

    def delete(self, observed: Resource) -> None:
        path = Path(observed.name_of())
        while _held(path):
            libc.umount(str(path), libc.MNT_DETACH)
        path.unlink(missing_ok=True)


def _prepare() -> None:
    """Runs inside the new namespace before anything else does."""
    if _NO_IPV6.exists():
        _NO_IPV6.write_text("1")


def _seen(spaces: Sequence[Namespace]) -> Iterator[Namespace]:
    """Each of them as it is."""
    up = in_each([space.path for space in spaces], _loopback_is_up)
    for space in spaces:
        yield msgspec.structs.replace(space, held=space.path in up, up=up.get(space.path, False))


def _loopback_is_up(inside: Rtnl) -> bool:
    loopback = linkinfo.find(inside, "lo")
    return loopback is not None and loopback.up


def _held(path: Path) -> bool:
    """Whether a namespace is mounted on the path: it is on another file system than its folder."""
    try:
        return os.stat(path).st_dev != os.stat(path.parent).st_dev
    except OSError as err:
        if err.errno in {errno.ENOENT, errno.EINVAL}:
            return False
        raise
