"""JSON bodies: from bytes to typed values, field by field, before anything is done.

A field that we know is converted; one that means nothing here is let through; one that would
change what the request means, and that we do not have, is refused with 501 unless it says what
happens anyway; a name that Docker does not have either is a typing error, answered with 400 and
the nearest known name.

    >>> decode(ExecBody, b'{"Cmd": ["ls"], "Tyy": true}')
    SpecError: unknown field 'Tyy' (did you mean 'Tty'?)
"""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, get_args, get_origin

import msgspec

from netkit.errors import SpecError, Unsupported
from netkit.model.names import nearest


class Body(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What all bodies share.

    `harmless` are Docker's fields that we may ignore; `refused` those that we may not, each with
    the values that ask for nothing but what happens anyway (empty and zero always do).
    """

    harmless: ClassVar[frozenset[str]] = frozenset()
    refused: ClassVar[Mapping[str, tuple[Any, ...]]] = {}


Kind = TypeVar("Kind", bound=Body)


def decode(kind: type[Kind], data: bytes) -> Kind:
    """The body as a value; no body at all is an empty one. Raises SpecError, Unsupported."""
    return convert(kind, parse(data))


def parse(data: bytes) -> dict[str, Any]:
    """The body as plain JSON. Raises SpecError where it is not an object."""
    try:
        raw = msgspec.json.decode(data) if data.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise SpecError(f"malformed JSON in the request body: {err}", hint="send a JSON object") from err
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise SpecError("the request body is not a JSON object", hint='it begins with "{"')
    if rb"\u0000" in data and _has_nul(raw):
        raise SpecError("there is a NUL character in the request body", hint="the kernel ends words at one")
    return raw


def _has_nul(raw: object) -> bool:
    """Whether any text in it has one. JSON may be nested more deeply than functions may."""
    left = [raw]
    while left:
        value = left.pop()
        if isinstance(value, str) and "\0" in value:
            return True
        if isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list):
            left += value
    return False


def convert(kind: type[Kind], raw: Mapping[str, Any]) -> Kind:
    """Plain JSON as a typed value. Raises SpecError, Unsupported."""
    cleaned = _clean(kind, raw, "")
    try:
        return msgspec.convert(cleaned, kind)
    except msgspec.ValidationError as err:
        text = str(err)
        raise SpecError(
            f"invalid request body: {text[:1].lower()}{text[1:]}", hint="mend that field"
        ) from err


def _clean(kind: type[Body], raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Only the fields that the struct has; nulls are left out, so that its defaults hold."""
    known = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    cleaned: dict[str, Any] = {}
    for name, value in raw.items():
        if name in known:
            if value is not None:
                cleaned[name] = _nested(known[name], value, f"{where}{name}.")
        elif name in kind.refused:
            _refuse(where + name, value, kind.refused[name])
        elif name not in kind.harmless:
            names = {*known, *kind.harmless, *kind.refused}
            raise SpecError(f"unknown field {where + name!r}", hint=nearest(name, names))
    return cleaned


def _nested(kind: Any, value: Any, where: str) -> Any:
    """Clean bodies inside the body: a field, the values of a map, the items of a list."""
    if isinstance(kind, type) and issubclass(kind, Body) and isinstance(value, dict):
        return _clean(kind, value, where)
    inner = get_args(kind)[-1] if get_args(kind) else None
    if not (isinstance(inner, type) and issubclass(inner, Body)):
        return value
    if get_origin(kind) is dict and isinstance(value, dict):
        return {key: _clean(inner, item or {}, f"{where}{key}.") for key, item in value.items()}
    if get_origin(kind) is list and isinstance(value, list):
        return [_clean(inner, item, where) if isinstance(item, dict) else item for item in value]
    return value


def _refuse(name: str, value: object, accepted: tuple[Any, ...]) -> None:
    if not value or value in accepted:
        return
    shown = msgspec.json.encode(value).decode()[:80]
    raise Unsupported(f"{name}={shown} is not supported by netkit", hint="leave it out")
