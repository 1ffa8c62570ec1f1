"""From a table as it is to the edits that make it as the operations want it. Pure.

Rules are deleted by what they say and never by their number, so that a line which somebody else
adds in the meantime is not hit. New chains come first and removed chains last: within one commit
that order suits every mixture of operations.

    draft = Draft(chains)
    draft.carry_out(operation)
    print(restore_text({"filter": draft.edits()}))
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from netkit.kernel.xtables_rules import Chains, Line, is_own, line_of, marked, own_rules
from netkit.model.operation import Operation
from netkit.model.resource import Chain, Entry, Hook
from netkit.model.rule import Rule


class Edit(msgspec.Struct, frozen=True):
    """One line of `iptables-restore`; `position` counts from 1 and is for inserts."""

    verb: Literal["new", "append", "insert", "delete", "drop"]
    chain: str
    line: Line | None = None
    position: int = 0

    def text(self) -> str:
        """The words of iptables for it."""
        text = self.line.text if self.line else ""
        match self.verb:
            case "new":
                # Not `:NAME - [0:0]`, which would empty the chain if somebody just made it.
                return f"-N {self.chain}"
            case "drop":
                return f"-X {self.chain}"
            case "append":
                return f"-A {self.chain} {text}"
            case "insert":
                return f"-I {self.chain} {self.position} {text}"
            case "delete":
                return f"-D {self.chain} {text}"


Edits = Mapping[str, Sequence[Edit]]


def restore_text(edits: Edits) -> str:
    """The input of `iptables-restore --noflush`: one commit for each table."""
    rows: list[str] = []
    for table, changes in edits.items():
        rows += [f"*{table}", *(edit.text() for edit in changes), "COMMIT"]
    return "\n".join(rows) + "\n"


class Draft:
    """One table: its chains as they will be, and what must be written for that."""

    def __init__(self, chains: Chains) -> None:
        self._chains = {name: list(lines) for name, lines in chains.items()}
        self._existing = set(chains)
        self._keys: dict[str, set[str]] = {}
        self._new: list[Edit] = []
        self._changes: list[Edit] = []
        self._doomed: dict[str, None] = {}

    def carry_out(self, operation: Operation) -> None:
        """Add what an operation asks for; nothing is added for what is already as wanted."""
        gone = operation.wanted is None
        match operation.resource:
            case Chain() as chain:
                self._remove_chain(chain) if gone else self._set_chain(chain)
            case Hook(chain=name) if gone:
                self._remove(name, [line for line in self._lines(name) if line.rule])
            case Hook() as hook:
                self._set_hook(hook)
            case Entry(chain=name, rule=rule) if gone:
                self._remove_entry(name, rule.matching())
            case Entry() as entry:
                self._set_entry(entry)
            case other:
                raise TypeError(f"{other.describe()} is not for iptables")

    def edits(self) -> list[Edit]:
        """What to write, in order."""
        return [*self._new, *self._changes, *self._drops()]

    def _set_chain(self, chain: Chain) -> None:
        self._doomed.pop(chain.name, None)
        if chain.name not in self._existing:
            self._existing.add(chain.name)
            self._new.append(Edit("new", chain.name))
        lines = self._lines(chain.name)
        if not chain.keep and own_rules(lines) != chain.rules:
            self._remove(chain.name, [line for line in lines if is_own(line)])
            self._insert(chain.name, chain.rules)

    def _remove_chain(self, chain: Chain) -> None:
        if chain.name in self._existing:
            self._doomed[chain.name] = None
            if not chain.keep:
                self._remove(chain.name, [line for line in self._lines(chain.name) if line.rule])

    def _set_hook(self, hook: Hook) -> None:
        lines = self._lines(hook.chain)
        if marked(lines) != hook.rules:
            self._remove(hook.chain, [line for line in lines if line.rule])
            self._insert(hook.chain, hook.rules)

    def _set_entry(self, entry: Entry) -> None:
        line = line_of(entry.rule)
        standing = self._entries(entry.chain, line.key)
        if [each.rule for each in standing] == [entry.rule]:
            return
        self._remove(entry.chain, standing)
        self._lines(entry.chain).append(line)
        self._keys_of(entry.chain).add(line.key)
        self._changes.append(Edit("append", entry.chain, line))

    def _remove_entry(self, chain: str, key: str) -> None:
        self._remove(chain, self._entries(chain, key))

    def _entries(self, chain: str, key: str) -> list[Line]:
        """The lines of an entry: somebody may have added it a second time."""
        if key not in self._keys_of(chain):
            return []
        return [line for line in self._lines(chain) if line.key == key and line.rule and not is_own(line)]

    def _insert(self, chain: str, rules: Sequence[Rule]) -> None:
        """Put rules at the top of a chain, in this order."""
        lines = [line_of(rule) for rule in rules]
        self._chains[chain] = lines + self._lines(chain)
        self._keys_of(chain).update(line.key for line in lines)
        self._changes += [Edit("insert", chain, line, at) for at, line in enumerate(lines, start=1)]

    def _remove(self, chain: str, lines: Sequence[Line]) -> None:
        for line in lines:
            self._lines(chain).remove(line)
            self._keys_of(chain).discard(line.key)
            self._changes.append(Edit("delete", chain, line))

    def _lines(self, chain: str) -> list[Line]:
        return self._chains.setdefault(chain, [])

    def _keys_of(self, chain: str) -> set[str]:
        """The keys of a chain's lines: a set, because a chain may hold thousands of entries."""
        if chain not in self._keys:
            self._keys[chain] = {line.key for line in self._lines(chain)}
        return self._keys[chain]

    def _drops(self) -> list[Edit]:
        """The chains to go: those that hold nothing and that nothing refers to."""
        targets = {line.target for lines in self._chains.values() for line in lines}
        return [Edit("drop", name) for name in self._doomed if not self._lines(name) and name not in targets]
