"""Who a container's user is: names to numbers, by the image's own /etc/passwd and /etc/group.

The host's users have nothing to do with it. Nothing outside the given roots is read, whatever
links an image has.

    >>> resolve(("/images/web/rootfs",), "www:www").uid
    33
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from netkit.errors import SpecError
from netkit.runtime.rootpath import inside

_MOST = 2**31 - 1  # as Docker and runc have it


class Identity(msgspec.Struct, frozen=True):
    """Numbers, supplementary groups, and the home folder."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve(roots: Sequence[str], user: str) -> Identity:
    """Read `user`, `uid`, `user:group` or `uid:gid`; "" is root. `roots` are layers, top first.

    A number need not be known, a name must. Without a group it has its own, and those that list
    it. Raises SpecError.
    """
    name, _, group = user.partition(":")
    entry = _find(_entries(roots, "etc/passwd", 7), name or "0", "user", "passwd")
    uid = int(entry[2]) if entry else int(name or 0)
    home = entry[5] if entry and entry[5] else "/"
    if group:
        found = _find(_entries(roots, "etc/group", 4), group, "group", "group")
        return Identity(uid, int(found[2]) if found else int(group), (), home)
    gid = int(entry[3]) if entry else 0
    return Identity(uid, gid, _groups_of(roots, entry[0]) if entry else (), home)


def _groups_of(roots: Sequence[str], name: str) -> tuple[int, ...]:
    found = {int(entry[2]) for entry in _entries(roots, "etc/group", 4) if name in entry[3].split(",")}
    return tuple(sorted(found))


def _find(entries: Iterable[list[str]], wanted: str, what: str, file: str) -> list[str]:
    """The entry of a name or number; [] for a number that nobody has. Raises SpecError for a name."""
    rows = list(entries)
    for row in rows:
        if row[0] == wanted:
            return row
    if wanted.isascii() and wanted.isdigit():
        if int(wanted) > _MOST:
            raise SpecError(f"invalid {what} {wanted}", hint=f"numbers go from 0 to {_MOST}")
        return next((row for row in rows if int(row[2]) == int(wanted)), [])
    raise SpecError(
        f"unable to find {what} {wanted}: no matching entries in {file} file",
        hint="the image's own names count, or use a number",
    )


def _entries(roots: Sequence[str], file: str, fields: int) -> Iterator[list[str]]:
    """The rows of the first root that has the file."""
    for root in roots:
        path = inside(root, file)
        if path.is_file():
            rows = (line.split(":") for line in path.read_text(errors="replace").splitlines())
            yield from (row for row in rows if len(row) >= fields and row[2].isdigit())
            return
