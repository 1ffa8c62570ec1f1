"""The hands for chains, hooks and entries, on iptables of either variant.

Edits are worked out from the tables as they were observed last and written with one commit a
table. When the tables have changed meanwhile, they are read again and it is redone. What is not
marked as ours is never changed, nor is the policy of a chain. What the rules should be is not
decided here.

    driver = XTables()
    list(driver.execute([Operation(None, Chain(owner="host", table="filter", name="NETKIT-A"))]))
"""

import functools
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from netkit.errors import ApplyError
from netkit.kernel.xtables_draft import Draft, Edit, Edits
from netkit.kernel.xtables_legacy import LegacyTables
from netkit.kernel.xtables_nft import Busy, Hand, Programs, Variant, failure, program, start
from netkit.kernel.xtables_rules import Line, entries, parse_save, resources, stands
from netkit.model.operation import Operation
from netkit.model.resource import Chain, Entry, Hook, Resource
from netkit.model.rule import Rule

ATTEMPTS = 8
FIRST_WAIT_S = 0.01  # doubled with every attempt

Tables = dict[str, dict[str, list[Line]]]


class XTables:
    """Driver for the kinds `chain`, `hook` and `entry`.

    `variant` is which tables to use (found out when empty), `namespace` the path of a network
    namespace ("" is the calling thread's own).
    """

    kinds = frozenset({"chain", "hook", "entry"})
    waits = True

    def __init__(self, namespace: str = "", variant: Variant | None = None) -> None:
        self.variant: Variant = variant or detect(namespace)
        self._seen: Tables | None = None
        self._latest: tuple[int, Tables] = 0, {}
        self._hand: Hand = LegacyTables(namespace) if self.variant == "legacy" else Programs("nft", namespace)

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        """What there is: at most one program start. Owners of chains and hooks are echoed from the scope."""
        tables = self._seen = self._read()
        if scope is None:
            return [found for name, chains in tables.items() for found in resources(name, chains)]

        @functools.cache
        def entries_of(table: str, chain: str) -> Mapping[str, Sequence[Rule]]:
            return entries(tables.get(table, {}).get(chain, ()))

        answers = (stands(wanted, tables.get(_table(wanted), {}), entries_of) for wanted in scope)
        return [found for found in answers if found is not None]

    def saved(self) -> str:
        """All tables as they stand, of whomever they are, as `iptables-save` prints them."""
        return self._hand.read()

    def execute(self, operations: Sequence[Operation]) -> Iterator[Operation]:
        """Carry the operations out: one commit for each table that changes. Raises ApplyError."""
        if not operations:
            return
        try:
            self._write(operations)
        except ApplyError:
            # Tables are committed one after the other: say which of them were.
            unfinished = self._edits(operations)
            yield from (operation for operation in operations if _table(operation.resource) not in unfinished)
            raise
        yield from operations

    def _write(self, operations: Sequence[Operation]) -> None:
        """Read, work out and write, again while others write meanwhile."""
        refused: Edits = {}
        for attempt in range(ATTEMPTS):
            edits = self._edits(operations)
            if not edits:
                return
            try:
                self._hand.write(edits)
                return
            except ApplyError as err:
                # The same edits refused twice are wrong in themselves, and not only too late.
                hopeless = edits == refused and not isinstance(err, Busy)
                if hopeless or attempt == ATTEMPTS - 1:
                    raise
                refused = edits
            time.sleep(FIRST_WAIT_S * 2**attempt)

    def _edits(self, operations: Sequence[Operation]) -> dict[str, list[Edit]]:
        """What must be written now, for each table that must change."""
        # What was seen serves once: reading takes a third as long as the whole change.
        tables, self._seen = (self._read() if self._seen is None else self._seen), None
        names = dict.fromkeys(_table(operation.resource) for operation in operations)
        drafts = {name: Draft(tables.get(name, {})) for name in names}
        for operation in operations:
            drafts[_table(operation.resource)].carry_out(operation)
        edits = {name: draft.edits() for name, draft in drafts.items()}
        return {name: changes for name, changes in edits.items() if changes}

    def _read(self) -> Tables:
        """The tables as they are now: those read last where the kernel says that nobody wrote since."""
        # Asked before the reading: what is written in between must look new the next time.
        generation = self._hand.generation()
        if not generation or generation != self._latest[0]:
            self._latest = generation, parse_save(self._hand.read())
        return self._latest[1]


def detect(namespace: str = "") -> Variant:
    """Which iptables this host's rules are in: what the program says, unless only the other has rules.

    Raises Unsupported where iptables is not installed.
    """
    program("", "nft")
    done = start(["iptables", "--version"], namespace)
    if done.code:
        raise failure(done)
    if "nf_tables" not in done.stdout:
        return "legacy"
    nft, legacy = count_rules(namespace)
    return "legacy" if legacy and not nft else "nft"


def mixed(namespace: str = "") -> str:
    """A sentence for the doctor when both variants hold rules; empty when all is well."""
    nft, legacy = count_rules(namespace)
    if not (nft and legacy):
        return ""
    return f"packets pass two firewalls: {nft} rules of iptables-nft and {legacy} of iptables-legacy"


def count_rules(namespace: str = "") -> tuple[int, int]:
    """How many rules the nft and the legacy tables hold; 0 for a variant that is not installed."""
    return _count("nft", namespace), _count("legacy", namespace)


def _count(variant: Variant, namespace: str) -> int:
    name = f"iptables-{variant}-save"
    if shutil.which(name) is None:
        return 0
    # The kernel may lack one of the variants altogether, which then holds nothing.
    done = start([name], namespace)
    return sum(row.startswith("-A ") for row in done.stdout.splitlines())


def _table(resource: Resource) -> str:
    match resource:
        case Chain(table=table) | Hook(table=table) | Entry(table=table):
            return table
        case other:
            raise TypeError(f"{other.describe()} is not for iptables")
