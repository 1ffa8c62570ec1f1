"""What `iptables-save` prints, as values: which lines are ours, and what they make up.

A line is ours when its comment carries the mark. In a chain of ours the rules of the host are the
chain's own and every other marked rule is an entry; in any other chain the marked rules are hooks.
Nothing here reads or writes the kernel.

    >>> tables = parse_save('*filter\\n:NETKIT-A - [0:0]\\n-A NETKIT-A -j DROP\\nCOMMIT')
    >>> tables["filter"]["NETKIT-A"][0].text
    '-j DROP'
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from netkit.errors import SpecError
from netkit.model.names import CHAINS, MARK, USER_CHAIN
from netkit.model.resource import Chain, Entry, Hook, Resource
from netkit.model.rule import Rule, parse_rule

OWNER = "host"  # of chains, of their own rules and of hooks

_TARGET = re.compile(r"(?:^| )-[jg] (\S+)")


class Line(msgspec.Struct, frozen=True):
    """One rule of a chain as printed; `rule` is None where it is somebody else's.

    `key` is what an entry is known by: what it matches; of somebody else's rule all of its text.
    """

    text: str
    rule: Rule | None
    key: str

    @property
    def target(self) -> str:
        """Where it jumps or goes to, or an empty text."""
        found = _TARGET.search(self.text)
        return found.group(1) if found else ""


Chains = Mapping[str, Sequence[Line]]


def parse_save(text: str) -> dict[str, dict[str, list[Line]]]:
    """Tables, their chains and the lines in them, from the output of `iptables-save`."""
    tables: dict[str, dict[str, list[Line]]] = {}
    chains: dict[str, list[Line]] = {}
    for row in text.splitlines():
        if row.startswith("*"):
            chains = tables.setdefault(row[1:].strip(), {})
        elif row.startswith(":"):
            chains[row[1:].split(" ", 1)[0]] = []
        elif row.startswith("-A "):
            name, _, rule = row[3:].partition(" ")
            chains.setdefault(name, []).append(read_line(rule.strip()))
    return tables


@functools.lru_cache(maxsize=1 << 16)
def read_line(text: str) -> Line:
    """A printed rule as a line. A mark on a rule that the model has no words for is not ours."""
    if MARK in text:
        try:
            rule = parse_rule(text)
        except SpecError:
            return Line(text, None, text)
        if rule.owner:
            return Line(text, rule, rule.matching())
    return Line(text, None, text)


def line_of(rule: Rule) -> Line:
    """The line that a rule will be."""
    return Line(rule.text(), rule, rule.matching())


def is_ours(chain: str) -> bool:
    """Whether a chain is one of ours: only by its name, as it has no comment; others may begin like ours."""
    return chain in CHAINS


def is_own(line: Line) -> bool:
    """Whether a line in a chain of ours is one of the chain's own rules, and not an entry."""
    return line.rule is not None and line.rule.owner == OWNER


def own_rules(lines: Iterable[Line]) -> tuple[Rule, ...]:
    """A chain's own rules as far as they stand before the entries, which is where they belong."""
    found: list[Rule] = []
    for line in lines:
        if line.rule is None:
            continue
        if not is_own(line):
            break
        found.append(line.rule)
    return tuple(found)


def marked(lines: Iterable[Line]) -> tuple[Rule, ...]:
    """All rules of ours in a chain, in their order."""
    return tuple(line.rule for line in lines if line.rule is not None)


def is_left(name: str, chains: Chains) -> bool:
    """Whether a chain with our prefix is no longer ours, but kept in being by somebody else's rules."""
    every = [line for lines in chains.values() for line in lines]
    callers = [line for line in every if line.target == name]
    # The user's chain is ours as long as anything else in its table is: what is in it is never ours.
    others = [line for chain, lines in chains.items() if chain != USER_CHAIN for line in lines]
    if marked(others if name == USER_CHAIN else (*chains[name], *callers)):
        return False
    return bool(callers or chains[name])


def resources(table: str, chains: Chains) -> Iterator[Resource]:
    """Everything in a table that carries our mark."""
    for name, lines in chains.items():
        if is_ours(name):
            if not is_left(name, chains):
                yield chain_resource(table, name, lines)
            for same in () if name == USER_CHAIN else entries(lines).values():
                yield entry_resource(table, name, same)
        elif rules := marked(lines):
            yield Hook(owner=OWNER, table=table, chain=name, rules=rules)


def entries(lines: Iterable[Line]) -> dict[str, list[Rule]]:
    """The rules of the entries in a chain of ours, by what they match."""
    found: dict[str, list[Rule]] = {}
    for line in lines:
        if line.rule is not None and not is_own(line):
            found.setdefault(line.key, []).append(line.rule)
    return found


def entry_resource(table: str, chain: str, rules: Sequence[Rule]) -> Entry:
    """An entry as the kernel has it; one that is there twice is nobody's, and so differs from any wanted."""
    rule = rules[0] if len(rules) == 1 else msgspec.structs.replace(rules[0], owner="")
    return Entry(owner=rule.owner, table=table, chain=chain, rule=rule)


def chain_resource(table: str, name: str, lines: Sequence[Line]) -> Chain:
    """A chain of ours as the kernel has it; the user's has no rules that are our business."""
    keep = name == USER_CHAIN
    rules = () if keep else own_rules(lines)
    return Chain(owner=OWNER, table=table, name=name, rules=rules, keep=keep)


def stands(
    wanted: Resource, chains: Chains, entries_of: Callable[[str, str], Mapping[str, Sequence[Rule]]]
) -> Resource | None:
    """What stands in the place of a chain, hook or entry now.

    `entries_of` gives the `entries` of a table's chain.
    """
    match wanted:
        case Chain(owner=owner, table=table, name=name, keep=keep):
            if name not in chains or is_left(name, chains):
                return None
            rules = wanted.rules if keep else own_rules(chains[name])
            return Chain(owner=owner, table=table, name=name, rules=rules, keep=keep)
        case Hook(owner=owner, table=table, chain=name):
            found = marked(chains.get(name, ()))
            return Hook(owner=owner, table=table, chain=name, rules=found) if found else None
        case Entry(table=table, chain=name, rule=rule):
            same = entries_of(table, name).get(rule.matching())
            return entry_resource(table, name, same) if same else None
        case other:
            raise TypeError(f"{other.describe()} is not for iptables")
