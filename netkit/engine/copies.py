"""A second copy of every spec, and of what each sysctl was before us, for when the database is damaged.

Each is a small file, written with one system call and never waited for: the database is what
counts. One that cannot be read is told and passed over. Copies that cannot be written (a full disk)
are told, and are no reason to refuse a change that the database has taken.

    STATE/specs/networks-4f1c….json      STATE/specs/containers-9ab0….json
    STATE/specs/sysctls-net.ipv4.ip_forward.json
"""

import logging
from collections.abc import Callable, Iterator
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
        self._attempt(lambda: self._follow("networks", old.networks, new.networks))
        self._attempt(lambda: self._follow("containers", old.containers, new.containers))

    def remember(self, sysctl: str, value: str) -> None:
        """Write the value that a sysctl had before us."""
        self._attempt(lambda: self._path("sysctls", sysctl).write_bytes(msgspec.json.encode(value)))

    def forget(self, sysctl: str) -> None:
        """The value has been put back."""
        self._attempt(lambda: self._path("sysctls", sysctl).unlink(missing_ok=True))

    def sysctls(self) -> dict[str, str]:
        """The values before us as the copies have them."""
        return {path.stem.removeprefix("sysctls-"): value for path, value in self._values("sysctls", str)}

    def read(self) -> Intent:
        """The intent as the copies have it."""
        return Intent(self._read("networks", Network), self._read("containers", Container))

    def _attempt(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as err:
            log.warning("the copies of the state could not be written: %s", err)

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
        return {spec.id: spec for _, spec in self._values(table, kind)}

    def _values(self, table: str, kind: Any) -> Iterator[tuple[Path, Any]]:
        for path in sorted(self._folder.glob(f"{table}-*.json")):
            try:
                yield path, msgspec.json.decode(path.read_bytes(), type=kind, dec_hook=decode_value)
            except (msgspec.MsgspecError, OSError) as err:
                log.error("the copy %s cannot be read and is passed over: %s", path, err)

    def _path(self, table: str, key: str) -> Path:
        return self._folder / f"{table}-{key}.json"
