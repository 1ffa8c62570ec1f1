"""Templates as `inspect -f` takes them: the part of Go's text/template that Docker's users write.

Fields, `json`, `index`, `len`, `join`, `upper`, `lower`, `eq`, `ne`, `and`, `or`, `not`, parentheses;
`range` (with variables), `if`, `else`, `end`; `{{-` and `-}}` take blanks away. Anything else is
refused by name. Pure.

    >>> fill("{{range .Nets}}{{.IP}} {{end}}", {"Nets": {"a": {"IP": "10.0.0.1"}}})
    '10.0.0.1 '
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from netkit.errors import SpecError

_ACTION = re.compile(r"(\{\{.*?\}\})", re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[()|]|[^\s()|"]+')
_LOOP = re.compile(r"(?:(?P<names>\$\w+(?:\s*,\s*\$\w+)?)\s*:=\s*)?(?P<source>.+)", re.DOTALL)
_HINT = "fields as {{.A.B}}; json, index, len, join, upper, lower; eq, ne, and, or, not; range, if, else, end"
_CONSTANTS = {"true": True, "false": False, "nil": None}


class Block(NamedTuple):
    """`range` or `if` (or "" for the whole template) with what is inside, and after its `else`."""

    kind: str
    words: str
    inside: list[Any]
    otherwise: list[Any]


class Scope(NamedTuple):
    """What `.` is, and the variables; `$` is the whole."""

    value: Any
    names: Mapping[str, Any]


def fill(template: str, value: Any) -> str:
    """A template filled in with a JSON value. Raises SpecError where it is not understood."""
    return "".join(_render(parse(template).inside, Scope(value, {"$": value})))


def parse(template: str) -> Block:
    """A template as a tree of text (str), expressions (1-tuples) and blocks. Raises SpecError."""
    root = Block("", "", [], [])
    open_blocks, place = [root], root.inside
    for text, action in _pieces(template):
        if text:
            place.append(text)
        head, _, rest = action.partition(" ")
        if head in {"range", "if"}:
            block = Block(head, rest.strip(), [], [])
            place.append(block)
            open_blocks.append(block)
            place = block.inside
        elif head == "else" and not rest and open_blocks[-1].kind:
            place = open_blocks[-1].otherwise
        elif head == "end" and not rest and open_blocks[-1].kind:
            open_blocks.pop()
            # Where the outer block had its else already, go on there.
            place = open_blocks[-1].otherwise or open_blocks[-1].inside
        elif action:
            place.append((action,))
    if len(open_blocks) > 1:
        raise SpecError(f"{{{{{open_blocks[-1].kind}}}}} without {{{{end}}}}", hint=_HINT)
    return root


def _pieces(template: str) -> Iterator[tuple[str, str]]:
    """Pairs of text and the action that follows it; ("", "") where there is none."""
    parts = _ACTION.split(template)
    for number in range(0, len(parts), 2):
        text = parts[number]
        before = parts[number - 1] if number else ""
        after = parts[number + 1] if number + 1 < len(parts) else ""
        text = text.lstrip() if before.endswith("-}}") else text
        text = text.rstrip() if after.startswith("{{-") else text
        if "{{" in text:
            raise SpecError(f"{text[text.index('{{') :]} is not closed", hint="end it with }}")
        yield text, after[2:-2].removeprefix("-").removesuffix("-").strip()


def _render(nodes: Iterable[Any], scope: Scope) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif not isinstance(node, Block):
            yield shown(evaluate(node[0], scope))
        elif node.kind == "if":
            chosen = node.inside if evaluate(node.words, scope) else node.otherwise
            yield from _render(chosen, scope)
        else:
            yield from _loop(node, scope)


def _loop(block: Block, scope: Scope) -> Iterator[str]:
    match = _LOOP.fullmatch(block.words)
    if match is None:
        raise SpecError("{{range}} of nothing", hint=_HINT)
    names = [name.strip() for name in (match["names"] or "").split(",") if name]
    found = evaluate(match["source"], scope)
    if not isinstance(found, dict | list | None):
        raise SpecError(f"{{{{range {block.words}}}}} is over one thing, not many", hint=_HINT)
    pairs = sorted(found.items()) if isinstance(found, dict) else list(enumerate(found or ()))
    for key, value in pairs:
        values = (key, value) if len(names) == 2 else (value,)
        within = {**scope.names, **dict(zip(names, values, strict=False))}
        yield from _render(block.inside, Scope(value, within))
    if not pairs:
        yield from _render(block.otherwise, scope)


def evaluate(text: str, scope: Scope) -> Any:
    """The value of one expression. Raises SpecError."""
    words = _WORD.findall(text)
    value, rest = _expression(words, scope, text)
    if rest:
        raise SpecError(f"{{{{{text}}}}} is not understood", hint=_HINT)
    return value


def _expression(words: list[str], scope: Scope, text: str) -> tuple[Any, list[str]]:
    """A function with its arguments, or one operand; and the words left."""
    function = _FUNCTIONS.get(words[0]) if words else None
    if function is None:
        return _operand(words, scope, text)
    rest, values = words[1:], []
    while rest and rest[0] != ")":
        value, rest = _operand(rest, scope, text)
        values.append(value)
    try:
        return function(*values), rest
    except (TypeError, KeyError, IndexError, AttributeError) as err:
        raise SpecError(f"{{{{{text}}}}} cannot be worked out: {err}", hint=_HINT) from err


def _operand(words: list[str], scope: Scope, text: str) -> tuple[Any, list[str]]:
    first, *rest = words or [""]
    if first == "(":
        value, rest = _expression(rest, scope, text)
        if not rest or rest[0] != ")":
            raise SpecError(f"a bracket is open in {{{{{text}}}}}", hint=_HINT)
        rest = rest[1:]
        if rest and rest[0].startswith(".") and len(rest[0]) > 1:  # (index .A "b").C
            value, rest = _field(value, rest[0]), rest[1:]
        return value, rest
    if first.startswith('"'):
        return _text(first), rest
    if first.lstrip("-").isdigit():
        return int(first), rest
    if first in _CONSTANTS:
        return _CONSTANTS[first], rest
    if first.startswith("."):
        return _field(scope.value, first), rest
    name, dot, path = first.partition(".")
    if name in scope.names:
        return _field(scope.names[name], dot + path), rest
    raise SpecError(f"{{{{{text}}}}} is not understood", hint=_HINT)


def _text(word: str) -> str:
    """A quoted word; its escapes are JSON's, which are the usual ones of Go's."""
    try:
        return str(json.loads(word))
    except ValueError as err:
        raise SpecError(f"{word} is not understood", hint='quotes and \\n as in "a\\n"') from err


def _field(value: Any, path: str) -> Any:
    for word in filter(None, path.split(".")):
        if not isinstance(value, dict) or word not in value:
            from netkit.model.names import nearest

            known = nearest(word, value) if isinstance(value, dict) else "it has no fields"
            raise SpecError(f"there is no {path}", hint=f"{known}; without -f, inspect shows all of it")
        value = value[word]
    return value


def shown(value: Any) -> str:
    """A value as Go prints it: `word`, `[a b]`, `map[k:v]`, `true`; what is not there `<no value>`."""
    if value is None:
        return "<no value>"
    if isinstance(value, list):
        return f"[{' '.join('<nil>' if item is None else shown(item) for item in value)}]"
    if isinstance(value, dict):
        pairs = (f"{key}:{'<nil>' if item is None else shown(item)}" for key, item in sorted(value.items()))
        return f"map[{' '.join(pairs)}]"
    return value if isinstance(value, str) else json.dumps(value)


def _some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise TypeError("it wants more")
    return values


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        # As in Go: what a map does not have is empty.
        value = value.get(key) if isinstance(value, dict) else value[key]
    return value


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "json": json.dumps,
    "index": _index,
    "len": len,
    "join": lambda values, separator: separator.join(values),
    "upper": str.upper,
    "lower": str.lower,
    "eq": lambda value, *others: any(value == other for other in _some(others)),
    "ne": lambda value, other: value != other,
    "and": lambda *values: next((value for value in _some(values) if not value), values[-1]),
    "or": lambda *values: next((value for value in _some(values) if value), values[-1]),
    "not": lambda value: not value,
    "println": lambda *values: " ".join(shown(value) for value in values) + "\n",
}
