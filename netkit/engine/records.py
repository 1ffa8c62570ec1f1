"""Specs as records: a table, a key and a body in JSON, as the database and the copies both hold them.

>>> changes(Intent(), intent).written
(('networks', '4f1c…', b'{"id":"4f1c…"}'),)
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from netkit.model.spec import Container, Intent, Network, decode_value, encode_value

TABLES: Mapping[str, type[Any]] = {"networks": Network, "containers": Container}


class Changes(msgspec.Struct, frozen=True):
    """What turns the records of one intent into those of another."""

    gone: tuple[tuple[str, str], ...]
    written: tuple[tuple[str, str, bytes], ...]


def changes(old: Intent, new: Intent) -> Changes:
    """The difference; specs that are the same object cost next to nothing."""
    gone: list[tuple[str, str]] = []
    written: list[tuple[str, str, bytes]] = []
    for table, before, after in _tables(old, new):
        gone += [] if before.keys() <= after.keys() else [(table, key) for key in before if key not in after]
        written += [
            (table, key, msgspec.json.encode(spec, enc_hook=encode_value))
            for key, spec in after.items()
            if (was := before.get(key)) is not spec and was != spec
        ]
    return Changes(tuple(gone), tuple(written))


def decoder(table: str) -> "msgspec.json.Decoder[Any]":
    """Reads the bodies of a table."""
    return msgspec.json.Decoder(TABLES[table], dec_hook=decode_value)


def _tables(old: Intent, new: Intent) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    for table in TABLES:
        before, after = getattr(old, table), getattr(new, table)
        if before is not after:
            yield table, before, after
