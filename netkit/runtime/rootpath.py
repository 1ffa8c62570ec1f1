"""Paths inside a root file system, as a process in it would find them.

>>> inside("/images/web/rootfs", "/etc/passwd")      # /etc may be a link to /usr/etc there
PosixPath('/images/web/rootfs/usr/etc/passwd')
"""

import os
from pathlib import Path

from netkit.errors import SpecError

_LINKS_MAX = 40  # as the kernel's own bound


def inside(root: str | Path, path: str, *, follow_last: bool = True) -> Path:
    """Where `path` lies below `root` on the host. Links lead where they lead for a process in it.

    `..` and absolute links stop at the root. What is missing is no error. The tree must not be
    changed by others meanwhile. Raises SpecError for links in a circle.
    """
    rest, at, links = _words(path), Path(root), 0
    while rest:
        word = rest.pop(0)
        if word == "..":
            at = at.parent if at != Path(root) else at
            continue
        here = at / word
        if not here.is_symlink() or (not rest and not follow_last):
            at = here
            continue
        links += 1
        if links > _LINKS_MAX:
            raise SpecError(f"too many links in {path!r}", hint="they lead in a circle")
        target = os.readlink(here)
        at = Path(root) if target.startswith("/") else at
        rest = _words(target) + rest
    return at


def _words(path: str) -> list[str]:
    return [word for word in path.split("/") if word not in {"", "."}]
