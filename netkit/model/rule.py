"""Packet rules as values: one neutral form for iptables of either variant and for the packet walk.

A rule is what matches and what happens. `text()` is letter for letter what `iptables -S` prints
after `-A CHAIN`, and `parse_rule` reads it back, so that wanted and observed rules are compared as
equal values and a person can compare them too.

    >>> parse_rule('-i br0 -o br0 -j DROP').out_link
    'br0'
"""

import re
from collections.abc import Iterable, Iterator

import msgspec

from netkit.errors import SpecError
from netkit.model.names import mark, owner_of


class SetMatch(msgspec.Struct, frozen=True):
    """`-m set --match-set NAME DIRECTIONS`: directions are like `src,dst,dst`."""

    name: str
    directions: str
    invert: bool = False


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a chain; an empty field matches everything.

    `src`/`dst` are networks in CIDR form (`10.0.0.2/32`), `dports` one inclusive port range,
    `states` conntrack states (NEW, ESTABLISHED, RELATED, INVALID, DNAT, SNAT) in the order in
    which iptables prints them, `src_type`/`dst_type` an address type such as LOCAL. `invert`
    names the fields whose match is negated. `to` is where DNAT sends: `ip`, `ip:port`.
    `owner` is whose rule it is; an empty one marks a rule that is not ours.
    """

    target: str
    owner: str = ""
    src: str = ""
    dst: str = ""
    in_link: str = ""
    out_link: str = ""
    protocol: str = ""
    dports: tuple[int, int] | None = None
    states: tuple[str, ...] = ()
    src_type: str = ""
    dst_type: str = ""
    sets: tuple[SetMatch, ...] = ()
    to: str = ""
    invert: frozenset[str] = frozenset()

    def text(self) -> str:
        """The rule as `iptables -S` prints it, less `-A CHAIN`."""
        words = self.arguments()
        if self.owner:
            at = words.index("--comment") + 1
            words[at] = _quote(words[at])
        return " ".join(words)

    def arguments(self) -> list[str]:
        """The rule as words of an iptables command line, in the order in which iptables prints."""
        words = self._matches()
        if self.owner:
            words += ["-m", "comment", "--comment", mark(self.owner)]
        words += ["-j", self.target]
        return words + (["--to-destination", self.to] if self.to else [])

    def matching(self) -> str:
        """What it matches, as iptables prints it: a chain has one entry for each."""
        return " ".join(self._matches())

    def _matches(self) -> list[str]:
        words: list[str] = []
        for field, flag in _PLAIN.items():
            if value := getattr(self, field):
                words += [*self._not(field), flag, value]
        if self.dports:
            low, high = self.dports
            ports = str(low) if low == high else f"{low}:{high}"
            words += ["-m", self.protocol, *self._not("dports"), "--dport", ports]
        if self.src_type or self.dst_type:
            words += ["-m", "addrtype"]
            for field, flag in _TYPES.items():
                if value := getattr(self, field):
                    words += [*self._not(field), flag, value]
        if self.states:
            words += ["-m", "conntrack", *self._not("states"), "--ctstate", ",".join(self.states)]
        for match in self.sets:
            negation = ["!"] if match.invert else []
            words += ["-m", "set", *negation, "--match-set", match.name, match.directions]
        return words

    def _not(self, field: str) -> list[str]:
        return ["!"] if field in self.invert else []


_PLAIN = {"src": "-s", "dst": "-d", "in_link": "-i", "out_link": "-o", "protocol": "-p"}
_TYPES = {"src_type": "--src-type", "dst_type": "--dst-type"}
_FLAGS = {flag: field for field, flag in (_PLAIN | _TYPES).items()} | {
    "-j": "target",
    "--to-destination": "to",
}
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPE = re.compile(r"\\(.)")
_SPECIAL = re.compile(r"""["'\\]""")
_BARE = re.compile(r"[a-zA-Z0-9_-]+")
# What only repeats the protocol or selects an extension says nothing by itself.
_EXTENSIONS = {"tcp", "udp", "sctp", "addrtype", "conntrack", "set", "comment"}


def parse_rule(text: str) -> Rule:
    """Read what `iptables -S` prints after `-A CHAIN`. Raises SpecError for a match not modelled."""
    return rule_of(split(text))


def rule_of(given: Iterable[str]) -> Rule:
    """The same from a rule's words. Raises SpecError for a match not modelled."""
    told = list(given)
    words = iter(told)
    fields: dict[str, object] = {}
    sets: list[SetMatch] = []
    invert: set[str] = set()
    negated = False
    for word in words:
        if word == "!":
            negated = True
            continue
        if word == "-m":
            extension = next(words, "")
            if extension not in _EXTENSIONS:
                raise SpecError(f"match {extension!r} is not modelled in rule {' '.join(told)!r}")
            continue
        value = next(words, "")
        if word == "--match-set":
            sets.append(SetMatch(value, next(words, ""), negated))
        elif word == "--comment":
            fields["owner"] = owner_of(value) or ""
        elif word == "--ctstate":
            fields["states"] = tuple(value.split(","))
            invert |= {"states"} if negated else set()
        elif word == "--dport":
            low, _, high = value.partition(":")
            fields["dports"] = (int(low), int(high or low))
            invert |= {"dports"} if negated else set()
        elif word in _FLAGS:
            fields[_FLAGS[word]] = value
            invert |= {_FLAGS[word]} if negated else set()
        else:
            raise SpecError(f"option {word!r} is not modelled in rule {' '.join(told)!r}")
        negated = False
    if "target" not in fields:
        raise SpecError(f"rule {' '.join(told)!r} has no target")
    return msgspec.convert(
        {**fields, "sets": tuple(sets), "invert": frozenset(invert)}, type=Rule, strict=True
    )


def split(text: str) -> Iterator[str]:
    """The words of a rule; iptables escapes `"`, `'` and `\\` inside double quotes, unlike a shell."""
    for found in _WORD.finditer(text):
        quoted, plain = found.groups()
        yield plain if quoted is None else _ESCAPE.sub(r"\1", quoted)


def _quote(word: str) -> str:
    """Quote as iptables-save does, which takes only letters, digits, `_` and `-` for plain."""
    return word if _BARE.fullmatch(word) else '"' + _SPECIAL.sub(r"\\\g<0>", word) + '"'
