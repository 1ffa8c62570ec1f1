"""The hand that writes legacy tables, with python-iptables; it reads with `iptables-legacy-save`.

Writing a rule through the library needs no program, and one commit holds all of a table. Three of
its ways do not suit a daemon, so that they are not used. Its reading back of a rule, which its
`append_rule` and `delete_rule` do as well, points the whole process' standard output at a pipe for
a moment. It takes no part in the lock under which iptables writes, and the kernel's own check
(EAGAIN when the number of rules changed) does not see one rule replaced by another. Its tables are
cached for all namespaces at once. Here rules go to the table as bytes, under `/run/xtables.lock`,
through handles opened afresh in the namespace of the thread that writes.

    LegacyTables().write({"filter": [Edit("new", "NETKIT-A")]})
"""

import fcntl
import functools
import importlib
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from netkit.errors import Unsupported
from netkit.kernel.libc import in_namespace
from netkit.kernel.xtables_draft import Edit, Edits
from netkit.kernel.xtables_nft import Busy, Programs, Refused
from netkit.model.names import mark
from netkit.model.rule import Rule

LOCK_PATH = "/run/xtables.lock"
LOCK_TIMEOUT_S = 20.0
LOCK_POLL_S = 0.002

_AGAIN = "Resource temporarily unavailable"
_NOT_PERMITTED = ("Permission denied", "Operation not permitted")
_PLAIN = {
    "src": "src",
    "dst": "dst",
    "in_link": "in_interface",
    "out_link": "out_interface",
    "protocol": "protocol",
}
# The library keeps tables, extensions and the C library's option index for the whole process.
_one_at_a_time = threading.Lock()


class LegacyTables:
    """Legacy iptables in the network namespace at `namespace`; "" is the calling thread's own."""

    def __init__(self, namespace: str = "") -> None:
        self._namespace = namespace
        self._programs = Programs("legacy", namespace)
        threading.Thread(target=_load_early, name="iptc-import").start()

    def generation(self) -> int:
        """0: the kernel does not tell whether anybody wrote them."""
        return 0

    def read(self) -> str:
        """All tables that exist, as `iptables-legacy-save` prints them."""
        return self._programs.read()

    def write(self, edits: Edits) -> None:
        """Make the edits, one commit for each table. Raises Refused, Busy, Unsupported."""
        if self._namespace:
            in_namespace(self._namespace, lambda: _write(edits))
        else:
            _write(edits)


def _write(edits: Edits) -> None:
    library = _library()
    with _one_at_a_time, _lock():
        for table, changes in edits.items():
            _commit(library, table, changes)


def _load_early() -> None:
    """Import the library in the background: the first write would wait half a second for it."""
    with suppress(Unsupported):  # whoever writes is told
        _library()


def _library() -> Any:  # it has no type information
    """python-iptables, imported only where tables are legacy ones."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it still asks distutils
            return importlib.import_module("iptc")
    except (ImportError, OSError) as err:
        raise Unsupported(f"python-iptables does not load: {err}", hint="apt-get install iptables") from err


@contextmanager
def _lock() -> Iterator[None]:
    """The lock that iptables-legacy holds while it writes."""
    path = os.environ.get("XTABLES_LOCKFILE", LOCK_PATH)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    descriptor = os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                hint = f"find the program that holds it: fuser -v {path}"
                raise Busy(f"{path} was taken for {LOCK_TIMEOUT_S:g} s", hint=hint)
            time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _commit(library: Any, name: str, changes: Sequence[Edit]) -> None:
    """Make the edits of one table and commit them together."""
    table = library.Table(name, autocommit=False)
    doing = f"open table {name}"
    try:
        table.refresh()  # a cached table has the handle of whatever namespace used it last
        for edit in changes:
            doing = f"{edit.text()} in table {name}"
            _make(library, table, edit)
        doing = f"commit table {name}"
        table.commit()
    except (library.IPTCError, library.XTablesError, ValueError) as err:
        raise _failure(doing, err) from err
    finally:
        table.close()


def _make(library: Any, table: Any, edit: Edit) -> None:
    match edit.verb:
        case "new":
            table.create_chain(edit.chain)
        case "drop":
            table.delete_chain(edit.chain)
        case verb if edit.line and edit.line.rule:
            rule = _rule(library, library.Chain(table, edit.chain), edit.line.rule)
            if verb == "append":
                table.append_entry(edit.chain, rule.rule)
            elif verb == "insert":
                table.insert_entry(edit.chain, rule.rule, edit.position - 1)
            else:
                table.delete_entry(edit.chain, rule.rule, rule.mask)
        case verb:
            raise ValueError(f"cannot {verb} in {edit.chain} without a rule")


def _rule(library: Any, chain: Any, rule: Rule) -> Any:
    """A rule of the library's for a rule of ours, with the matches in the order of `Rule.arguments`."""
    built = _class(library)(chain=chain)
    for field, attribute in _PLAIN.items():
        if value := getattr(rule, field):
            setattr(built, attribute, _not(rule, field) + value)
    for name, option, values in _matches(rule):
        found = next((match for match in built.matches if match.name == name != "set"), None)
        match = found or built.create_match(name)
        match.set_parameter(option, values)
    target = built.create_target(rule.target)
    if rule.to:
        target.set_parameter("to-destination", rule.to)
    # Completes the target's data without reading it back; MASQUERADE is refused without it.
    target._final_check()
    return built


def _matches(rule: Rule) -> Iterator[tuple[str, str, str | list[str]]]:
    """Extension, option and value (`!` in front where negated) of each match."""
    if rule.dports:
        low, high = rule.dports
        ports = str(low) if low == high else f"{low}:{high}"
        yield rule.protocol, "dport", _not(rule, "dports") + ports
    if rule.src_type:
        yield "addrtype", "src-type", _not(rule, "src_type") + rule.src_type
    if rule.dst_type:
        yield "addrtype", "dst-type", _not(rule, "dst_type") + rule.dst_type
    if rule.states:
        yield "conntrack", "ctstate", _not(rule, "states") + ",".join(rule.states)
    for match in rule.sets:
        yield "set", "match-set", [*(["!"] if match.invert else []), match.name, match.directions]
    if rule.owner:
        yield "comment", "comment", mark(rule.owner)


def _not(rule: Rule, field: str) -> str:
    return "!" if field in rule.invert else ""


@functools.cache
def _class(library: Any) -> Any:
    """A rule that looks for the chain it jumps to in its own table only.

    The library's own looks in every table, which makes those exist that nobody uses.
    """

    class OfOneTable(library.Rule):  # type: ignore[misc]
        tables = property(lambda self: [self.chain.table])

    return OfOneTable


def _failure(doing: str, err: Exception) -> Refused | Busy | Unsupported:
    reason = f"cannot {doing}: {err}"
    if _AGAIN in reason:
        return Busy(reason, hint="another program writes rules all the time")
    if any(words in reason for words in _NOT_PERMITTED):
        return Unsupported(reason, hint="run as root or with CAP_NET_ADMIN")
    return Refused(reason, hint="compare with iptables-legacy-save")
