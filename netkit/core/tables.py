"""The kernel's tables, interpreted: which rule of a chain decides on a packet.

Rules are `model.rule.Rule`s as resources have them: built-in chains hold our hooks, our own
chains their fixed rules and then their entries. What is not modelled cannot be there.

    verdict, rule = Tables(resources, ()).run("filter", "FORWARD", facts, print)
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import msgspec
from netaddr import IPAddress, IPNetwork

from netkit.model.resource import Chain, Entry, Hook, Key, Member, Resource
from netkit.model.rule import Rule, SetMatch

_FINAL = frozenset({"ACCEPT", "DROP", "DNAT", "MASQUERADE"})


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


class Tables:
    """The rules and sets among `resources`; `user_rules` are those of NETKIT-USER."""

    def __init__(self, resources: Mapping[Key, Resource], user_rules: Iterable[Rule]) -> None:
        self._chains: dict[tuple[str, str], list[Rule]] = defaultdict(list)
        self._sets: dict[str, set[str]] = defaultdict(set)
        entries: list[Entry] = []
        for resource in resources.values():
            match resource:
                case Chain():
                    own = list(user_rules) if resource.keep else list(resource.rules)
                    self._chains[resource.table, resource.name] = own
                case Hook():
                    self._chains[resource.table, resource.chain] = list(resource.rules)
                case Member():
                    self._sets[resource.set].add(resource.entry)
                case Entry():
                    entries.append(resource)
        for entry in sorted(entries, key=lambda each: each.name_of()):
            self._chains[entry.table, entry.chain].append(entry.rule)

    def run(
        self, table: str, chain: str, facts: Facts, note: Callable[[str], None]
    ) -> tuple[str, Rule | None]:
        """The verdict of a built-in chain and the rule that gave it; ACCEPT without one."""
        return self._run(table, chain, facts, note) or ("ACCEPT", None)

    def _run(
        self, table: str, chain: str, facts: Facts, note: Callable[[str], None]
    ) -> tuple[str, Rule] | None:
        for rule in self._chains.get((table, chain), ()):
            if not self._matches(rule, facts):
                continue
            if rule.target in _FINAL:
                note(f"{table} {chain}: {rule.text()}")
                return rule.target, rule
            if rule.target == "RETURN":
                return None
            if found := self._run(table, rule.target, facts, note):
                return found
        return None

    def _matches(self, rule: Rule, facts: Facts) -> bool:
        def holds(field: str, matched: bool) -> bool:
            return matched != (field in rule.invert)

        return (
            (not rule.src or holds("src", facts.src in IPNetwork(rule.src)))
            and (not rule.dst or holds("dst", facts.dst in IPNetwork(rule.dst)))
            and (not rule.in_link or holds("in_link", rule.in_link == facts.in_link))
            and (not rule.out_link or holds("out_link", rule.out_link == facts.out_link))
            and (not rule.protocol or holds("protocol", rule.protocol == facts.protocol))
            and (not rule.dports or holds("dports", _within(rule.dports, facts.port)))
            and (not rule.states or holds("states", bool(facts.states & set(rule.states))))
            and (not rule.src_type or holds("src_type", facts.src_local))
            and (not rule.dst_type or holds("dst_type", facts.dst_local))
            and all(self._in_set(match, facts) != match.invert for match in rule.sets)
        )

    def _in_set(self, match: SetMatch, facts: Facts) -> bool:
        return any(
            _is_member(entry, match, facts) for entry in _candidates(self._sets[match.name], match, facts)
        )


def _candidates(entries: set[str], match: SetMatch, facts: Facts) -> Iterable[str]:
    """The entries worth a look: the exact spelling where there is one, all of a small set of links."""
    words = match.directions.split(",")
    if len(words) == 2 and words[0] == words[1] and any("/" in entry for entry in entries):
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
