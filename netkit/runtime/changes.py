"""What an import says about the image besides its files: `CMD`, `ENV` and the like, as Docker has it.

>>> apply(("CMD [\\"sh\\"]", "EXPOSE 80/tcp")).exposed
((80, 'tcp'),)
"""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping

import msgspec

from netkit.errors import SpecError
from netkit.model.names import nearest
from netkit.model.words import parse_expose


class Settings(msgspec.Struct, frozen=True):
    """The defaults that an image gives to its containers."""

    env: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    exposed: tuple[tuple[int, str], ...] = ()
    labels: Mapping[str, str] = {}
    stop_signal: str = ""


def apply(changes: Iterable[str]) -> Settings:
    """Settings from instructions, in order. Raises SpecError."""
    settings = Settings()
    for change in changes:
        word, _, text = change.strip().partition(" ")
        make = _INSTRUCTIONS.get(word.upper())
        if make is None:
            raise SpecError(f"unknown change {word!r}", hint=nearest(word.upper(), _INSTRUCTIONS))
        settings = msgspec.structs.replace(settings, **make(settings, text.strip()))
    return settings


def _words(text: str) -> tuple[str, ...]:
    """The JSON form as it is, the plain form by a shell."""
    if not text.startswith("["):
        return ("/bin/sh", "-c", text)
    try:
        return tuple(msgspec.json.decode(text, type=list[str]))
    except msgspec.DecodeError as err:
        raise SpecError(
            f"invalid list {text!r}: {err}", hint=f"write it as {json.dumps(['a', 'b'])}"
        ) from err


def _pairs(text: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError as err:
        raise SpecError(f"invalid pairs {text!r}: {err}", hint="close the quotes") from err
    if words and "=" not in words[0]:
        return {words[0]: text.partition(" ")[2].strip()}
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _env(old: Settings, text: str) -> dict[str, object]:
    both = dict(word.split("=", 1) for word in old.env) | _pairs(text)
    return {"env": tuple(f"{name}={value}" for name, value in both.items())}


def _exposed(old: Settings, text: str) -> dict[str, object]:
    ports = {port for word in text.split() for port in parse_expose(word)}
    return {"exposed": tuple(sorted({*old.exposed, *ports}))}


_INSTRUCTIONS: dict[str, Callable[[Settings, str], dict[str, object]]] = {
    "CMD": lambda old, text: {"command": _words(text)},
    "ENTRYPOINT": lambda old, text: {"entrypoint": _words(text)},
    "ENV": _env,
    "EXPOSE": _exposed,
    "LABEL": lambda old, text: {"labels": {**old.labels, **_pairs(text)}},
    "STOPSIGNAL": lambda old, text: {"stop_signal": text},
    "USER": lambda old, text: {"user": text},
    "WORKDIR": lambda old, text: {"workdir": text},
}
