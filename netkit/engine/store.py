"""The store: intent on disk, the journal, who made what, and the value a sysctl had before us.

SQLite with a write-ahead log, one writer. A change is saved in one transaction together with its
journal entry, so that after a crash the intent is the old one or the new one, never a mixture.
A file that cannot be read is kept aside under another name and told; one that was emptied or
removed is told. The intent then comes back from the copies beside it (`engine.copies`), and the
reconcile that follows holds it against the kernel. The journal begins anew.

    store = Store(Path("/var/lib/netkit"))
    intent = store.load()
"""

import contextlib
import datetime
import logging
import sqlite3
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from netkit.core.admit import repair
from netkit.engine import records
from netkit.engine.copies import Copies
from netkit.engine.records import Changes
from netkit.errors import ApplyError
from netkit.model.operation import Operation
from netkit.model.request import Caller
from netkit.model.spec import Intent

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS networks (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS containers (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sysctls (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY, time TEXT NOT NULL, user TEXT NOT NULL, verb TEXT NOT NULL,
    state TEXT NOT NULL, operations BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS made (
    key TEXT PRIMARY KEY, text TEXT NOT NULL, owner TEXT NOT NULL, entry INTEGER NOT NULL
) WITHOUT ROWID;
"""
_JOURNAL_KEPT = 10_000  # entries; older ones are forgotten unless something they made still stands


class Entry(msgspec.Struct, frozen=True):
    """One change in the journal; `state` is open, done or failed."""

    id: int
    time: str
    user: str
    verb: str
    state: str
    operations: tuple[str, ...]


class Made(msgspec.Struct, frozen=True):
    """Who asked for a resource that stands now."""

    resource: str
    owner: str
    verb: str
    user: str
    time: str


class Store:
    """The state file in `folder`. All calls come from one thread."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "netkit.db"
        self.damaged: Path | None = None
        try:
            self._db = _sound(self.path)
        except sqlite3.OperationalError as err:
            raise _full(err) from err  # locked, full, not writable: not damage
        except (sqlite3.DatabaseError, msgspec.MsgspecError):
            self.damaged = _set_aside(self.path)
            self._db = _sound(self.path)
        self._copies = Copies(folder / "specs")
        self.sysctls: MutableMapping[str, str] = _Sysctls(self._db, self._copies)
        if self.damaged or self._unused():
            self._rebuild()
        self._find_lost()
        self._copies.catch_up(self.load())

    def close(self) -> None:
        self._copies.close()
        self._db.close()

    def load(self) -> Intent:
        """Everything accepted so far."""
        return _load(self._db)

    def _unused(self) -> bool:
        """Whether nothing was ever written: the file is new, or somebody emptied or removed it."""
        return not self.journal(1) and self.load() == Intent()

    def _rebuild(self) -> None:
        self.sysctls.update(self._copies.sysctls())
        copies = self._copies.read()
        if copies != Intent():
            if not self.damaged:
                log.error("the state file %s was empty: rebuilt from its copies", self.path)
            self.save(Intent(), copies)

    def _find_lost(self) -> None:
        """Networks that containers are on and that are missing come back from the copies, or are let go."""
        loaded = self.load()
        if not (lost := repair.lost_networks(loaded)):
            return
        found = self._copies.read().networks
        intent = loaded
        for network in (found[each] for each in lost if each in found):
            log.error("network %s was missing in the state file: taken from its copy", network.name)
            intent = intent.with_network(network)
        intent, cut_off = repair.without_lost(intent)
        for container in cut_off:
            log.error("a network of container %s is lost: it is detached from it", container.name)
        self.save(loaded, intent)

    def open_entry(self, caller: Caller, operations: Iterable[Operation], time: str) -> int:
        """Write ahead what is about to be done; returns the entry's number."""
        body = msgspec.json.encode([operation.describe() for operation in operations])
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO journal (time, user, verb, state, operations) VALUES (?, ?, ?, 'open', ?)",
                (time, caller.user, caller.verb, body),
            )
        if cursor.lastrowid is None:
            raise ApplyError("the journal gave its entry no number")
        return cursor.lastrowid

    def commit(
        self, entry: int, old: Intent, new: Intent, operations: Sequence[Operation], *, mended: bool = False
    ) -> None:
        """Save the new intent, close the entry and note who made what: one transaction.

        What was only `mended` is still asked for by whoever did before.
        """
        changes = records.changes(old, new)
        with self._transaction():
            self._save(changes)
            self._note(entry, operations, mended)
            self._db.execute("UPDATE journal SET state = 'done' WHERE id = ?", (entry,))
        self._copies.follow(changes)

    def save(self, old: Intent, new: Intent) -> None:
        """Save a change of intent that moved nothing in the kernel."""
        changes = records.changes(old, new)
        with self._transaction():
            self._save(changes)
        self._copies.follow(changes)

    def fail_entry(self, entry: int) -> None:
        """Close an entry whose operations failed and were undone."""
        with self._transaction():
            self._db.execute("UPDATE journal SET state = 'failed' WHERE id = ?", (entry,))

    def interrupted(self) -> list[Entry]:
        """Entries that a crash left open; they are closed as failed by asking."""
        entries = self._entries("WHERE state = 'open' ORDER BY id", ())
        with self._transaction():
            self._db.execute("UPDATE journal SET state = 'failed' WHERE state = 'open'")
            self._db.execute(
                "DELETE FROM journal WHERE id <= (SELECT max(id) FROM journal) - ?"
                " AND id NOT IN (SELECT entry FROM made)",
                (_JOURNAL_KEPT,),
            )
        return entries

    def journal(self, limit: int) -> list[Entry]:
        """The newest entries first."""
        return self._entries("ORDER BY id DESC LIMIT ?", (limit,))

    def made(self) -> Iterator[Made]:
        """Every resource that stands, with the verb, the user and the time that asked for it."""
        query = (
            "SELECT made.text, made.owner, journal.verb, journal.user, journal.time"
            " FROM made JOIN journal ON made.entry = journal.id ORDER BY made.key"
        )
        return (Made(*row) for row in self._db.execute(query))

    def _entries(self, rest: str, values: tuple[Any, ...]) -> list[Entry]:
        query = f"SELECT id, time, user, verb, state, operations FROM journal {rest}"
        return [
            Entry(number, time, user, verb, state, msgspec.json.decode(body, type=tuple[str, ...]))
            for number, time, user, verb, state, body in self._db.execute(query, values)
        ]

    def _save(self, changes: Changes) -> None:
        for table, key in changes.gone:
            self._db.execute(f"DELETE FROM {table} WHERE id = ?", (key,))
        for table, key, body in changes.written:
            self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, body))

    def _note(self, entry: int, operations: Sequence[Operation], mended: bool) -> None:
        made = {
            str(op.key): (str(op.key), op.resource.describe(), op.resource.owner, entry)
            for op in operations
            if op.wanted is not None
        }
        gone = [(str(op.key),) for op in operations if op.wanted is None and str(op.key) not in made]
        same = " WHERE text != excluded.text OR owner != excluded.owner" if mended else ""
        self._db.executemany("DELETE FROM made WHERE key = ?", gone)
        self._db.executemany(
            "INSERT INTO made VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
            " SET text = excluded.text, owner = excluded.owner, entry = excluded.entry" + same,
            made.values(),
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with _transaction(self._db):
            yield


class _Sysctls(MutableMapping[str, str]):
    """The values before us, written through at once: the driver notes one before it changes it."""

    def __init__(self, db: sqlite3.Connection, copies: Copies) -> None:
        self._db = db
        self._copies = copies

    def __getitem__(self, name: str) -> str:
        row = self._db.execute("SELECT value FROM sysctls WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise KeyError(name)
        return str(row[0])

    def __setitem__(self, name: str, value: str) -> None:
        with _transaction(self._db):
            self._db.execute("INSERT OR REPLACE INTO sysctls VALUES (?, ?)", (name, value))
        self._copies.remember(name, value)

    def __delitem__(self, name: str) -> None:
        with _transaction(self._db):
            self._db.execute("DELETE FROM sysctls WHERE name = ?", (name,))
        self._copies.forget(name)

    def __iter__(self) -> Iterator[str]:
        return iter([row[0] for row in self._db.execute("SELECT name FROM sysctls ORDER BY name")])

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM sysctls").fetchone()[0])


def now() -> str:
    """The time as the journal and the API write it: RFC 3339, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except sqlite3.Error as err:
        _roll_back(db)
        raise _full(err) from err
    except BaseException:
        _roll_back(db)
        raise


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")


def _private(path: Path) -> None:
    """Nobody else reads it: specs hold variables, the journal command lines. Its log takes its mode."""
    try:
        path.touch(mode=0o600)
        for part in path.parent.glob(f"{path.name}*"):
            part.chmod(0o600)
    except OSError as err:
        raise sqlite3.OperationalError(f"{err.filename}: {err.strerror}") from err


def _open(path: Path) -> sqlite3.Connection:
    _private(path)
    # One thread at a time uses it; which one that is may change between opening and closing.
    db = sqlite3.connect(path, isolation_level=None, timeout=1.0, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing; a power cut may lose the last changes, but then the kernel
        # has lost what they made as well.
        db.execute("PRAGMA synchronous = NORMAL")
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("the file fails its own check")
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _sound(path: Path) -> sqlite3.Connection:
    """An open file whose every spec can be read."""
    db = _open(path)
    try:
        _load(db)
    except BaseException:
        db.close()
        raise
    return db


def _load(db: sqlite3.Connection) -> Intent:
    return Intent(**{table: _rows(db, table) for table in records.TABLES})


def _rows(db: sqlite3.Connection, table: str) -> dict[str, Any]:
    decoder = records.decoder(table)
    return {key: decoder.decode(body) for key, body in db.execute(f"SELECT * FROM {table}")}


def _set_aside(path: Path) -> Path:
    """Keep a damaged file under another name, with its log."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return kept


def _full(err: sqlite3.Error) -> ApplyError:
    if "locked" in str(err):
        hint = "another program has the state file open; end it and say it again; nothing was changed"
    else:
        hint = "is the disk of the state folder full? make room and say it again; nothing was changed"
    return ApplyError(f"the state could not be written: {err}", hint=hint)
