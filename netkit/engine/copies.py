"""A second copy of every spec, and of what each sysctl was before us, for when the database is damaged.

Each is a small file, written by a thread of their own that nobody waits for: the database is what
counts, and what a crash left behind is caught up with at the next start. One that cannot be read is
told and passed over. Copies that cannot be written (a full disk) are told, and are no reason to
refuse a change that the database has taken.

    STATE/specs/networks-4f1c….json      STATE/specs/containers-9ab0….json
    STATE/specs/sysctls-net.ipv4.ip_forward.json
"""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from netkit.engine import records
from netkit.engine.records import Changes
from netkit.model.spec import Intent

log = logging.getLogger(__name__)


class Copies:
    """The copies in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="copies")

    def follow(self, changes: Changes) -> None:
        """Write what a change made different."""
        self._attempt(lambda: self._follow(changes))

    def catch_up(self, intent: Intent) -> None:
        """Write what differs from an intent."""
        self._attempt(lambda: self._follow(records.changes(self._intent(), intent)))

    def settle(self) -> None:
        """Wait for what is being written."""
        self._thread.submit(lambda: None).result()

    def close(self) -> None:
        self._thread.shutdown()

    def remember(self, sysctl: str, value: str) -> None:
        """Write the value that a sysctl had before us."""
        self._attempt(lambda: self._path("sysctls", sysctl).write_bytes(msgspec.json.encode(value)))

    def forget(self, sysctl: str) -> None:
        """The value has been put back."""
        self._attempt(lambda: self._path("sysctls", sysctl).unlink(missing_ok=True))

    def sysctls(self) -> dict[str, str]:
        """The values before us as the copies have them."""
        self.settle()
        values = self._values("sysctls", msgspec.json.Decoder(str))
        return {path.stem.removeprefix("sysctls-"): value for path, value in values}

    def read(self) -> Intent:
        """The intent as the copies have it."""
        self.settle()
        return self._intent()

    def _attempt(self, write: Callable[[], object]) -> None:
        def attempt() -> None:
            try:
                write()
            except OSError as err:
                log.warning("the copies of the state could not be written: %s", err)

        self._thread.submit(attempt)

    def _follow(self, changes: Changes) -> None:
        for table, key in changes.gone:
            self._path(table, key).unlink(missing_ok=True)
        for table, key, body in changes.written:
            self._path(table, key).write_bytes(body)

    def _intent(self) -> Intent:
        found = {
            table: {spec.id: spec for _, spec in self._values(table, records.decoder(table))}
            for table in records.TABLES
        }
        return Intent(**found)

    def _values(self, table: str, decoder: "msgspec.json.Decoder[Any]") -> Iterator[tuple[Path, Any]]:
        for path in sorted(self._folder.glob(f"{table}-*.json")):
            try:
                yield path, decoder.decode(path.read_bytes())
            except (msgspec.MsgspecError, OSError) as err:
                log.error("the copy %s cannot be read and is passed over: %s", path, err)

    def _path(self, table: str, key: str) -> Path:
        return self._folder / f"{table}-{key}.json"
