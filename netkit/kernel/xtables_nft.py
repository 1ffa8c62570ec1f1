"""The hand that reads and writes tables with the programs of iptables, of either variant.

Reading is one `iptables-save` for all tables; it lists only tables that exist and makes none.
Writing is one `iptables-restore --noflush --wait`, one commit for each table. The nft variant is
written by nothing else; of the legacy one only the reading happens here. Behind the nft variant
the kernel counts the commits of a namespace, so that one need not be read again which nobody wrote.

    hand = Programs("nft")
    print(hand.generation(), hand.read())
"""

import re
import shutil
import socket
import struct
from collections.abc import Sequence
from typing import Literal, Protocol

from netkit.errors import ApplyError, NetkitError, Unsupported
from netkit.kernel.attributes import split
from netkit.kernel.command import Completed, run
from netkit.kernel.rtnl import Rtnl
from netkit.kernel.xtables_draft import Edits, restore_text

Variant = Literal["nft", "legacy"]

_RESOURCE_PROBLEM = 4  # exit code: the lock is taken or the kernel says "try again"
_LINE = re.compile(r"line:? (\d+)")
_NO_PERMISSION = ("Permission denied", "Operation not permitted")

# linux/netfilter/nf_tables.h; a message's type is its subsystem and what is asked of it.
_NETLINK_NETFILTER = 12
_GET_GENERATION = 10 << 8 | 16
_HEAD = struct.pack("!BBH", socket.AF_UNSPEC, 0, 0)  # family, version, resource
_GENERATION_ID = 1


class Refused(ApplyError):
    """iptables did not take an edit: a rule or chain is not (or no longer) as we read it."""


class Busy(ApplyError):
    """Another program wrote the same table in the same moment; trying again can help."""


class Hand(Protocol):
    """What reads and writes the tables of one variant."""

    def generation(self) -> int:
        """A number that is another one after every change of the tables; 0 where there is none."""

    def read(self) -> str:
        """All tables that exist, as `iptables-save` prints them."""

    def write(self, edits: Edits) -> None:
        """Make the edits, one commit for each table. Raises Refused or Busy."""


class Programs:
    """`iptables-save` and `iptables-restore` of a variant, in the namespace at `namespace`."""

    def __init__(self, variant: Variant, namespace: str = "") -> None:
        self._variant = variant
        self._namespace = namespace

    def generation(self) -> int:
        """The number of the namespace's latest commit, whoever made it; 0 for the legacy variant."""
        if self._variant == "legacy":
            return 0
        try:
            with Rtnl.open(self._namespace, _NETLINK_NETFILTER) as link:
                answer = link.ask(_GET_GENERATION, _HEAD) or b""
        except OSError:  # what is missing or not permitted the program says in better words
            return 0
        return int.from_bytes(split(answer[len(_HEAD) :]).get(_GENERATION_ID, b""), "big")

    def read(self) -> str:
        """All tables that exist, as text. Raises Unsupported, ApplyError."""
        done = start([program("save", self._variant)], self._namespace)
        if done.code:
            raise failure(done)
        return done.stdout

    def write(self, edits: Edits) -> None:
        """Make the edits in one call. Raises Refused or Busy; tables before the failing one are written."""
        restore = [program("restore", self._variant), "--noflush", "--wait"]
        text = restore_text(edits)
        done = start(restore, self._namespace, text)
        if done.code:
            raise failure(done, text)


def start(argv: Sequence[str], namespace: str, text: str = "") -> Completed:
    """Run a program of iptables in a network namespace, "" being our own."""
    prefix = ["nsenter", f"--net={namespace}", "--"] if namespace else []
    return run([*prefix, *argv], input=text, check=False)


def program(what: str, variant: Variant) -> str:
    """The program's name: with the variant in it, or without on systems that know only one.

    Raises Unsupported where there is neither.
    """
    suffix = f"-{what}" if what else ""
    for name in (f"iptables-{variant}{suffix}", f"iptables{suffix}"):
        if shutil.which(name):
            return name
    raise Unsupported("iptables is not installed", hint="apt-get install iptables")


def failure(done: Completed, text: str = "") -> NetkitError:
    """What the exit of a program of iptables means; `text` is what it was given to read."""
    reason = (done.stderr.strip() or f"exit code {done.code}").splitlines()[0]
    if at := _LINE.search(done.stderr):
        reason += f" at {text.splitlines()[int(at.group(1)) - 1]!r}" if text else ""
    if any(words in done.stderr for words in _NO_PERMISSION):
        return Unsupported(f"iptables may not be used: {reason}", hint="run as root or with CAP_NET_ADMIN")
    if done.code == _RESOURCE_PROBLEM or "Resource temporarily unavailable" in done.stderr:
        return Busy(f"iptables is busy: {reason}", hint="another program writes rules all the time")
    return Refused(f"iptables refused: {reason}", hint="compare with iptables-save")
