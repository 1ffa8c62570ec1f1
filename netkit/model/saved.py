"""What `iptables-save` prints, of whomever it is, as values for the packet walk.

Every table has its chains, every built-in chain its policy, and every rule its text with as much
of its meaning as can be read cheaply. What cannot be read is not left out: `unread` says that the
rule asks for more than `rule` says. Whose a rule is, and how rules are written, is elsewhere.

    >>> parse_saved('*filter\\n:INPUT DROP [0:0]\\n-A INPUT -m limit --limit 1/sec -j ACCEPT')
    ...     ["filter"]["INPUT"].rules[0].unread
    True
"""

from collections.abc import Iterator, Mapping

import msgspec
from netaddr import AddrFormatError, IPNetwork

from netkit.model.rule import Rule, rule_of, split

# Targets after which the packet goes on to the next rule; CONTINUE stands for no target at all.
QUIET = frozenset(
    "AUDIT CHECKSUM CLASSIFY CONNMARK CONNSECMARK CONTINUE DSCP ECN LED LOG MARK NFLOG RATEEST SECMARK SET "
    "TCPMSS TCPOPTSTRIP TOS TRACE TTL ULOG".split()
)
_PLAIN = {"-s", "-d", "-i", "-o", "-p", "--dport", "--ctstate", "--src-type", "--dst-type"}
# How many words follow an option that is read; all that is unknown takes what is no option itself.
_WORDS = {"--match-set": 2, "--tcp-flags": 2, "-f": 0, "--random": 0, "--random-fully": 0}
_EXTENSIONS = frozenset({"addrtype", "comment", "conntrack", "icmp", "multiport", "set", "state"})
_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_REPEATABLE = {"-m", "--match-set", "--comment"}
# What an option of a target leaves of the verdict: all of it.
_HARMLESS = {"REJECT": {"--reject-with"}, "MASQUERADE": {"--to-ports", "--random", "--random-fully"}}
_DESTINATIONS = {"--to-destination": "DNAT", "--to-source": "SNAT", "--to-ports": "REDIRECT"}
_ECHO = {"8", "8/0", "any", "255"}


class SavedRule(msgspec.Struct, frozen=True, kw_only=True):
    """One printed rule: `text` less `-A CHAIN`, and what of it is understood.

    `rule` holds what the model has words for, with REJECT, SNAT, REDIRECT (their `to` as DNAT has
    it) and QUIET among its targets. `ports` are several ranges of destination ports, `goto` says
    that the chain jumped to does not come back here, `never` that no first packet of a connection
    matches, `unread` that more is asked for than is understood.
    """

    text: str
    rule: Rule
    ports: tuple[tuple[int, int], ...] = ()
    other_ports: bool = False
    goto: bool = False
    never: bool = False
    unread: bool = False


class SavedChain(msgspec.Struct, frozen=True):
    """A chain: `policy` is empty where it is not a built-in one."""

    policy: str
    rules: tuple[SavedRule, ...] = ()


Saved = Mapping[str, Mapping[str, SavedChain]]


class _Clause(msgspec.Struct, frozen=True):
    """One option of a rule with its words."""

    flag: str
    values: tuple[str, ...]
    negated: bool = False

    @property
    def value(self) -> str:
        return self.values[0] if self.values else ""

    def words(self, flag: str = "") -> list[str]:
        return [*(["!"] if self.negated else []), flag or self.flag, *self.values]


def parse_saved(text: str) -> dict[str, dict[str, SavedChain]]:
    """Tables and their chains, from the output of `iptables-save`."""
    tables: dict[str, dict[str, SavedChain]] = {}
    policies: dict[tuple[str, str], str] = {}
    rules: dict[tuple[str, str], list[SavedRule]] = {}
    table = ""
    for row in text.splitlines():
        if row.startswith("*"):
            table = row[1:].strip()
        elif row.startswith(":"):
            name, policy = row[1:].split()[:2]
            policies[table, name] = "" if policy == "-" else policy
        elif row.startswith("-A "):
            name, _, rule = row[3:].partition(" ")
            rules.setdefault((table, name), []).append(read_rule(rule.strip()))
    for at in {**policies, **rules}:
        chain = SavedChain(policies.get(at, ""), tuple(rules.get(at, ())))
        tables.setdefault(at[0], {})[at[1]] = chain
    return tables


def read_rule(text: str) -> SavedRule:
    """Understand as much of a printed rule as can be."""
    reader = _Reader()
    for clause in _clauses(text):
        reader.take(clause)
    return reader.rule(text)


class _Reader:
    """A rule while its options are read, one after the other."""

    def __init__(self) -> None:
        self._plain: list[str] = []
        self._more: dict[str, object] = {}
        self._target = _Clause("-j", ("CONTINUE",))
        self._to = ""
        self._taken: set[str] = set()

    def rule(self, text: str) -> SavedRule:
        target = ["-j", self._target.value, *(["--to-destination", self._to] if self._to else [])]
        self._more["goto"] = self._target.flag == "-g"
        return msgspec.convert(
            {"text": text, "rule": rule_of([*self._plain, *target]), **self._more}, SavedRule
        )

    def take(self, clause: _Clause) -> None:
        flag = clause.flag
        if flag in self._taken and flag not in _REPEATABLE:
            self._more["unread"] = True  # each of the two must match, and only one has a place
            return
        self._taken.add(flag)
        if not (self._match(clause) or self._action(clause)):
            self._more["unread"] = True

    def _match(self, clause: _Clause) -> bool:
        """Take what says which packets are meant; False where it cannot be read."""
        match clause.flag:
            case "-s" | "-d" if not _is_network(clause.value):
                return False
            case "--src-type" | "--dst-type" if clause.value != "LOCAL":
                return False
            case flag if flag in _PLAIN:
                self._plain += clause.words()
            case "--state":
                self._plain += clause.words("--ctstate")
            case "--match-set":
                self._plain += clause.words()
            case "-m":
                return clause.value in _EXTENSIONS | _PROTOCOLS
            case "--comment":
                pass
            case "--dports":
                self._more["ports"] = tuple(_range(part) for part in clause.value.split(","))
                self._more["other_ports"] = clause.negated
            case "--tcp-flags":
                mask, wanted = ({*each.split(",")} - {"NONE"} for each in clause.values)
                self._require((mask & {"SYN"} == wanted) != clause.negated)
            case "--icmp-type":
                self._require((clause.value in _ECHO) != clause.negated)
            case "-f":
                self._require(clause.negated)
            case _:
                return False
        return True

    def _require(self, met: bool) -> None:
        """A condition that the first packet of a connection meets or not, whatever else it is."""
        self._more["never"] = bool(self._more.get("never")) or not met

    def _action(self, clause: _Clause) -> bool:
        """Take what says what happens; False where it cannot be read."""
        target = self._target.value
        if clause.flag in {"-j", "-g"}:
            self._target = clause
            return True
        if clause.flag in _HARMLESS.get(target, ()) or (target in QUIET and target != "CONTINUE"):
            return True
        if _DESTINATIONS.get(clause.flag) == target and _is_one_place(clause.value):
            self._to = clause.value
            return True
        return False


def _clauses(text: str) -> Iterator[_Clause]:
    words, negated = list(split(text)), False
    while words:
        flag = words.pop(0)
        if flag == "!":
            negated = True
            continue
        count = _WORDS.get(flag, 1 if flag in _KNOWN else _next_option(words))
        yield _Clause(flag, tuple(words[:count]), negated)
        del words[:count]
        negated = False


_KNOWN = {
    *_PLAIN,
    *_WORDS,
    *_DESTINATIONS,
    "-m",
    "-j",
    "-g",
    "--state",
    "--comment",
    "--dports",
    "--icmp-type",
}


def _next_option(words: list[str]) -> int:
    """How many words there are before the next option."""
    found = (at for at, word in enumerate(words) if word == "!" or word.startswith("-"))
    return next(found, len(words))


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    return int(low), int(high or low)


def _is_network(text: str) -> bool:
    try:
        return bool(IPNetwork(text))
    except (AddrFormatError, ValueError):
        return False  # a mask with holes


def _is_one_place(text: str) -> bool:
    """Whether it is one address, one port, or both, and not a range of them."""
    return "-" not in text
