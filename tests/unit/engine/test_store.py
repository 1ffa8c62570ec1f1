"""The store: what is saved comes back, what is damaged is kept aside, what cannot be written is told."""

import sqlite3

import msgspec
import pytest

from netkit.core import plan
from netkit.core.admit import container
from netkit.core.render import everything, render
from netkit.engine.copies import Copies
from netkit.engine.records import changes
from netkit.engine.store import Store
from netkit.errors import ApplyError, NotFound
from netkit.model.operation import Operation
from netkit.model.request import Caller
from netkit.model.resource import Bridge
from netkit.model.spec import Intent, encode_value
from tests.unit.core.intents import HOST, linked_pair, with_network

CALLER = Caller(user="alice", verb="run web")
BR0 = Bridge(name="br0", mtu=1500, owner="network/br0")
WIDE = Bridge(name="br0", mtu=9000, owner="network/br0")


@pytest.fixture
def open_store(tmp_path):
    """Opens the store of a folder again and again, as daemons do one after the other."""
    opened = []

    def again():
        while opened:
            opened.pop().close()
        opened.append(Store(tmp_path))
        return opened[0]

    yield again
    while opened:
        opened.pop().close()


def commit(store, old, new, *operations, verb="run web", mended=False):
    entry = store.open_entry(Caller(user="alice", verb=verb), operations, "2026-01-01T00:00:00Z")
    store.commit(entry, old, new, operations, mended=mended)
    return entry


def test_an_intent_comes_back_as_it_was(open_store):
    intent = linked_pair()
    commit(open_store(), Intent(), intent)
    again = open_store().load()
    assert again == intent
    # Not only equal: what it asks for is the same, down to the last rule.
    assert render(again, HOST, everything(again)) == render(intent, HOST, everything(intent))


def test_what_has_left_the_intent_has_left_the_store(open_store):
    intent = linked_pair()
    store = open_store()
    commit(store, Intent(), intent)
    smaller = intent.without_container(next(iter(intent.containers)))
    store.save(intent, smaller)
    assert open_store().load() == smaller


def test_the_journal_tells_newest_first(open_store):
    store = open_store()
    commit(store, Intent(), Intent(), Operation(None, BR0), verb="first")
    commit(store, Intent(), Intent(), Operation(BR0, WIDE), verb="second")
    entries = store.journal(9)
    assert [(entry.verb, entry.state) for entry in entries] == [("second", "done"), ("first", "done")]
    assert entries[0].operations == ("~ modify bridge br0 mtu 9000",)
    assert len(store.journal(1)) == 1


def test_an_entry_that_a_crash_left_open_is_told_once(open_store):
    store = open_store()
    store.open_entry(CALLER, [Operation(None, BR0)], "2026-01-01T00:00:00Z")
    assert store.journal(1)[0].state == "open"
    store = open_store()
    assert [entry.verb for entry in store.interrupted()] == ["run web"]
    assert store.interrupted() == []
    assert store.journal(1)[0].state == "failed"


def test_an_intent_is_saved_with_its_entry_or_not_at_all(open_store):
    store = open_store()
    entry = store.open_entry(CALLER, [Operation(None, BR0)], "2026-01-01T00:00:00Z")
    unwritable = Intent(networks={"n": msgspec.structs.replace(next(iter(linked_pair().networks.values())))})
    store._db.execute("CREATE TRIGGER full BEFORE INSERT ON made BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(ApplyError, match="could not be written"):
        store.commit(entry, Intent(), unwritable, [Operation(None, BR0)])
    assert open_store().load() == Intent()


def test_who_made_what_follows_creation_change_and_removal(open_store):
    store = open_store()
    commit(store, Intent(), Intent(), Operation(None, BR0), verb="network create br0")
    assert [(made.resource, made.owner, made.verb, made.user) for made in store.made()] == [
        ("bridge br0 mtu 1500", "network/br0", "network create br0", "alice")
    ]
    commit(store, Intent(), Intent(), Operation(BR0, WIDE), verb="network mtu br0")
    assert [(made.resource, made.verb) for made in store.made()] == [
        ("bridge br0 mtu 9000", "network mtu br0")
    ]
    commit(store, Intent(), Intent(), Operation(WIDE, None), verb="network rm br0")
    assert list(store.made()) == []


def test_a_replaced_resource_still_has_somebody_who_made_it(open_store):
    store = open_store()
    commit(store, Intent(), Intent(), Operation(BR0, None), Operation(None, BR0), verb="reconcile")
    assert [made.verb for made in store.made()] == ["reconcile"]


def test_what_is_mended_is_still_asked_for_by_whoever_did(open_store):
    store = open_store()
    commit(store, Intent(), Intent(), Operation(None, BR0), verb="network create br0")
    again = (Operation(BR0, None), Operation(None, BR0))
    commit(store, Intent(), Intent(), *again, verb="reconcile", mended=True)
    assert [made.verb for made in store.made()] == ["network create br0"]
    commit(store, Intent(), Intent(), Operation(BR0, WIDE), verb="daemon start", mended=True)
    assert [(made.resource, made.verb) for made in store.made()] == [("bridge br0 mtu 9000", "daemon start")]


def test_the_values_of_sysctls_before_us_are_kept(open_store):
    store = open_store()
    store.sysctls["net.ipv4.ip_forward"] = "0"
    store = open_store()
    assert dict(store.sysctls) == {"net.ipv4.ip_forward": "0"}
    del store.sysctls["net.ipv4.ip_forward"]
    assert len(open_store().sysctls) == 0


@pytest.mark.parametrize("damage", [b"garbage" * 5000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_file_is_kept_aside_and_the_intent_comes_from_the_copies(open_store, tmp_path, damage):
    intent = linked_pair()
    store = open_store()
    commit(store, Intent(), intent)
    # A bridge may have dots in its name.
    store.sysctls.update({"net.ipv4.ip_forward": "0", "net.ipv4.conf.br.0.route_localnet": "1", "gone": "1"})
    del store.sysctls["gone"]
    store.close()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"netkit.db{suffix}").unlink(missing_ok=True)
    (tmp_path / "netkit.db").write_bytes(damage)
    store = open_store()
    assert store.damaged is not None
    assert store.damaged.read_bytes() == damage
    assert store.load() == intent
    assert dict(store.sysctls) == {"net.ipv4.ip_forward": "0", "net.ipv4.conf.br.0.route_localnet": "1"}
    assert open_store().load() == intent
    assert len(open_store().sysctls) == 2
    assert open_store().damaged is None


@pytest.mark.parametrize("rest", [None, b"", b"x"])
def test_a_file_that_was_emptied_or_removed_is_rebuilt(open_store, tmp_path, caplog, rest):
    """Else a reconcile would take down all that the intent no longer has."""
    intent = linked_pair()
    store = open_store()
    commit(store, Intent(), intent)
    store.close()
    path = tmp_path / "netkit.db"
    path.unlink()
    if rest is not None:
        path.write_bytes(rest)
    assert open_store().load() == intent
    assert "was empty: rebuilt from its copies" in caplog.text


def test_a_store_that_was_cleared_stays_clear(open_store):
    store = open_store()
    commit(store, Intent(), linked_pair())
    commit(store, linked_pair(), Intent())
    assert open_store().load() == Intent()


def test_a_spec_that_cannot_be_read_is_damage_too(open_store, tmp_path):
    intent = linked_pair()
    store = open_store()
    commit(store, Intent(), intent)
    store._db.execute("UPDATE containers SET body = 'no json'")
    store = open_store()
    assert store.damaged is not None
    assert store.load() == intent


def test_a_network_that_is_lost_comes_back_from_its_copy(open_store, caplog):
    intent = linked_pair()
    store = open_store()
    commit(store, Intent(), intent)
    store._db.execute("DELETE FROM networks")
    store.close()
    store = open_store()
    assert store.load() == intent
    assert "network br0 was missing" in caplog.text
    assert store._copies.read() == intent


def test_containers_are_let_go_of_a_network_that_is_lost_for_good(open_store, tmp_path, caplog):
    """The file is damaged and a copy as well: what remains can be rendered, and so a daemon starts."""
    store = open_store()
    commit(store, Intent(), linked_pair())
    store.close()
    (tmp_path / "netkit.db").write_bytes(b"garbage" * 1000)
    (copy,) = (tmp_path / "specs").glob("networks-*.json")
    copy.write_bytes(b"")
    found = open_store().load()
    assert [each.name for each in found.containers.values() if each.running] == ["db", "web"]
    assert render(found, HOST, everything(found))
    assert "a network of container web is lost" in caplog.text
    with pytest.raises(NotFound, match="no longer exists"):
        container.start(container.stop(found, "web", container.Ending())[0], "web", HOST)


def test_a_file_that_another_program_has_locked_is_not_damage(open_store, tmp_path):
    commit(open_store(), Intent(), linked_pair())
    other = sqlite3.connect(tmp_path / "netkit.db", timeout=0)
    try:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        store = open_store()
        store.close()
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ApplyError, match="locked") as caught:
            open_store()
        assert "another program" in caught.value.hint
    finally:
        other.close()
    assert list(tmp_path.glob("*damaged*")) == []
    assert open_store().load() == linked_pair()


def test_copies_follow_every_change(tmp_path):
    copies = Copies(tmp_path / "specs")
    first, _ = with_network(Intent(), "br0", "10.0.0.0/24")
    second, _ = with_network(first, "br1", "10.0.1.0/24")
    copies.follow(changes(Intent(), second))
    assert copies.read() == second
    copies.follow(changes(second, first))
    assert copies.read() == first
    assert len(list((tmp_path / "specs").iterdir())) == 1


def test_copies_that_a_crash_left_behind_catch_up_at_the_next_start(open_store, tmp_path):
    intent = linked_pair()
    first = open_store()
    commit(first, Intent(), intent)
    first.close()
    folder = tmp_path / "specs"
    lost, *_ = folder.glob("containers-*.json")
    lost.unlink()
    (stale,) = folder.glob("networks-*.json")
    other = "f" * len(next(iter(intent.networks)))
    body = stale.read_text()
    (folder / f"networks-{other}.json").write_text(body.replace(next(iter(intent.networks)), other))
    stale.write_text(body.replace("br0", "br9"))
    open_store().close()
    assert Copies(folder).read() == intent


def test_a_copy_that_cannot_be_read_is_passed_over(tmp_path, caplog):
    copies = Copies(tmp_path / "specs")
    first, _ = with_network(Intent(), "br0", "10.0.0.0/24")
    copies.follow(changes(Intent(), first))
    (tmp_path / "specs" / "networks-bad.json").write_text("{")
    (tmp_path / "specs" / "networks-half.new").write_text("{")
    assert copies.read() == first
    assert "networks-bad.json" in caplog.text


def test_copies_that_cannot_be_written_are_no_reason_to_refuse(open_store, tmp_path, caplog):
    store = open_store()
    (tmp_path / "specs").rmdir()
    (tmp_path / "specs").write_text("in the way")
    commit(store, Intent(), linked_pair())
    assert store.load() == linked_pair()
    store.close()  # which waits for the copies
    assert "copies of the state could not be written" in caplog.text


def test_the_plan_after_a_round_trip_is_empty():
    """What the store gives back asks for nothing new: no float, no order, no type has changed."""
    intent = linked_pair()
    for spec in intent.containers.values():
        text = msgspec.json.encode(spec, enc_hook=encode_value)
        assert text == msgspec.json.encode(msgspec.json.decode(text), enc_hook=encode_value)
    wanted = render(intent, HOST, everything(intent))
    assert plan.diff(wanted, wanted) == ()


def test_nobody_else_reads_the_state_file_old_or_new(tmp_path, open_store):
    open_store()
    parts = list(tmp_path.glob("netkit.db*"))
    assert len(parts) == 3
    assert {path.stat().st_mode & 0o777 for path in parts} == {0o600}
    for path in parts:
        path.chmod(0o644)
    open_store()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("netkit.db*")} == {0o600}
