"""The driver for network namespaces: each is held by a bind mount on a file, its loopback up.

IPv6 is off on what comes into it later: networks have no IPv6 yet, and link-local addresses would
let containers talk past `icc=false`.

    NamespaceDriver(Path("/var/lib/netkit/netns")).create(Namespace(path="…", owner="container/web"))
"""

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from netkit.kernel import libc, linkinfo
from netkit.kernel.driver import OneByOne
from netkit.kernel.links import set_link
from netkit.kernel.rtnl import Rtnl
from netkit.model.resource import Namespace, Resource

_NO_IPV6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")


class NamespaceDriver(OneByOne):
    """The namespaces held in `folder`."""

    kinds = frozenset({"namespace"})

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        if scope is not None:
            return [each for each in scope if _held(Path(each.name_of()))]
        # A file on which nothing is mounted is a remainder of ours: it is there to be removed.
        return [Namespace(path=str(path), owner="") for path in sorted(self._folder.iterdir())]

    def create(self, wanted: Resource) -> None:
        path = wanted.name_of()
        if not _held(Path(path)):
            libc.new_namespace(path, _prepare)
        with Rtnl.open(path) as inside:
            loopback = linkinfo.find(inside, "lo")
            if loopback is not None:
                inside.do(set_link(loopback.index, up=True))

    def delete(self, observed: Resource) -> None:
        path = Path(observed.name_of())
        while _held(path):
            libc.umount(str(path), libc.MNT_DETACH)
        path.unlink(missing_ok=True)


def _prepare() -> None:
    """Runs inside the new namespace before anything else does."""
    if _NO_IPV6.exists():
        _NO_IPV6.write_text("1")


def _held(path: Path) -> bool:
    """Whether a namespace is mounted on the path: it is on another file system than its folder."""
    try:
        return os.stat(path).st_dev != os.stat(path.parent).st_dev
    except OSError as err:
        if err.errno in {errno.ENOENT, errno.EINVAL}:
            return False
        raise
