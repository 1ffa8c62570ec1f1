"""Names: what may be called what, and how netkit's own things are told from other people's.

Whatever netkit makes carries a mark that says whose it is. In comments (iptables, ipset) and in
`ifalias` the mark is text, `netkit:` and an owner, e.g. `netkit:container/web/br0`. Links carry a
group and addresses and routes a protocol number besides, because the kernel takes those in the
same message that makes the thing: there is no moment at which it exists unmarked.

    >>> owner_of(mark("network/br0"))
    'network/br0'
"""

import re
from collections.abc import Iterable

from netkit.errors import SpecError

MARK = "netkit:"
LINK_GROUP = 0x6E6B  # IFLA_GROUP of links we made: "nk"
PROTOCOL = 110  # IFA_PROTO of addresses and rtm_protocol of routes we made: "n"
CHAIN_PREFIX = "NETKIT-"  # iptables chains
USER_CHAIN = CHAIN_PREFIX + "USER"  # the user's own: its rules are never touched
FORWARD = CHAIN_PREFIX + "FORWARD"
ISOLATE = CHAIN_PREFIX + "ISOLATE"
PUBLISH = CHAIN_PREFIX + "PUBLISH"
MASQ = CHAIN_PREFIX + "MASQ"
CHAINS = frozenset({USER_CHAIN, FORWARD, ISOLATE, PUBLISH, MASQ})
INTERFACE_MAX = 15  # IFNAMSIZ - 1
COMMENT_MAX = 255  # both xt_comment and ipset, less the closing NUL

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_INTERFACE = re.compile(r"[^\s/:%]+")
# Whoever owns things: anything else behind the mark's word was written by somebody else.
_OWNER = re.compile(r"host|(network|container|publish|link|image)/.+", re.DOTALL)


def mark(owner: str) -> str:
    """The text that says a kernel thing is ours and whose: at most 255 characters."""
    return (MARK + owner)[:COMMENT_MAX]


def owner_of(text: str | None) -> str | None:
    """The owner in a mark, or None where the thing is not ours.

    >>> owner_of("netkit: uplink to the rack")
    """
    if not text or not text.startswith(MARK):
        return None
    owner = text[len(MARK) :]
    return owner if _OWNER.fullmatch(owner) else None


def parse_interface(name: str) -> str:
    """A name the kernel takes for a link. Raises SpecError."""
    if len(name) > INTERFACE_MAX:
        raise SpecError(
            f"interface name {name!r} has {len(name)} characters",
            hint=f"Linux allows {INTERFACE_MAX}; for example {name[:INTERFACE_MAX]!r}",
        )
    if name in {"", ".", "..", "all", "default"} or not _INTERFACE.fullmatch(name):
        raise SpecError(f"{name!r} cannot be an interface name", hint="use letters, digits, '-', '_' and '.'")
    return name


def parse_name(name: str, what: str) -> str:
    """A container's, network's or image's name as Docker allows them. Raises SpecError."""
    name = name.removeprefix("/")
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"invalid {what} name {name!r}",
            hint="it begins with a letter or digit; then letters, digits, '_', '.', '-'; at most 128",
        )
    return name


def nearest(name: str, known: Iterable[str], none: str = "there is none yet") -> str:
    """A hint that names what was probably meant; `none` where nothing is known."""
    import difflib  # a tenth of what a short command loads, for mistakes only

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(names[:12])}" if names else none
