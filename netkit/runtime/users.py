"""Who a container runs as: names looked up in the image's own passwd and group files.

    >>> resolve(("/images/box",), "nobody").uid
    65534
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from netkit.errors import SpecError


class Identity(msgspec.Struct, frozen=True):
    """Numbers for a user, and the home folder."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/root"


def resolve(lowers: Sequence[str], user: str) -> Identity:
    """`name`, `uid`, either with `:group`, as numbers. Raises SpecError for a name not there."""
    name, _, group = user.partition(":")
    rows = list(_rows(lowers, "passwd"))
    name = name or "0"
    row = next((r for r in rows if len(r) > 5 and name in {r[0], r[2]}), None)
    if row is None and not name.isdigit():
        raise SpecError(f"no user {name!r} in the image's /etc/passwd", hint="give a number, or add it")
    uid = int(row[2]) if row else int(name)
    gid = int(row[3]) if row else 0
    groups = list(_rows(lowers, "group"))
    if group:
        found = next((g for g in groups if len(g) > 2 and group in {g[0], g[2]}), None)
        if found is None and not group.isdigit():
            raise SpecError(f"no group {group!r} in the image's /etc/group", hint="give a number, or add it")
        return Identity(uid, int(found[2]) if found else int(group), (), row[5] if row else "/")
    more = tuple(int(g[2]) for g in groups if row and len(g) > 3 and row[0] in g[3].split(","))
    return Identity(uid, gid, more, row[5] if row else "/")


def _rows(lowers: Sequence[str], name: str) -> Iterator[list[str]]:
    """The fields of the topmost layer's /etc/NAME that is a plain file."""
    for lower in lowers:
        path = Path(lower) / "etc" / name
        if path.is_file() and not path.is_symlink():
            yield from (line.split(":") for line in path.read_text(errors="replace").splitlines())
            return
