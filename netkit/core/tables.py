"""The kernel's tables, interpreted: which rule of a chain decides on a packet.

They are given as they stand on the host, whoever wrote them, or made up from resources: then
built-in chains hold our hooks, and our own chains their fixed rules and then their entries. A
rule that may match and that cannot be weighed is gone past and told as a doubt.

    Tables(resources, ()).run("filter", "FORWARD", facts).verdict
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec
from netaddr import IPAddress, IPNetwork

from netkit.model.resource import Chain, Entry, Hook, IpSet, Key, Member, Resource
from netkit.model.rule import Rule, SetMatch
from netkit.model.saved import QUIET, Saved, SavedChain, SavedRule

_FINAL = frozenset({"ACCEPT", "DROP", "REJECT", "DNAT", "SNAT", "REDIRECT", "MASQUERADE"})
_SAME = {"REJECT": "DROP"}  # for the packet; its sender is told
# Verdicts that are the same whichever rule gives them.
_ALIKE = frozenset({"ACCEPT", "DROP", "REJECT", "MASQUERADE"})


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What rules can ask of a packet at one point of its way."""

    protocol: str
    src: IPAddress
    dst: IPAddress
    port: int
    in_link: str
    out_link: str
    states: frozenset[str]
    src_local: bool
    dst_local: bool


class Doubt(msgspec.Struct, frozen=True):
    """A rule that cannot be weighed, and the verdict that it would give; empty where that is not known."""

    text: str
    verdict: str = ""


class Ruling(msgspec.Struct, frozen=True):
    """What a chain says of a packet, with the rule that said it, if one did, and where it stands.

    `doubts` are the rules for which it may say something else.
    """

    verdict: str
    rule: SavedRule | None = None
    place: str = ""
    doubts: tuple[Doubt, ...] = ()


class Tables:
    """The rules and sets of a host: `saved` as they stand, or those among `resources`.

    Without `saved` the rules of NETKIT-USER are `user_rules`.
    """

    def __init__(
        self, resources: Mapping[Key, Resource], user_rules: Iterable[Rule], saved: Saved | None = None
    ) -> None:
        self._saved = made_up(resources, user_rules) if saved is None else saved
        self._sets: dict[str, set[str]] = defaultdict(set)
        for resource in resources.values():
            match resource:
                case IpSet(name=name):
                    self._sets.setdefault(name, set())
                case Member():
                    self._sets[resource.set].add(resource.entry)

    def run(self, table: str, chain: str, facts: Facts) -> Ruling:
        """The verdict of a built-in chain: a rule's, or its policy's, which is ACCEPT where it has none."""
        found = self._run(table, chain, facts)
        if not found.verdict:
            known = self._saved.get(table, {}).get(chain, SavedChain(""))
            found = Ruling(known.policy or "ACCEPT", doubts=found.doubts)
        verdict = _SAME.get(found.verdict, found.verdict)
        return msgspec.structs.replace(found, doubts=tuple(d for d in found.doubts if d.verdict != verdict))

    def _run(self, table: str, chain: str, facts: Facts) -> Ruling:
        """What the rules of a chain say; without a verdict where its end is reached."""
        place, doubts = f"{table} {chain}", []
        for each in self._saved.get(table, {}).get(chain, SavedChain("")).rules:
            target = each.rule.target
            matches = False if target in QUIET else self._weigh(each, facts)
            if matches is False:
                continue
            if target in _FINAL:
                below = Ruling(target, each, place)
            elif target == "RETURN":
                below = Ruling("RETURN")
            elif target in self._saved.get(table, {}):
                below = self._run(table, target, facts)
                if each.goto and not below.verdict:
                    below = Ruling("RETURN", doubts=below.doubts)
            else:
                matches, below = None, Ruling("?")
            if matches is None:
                doubts += _doubts(f"{place}: {each.text}", below)
                continue
            doubts += below.doubts
            if below.verdict:
                found = "" if below.verdict == "RETURN" else below.verdict
                return Ruling(found, below.rule, below.place, tuple(doubts))
        return Ruling("", doubts=tuple(doubts))

    def _weigh(self, each: SavedRule, facts: Facts) -> bool | None:
        """Whether a rule matches; None where that cannot be known."""
        known = [match for match in each.rule.sets if match.name in self._sets]
        inside = (not each.ports) or each.other_ports != any(_within(part, facts.port) for part in each.ports)
        if each.never or not inside or not self._matches(each.rule, known, facts):
            return False
        return None if each.unread or len(known) < len(each.rule.sets) else True

    def _matches(self, rule: Rule, sets: Iterable[SetMatch], facts: Facts) -> bool:
        def holds(field: str, matched: bool) -> bool:
            return matched != (field in rule.invert)

        return (
            (not rule.src or holds("src", facts.src in IPNetwork(rule.src)))
            and (not rule.dst or holds("dst", facts.dst in IPNetwork(rule.dst)))
            and (not rule.in_link or holds("in_link", _is_link(rule.in_link, facts.in_link)))
            and (not rule.out_link or holds("out_link", _is_link(rule.out_link, facts.out_link)))
            and (not rule.protocol or holds("protocol", rule.protocol == facts.protocol))
            and (not rule.dports or holds("dports", _within(rule.dports, facts.port)))
            and (not rule.states or holds("states", bool(facts.states & set(rule.states))))
            and (not rule.src_type or holds("src_type", facts.src_local))
            and (not rule.dst_type or holds("dst_type", facts.dst_local))
            and all(self._in_set(match, facts) != match.invert for match in sets)
        )

    def _in_set(self, match: SetMatch, facts: Facts) -> bool:
        return any(
            _is_member(entry, match, facts) for entry in _candidates(self._sets[match.name], match, facts)
        )


def _candidates(entries: set[str], match: SetMatch, facts: Facts) -> Iterable[str]:
    """The entries worth a look: the exact spelling where there is one, all of a small set of links."""
    words = match.directions.split(",")
    if len(words) == 2 and any("/" in entry for entry in entries):
        return entries
    return entries & {_spelled(words, facts)}


def _spelled(words: list[str], facts: Facts) -> str:
    """An entry of hash:ip,port or hash:ip,port,ip as ipset prints it, for this packet."""
    parts = []
    for place, word in enumerate(words):
        if place == 1:
            parts.append(f"{facts.protocol}:{facts.port}")
        else:
            parts.append(str(facts.src if word == "src" else facts.dst))
    return ",".join(parts)


def _is_member(entry: str, match: SetMatch, facts: Facts) -> bool:
    """Whether the packet is meant by one entry. Links are `0.0.0.0/0,br0`; icmp has no port."""
    network, _, rest = entry.partition(",")
    if "/" in network:
        address, link = match.directions.split(",")
        number = facts.src if address == "src" else facts.dst
        name = facts.in_link if link == "src" else facts.out_link
        return rest == name and number in IPNetwork(network)
    return facts.protocol != "icmp"


def _within(ports: tuple[int, int], port: int) -> bool:
    return ports[0] <= port <= ports[1]


def _is_link(pattern: str, name: str) -> bool:
    """Whether a link is meant; a pattern that ends in + is the beginning of a name."""
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern


def _doubts(text: str, below: Ruling) -> list[Doubt]:
    """What it means for a chain that a rule may match, of which `below` is what happens then."""
    if not below.verdict:
        # The end of a chain that is come back from: only what is doubtful in it counts.
        return [Doubt(text, each.verdict) for each in below.doubts]
    known = not below.doubts and below.verdict in _ALIKE
    return [Doubt(text, _SAME.get(below.verdict, below.verdict) if known else "")]


def made_up(resources: Mapping[Key, Resource], user_rules: Iterable[Rule]) -> Saved:
    """The tables as they are where nobody else has written any rules."""
    tables: dict[str, dict[str, list[Rule]]] = defaultdict(dict)
    entries: list[Entry] = []
    for resource in resources.values():
        match resource:
            case Chain(table=table, name=name):
                tables[table][name] = list(user_rules if resource.keep else resource.rules)
            case Hook(table=table, chain=name):
                tables[table][name] = list(resource.rules)
            case Entry():
                entries.append(resource)
    for entry in sorted(entries, key=lambda each: each.name_of()):
        tables[entry.table].setdefault(entry.chain, []).append(entry.rule)
    return {
        table: {
            name: SavedChain("", tuple(SavedRule(text=rule.text(), rule=rule) for rule in rules))
            for name, rules in chains.items()
        }
        for table, chains in tables.items()
    }
