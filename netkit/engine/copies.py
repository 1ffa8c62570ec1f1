"""A second copy of every spec, one small file each, for the day on which the database is damaged.

A file is written with one system call and never waited for: the database is what counts. One
that cannot be read is told and passed over. Copies that cannot be written (a full disk) are told, and are
no reason to refuse a change that the database has taken.

    STATE/specs/networks-4f1c….json      STATE/specs/containers-9ab0….json
"""

import logging
from pathlib import Path
from typing import Any

import msgspec

from netkit.model.spec import Container, Intent, Network, decode_value, encode_value

log = logging.getLogger(__name__)


class Copies:
    """The copies in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def follow(self, old: Intent, new: Intent) -> None:
        """Write what a change made different."""
        try:
            self._follow("networks", old.networks, new.networks)
            self._follow("containers", old.containers, new.containers)
        except OSError as err:
            log.warning("the copies of the state could not be written: %s", err)

    def read(self) -> Intent:
        """The intent as the copies have it."""
        return Intent(self._read("networks", Network), self._read("containers", Container))

    def _follow(self, table: str, old: Any, new: Any) -> None:
        if old is new:
            return
        for key in old:
            if key not in new:
                self._path(table, key).unlink(missing_ok=True)
        for key, spec in new.items():
            if old.get(key) is not spec:
                self._path(table, key).write_bytes(msgspec.json.encode(spec, enc_hook=encode_value))

    def _read(self, table: str, kind: Any) -> dict[str, Any]:
        found = {}
        for path in sorted(self._folder.glob(f"{table}-*.json")):
            try:
                spec = msgspec.json.decode(path.read_bytes(), type=kind, dec_hook=decode_value)
            except (msgspec.MsgspecError, OSError) as err:
                log.error("the copy %s cannot be read and is passed over: %s", path, err)
                continue
            found[spec.id] = spec
        return found

    def _path(self, table: str, key: str) -> Path:
        return self._folder / f"{table}-{key}.json"
