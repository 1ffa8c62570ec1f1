"""The engine against a kernel in memory: changes, undo, verification, what a dry run leaves alone."""

from functools import partial

import msgspec
import pytest

from netkit.core.admit import container, network
from netkit.core.render import everything, render
from netkit.engine.apply import Engine
from netkit.engine.failpoint import Failpoint
from netkit.engine.store import Store
from netkit.errors import ApplyError, Conflict, NotFound, PluginError, SpecError, Unsupported, VerifyError
from netkit.model.request import Caller
from netkit.model.resource import Bridge, Key
from netkit.model.spec import Intent
from netkit.testing.fake import FakeKernel
from tests.unit.core.intents import HOST, linked_pair, with_container, with_network

CALLER = Caller(user="alice", verb="network create br0")
ENDED = container.Ending(exit_code=3, finished="2026-01-01T00:00:00Z")
BR0 = Key("bridge", "br0")


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def kernel():
    return FakeKernel()


@pytest.fixture
def engine(store, kernel):
    return Engine(store, [kernel], Failpoint.parse(""))


def add(name, subnet="10.0.0.0/24", **fields):
    return lambda intent: with_network(intent, name, subnet, **fields)


def whole(intent):
    """An edit that makes the intent another one."""
    return lambda _: (intent, None)


def fails_at(number):
    """A hook that lets the operation with this number fail."""
    count = iter(range(1, 1000))

    def hook(operation):
        if next(count) == number:
            raise OSError(5, "I/O error")

    return hook


def test_a_change_makes_what_the_intent_asks_for_and_is_kept(store, kernel, engine):
    outcome = engine.change(whole(linked_pair()), HOST, CALLER)
    assert kernel.things == render(engine.intent, HOST, everything(engine.intent))
    assert tuple(kernel.log) == outcome.operations
    assert store.load() == linked_pair()
    assert [(entry.verb, entry.user, entry.state) for entry in store.journal(9)] == [
        ("network create br0", "alice", "done")
    ]


def test_a_change_looks_only_at_what_it_changes(kernel, engine):
    engine.change(add("br0"), HOST, CALLER)
    kernel.looks.clear()
    engine.change(add("br1", "10.0.1.0/24"), HOST, CALLER)
    seen = {key for look in kernel.looks for key in look}
    assert BR0 not in seen
    assert Key("bridge", "br1") in seen


def test_a_change_mends_what_it_relies_on(kernel, engine):
    """Between containers that are kept apart nothing passes only while the rules are there and are asked."""
    engine.change(add("br0", icc=False), HOST, CALLER)
    engine.change(lambda intent: with_container(intent, "web", "br0"), HOST, CALLER)
    setting, hook = Key("sysctl", "net.bridge.bridge-nf-call-iptables"), Key("hook", "filter FORWARD")
    kernel.things[setting] = msgspec.structs.replace(kernel.things[setting], value="0")
    del kernel.things[hook]
    outcome = engine.change(lambda intent: container.start(intent, "web", HOST), HOST, CALLER)
    assert kernel.things == render(engine.intent, HOST, everything(engine.intent))
    assert {setting, hook} <= {operation.key for operation in outcome.operations}
    engine.change(lambda intent: container.stop(intent, "web", ENDED), HOST, CALLER)
    assert {setting, hook} <= kernel.things.keys()


def test_what_has_ended_is_saved_even_where_nothing_can_be_looked_at(store, engine, kernel, monkeypatch):
    """iptables was removed under a running daemon: the container has ended all the same."""
    engine.change(whole(linked_pair()), HOST, CALLER)

    def blind(scope):
        raise Unsupported("iptables-save is not installed", hint="apt-get install iptables")

    monkeypatch.setattr(kernel, "observe", blind)
    with pytest.raises(Unsupported):
        engine.change(lambda intent: container.stop(intent, "web", ENDED), HOST, CALLER, final=True)
    assert not store.load().containers[("web" * 64)[:64]].running
    monkeypatch.undo()
    engine.reconcile(HOST, CALLER)
    assert kernel.things == render(engine.intent, HOST, everything(engine.intent))


def test_a_dry_run_tells_and_touches_nothing(store, kernel, engine):
    before = kernel.things.copy()
    outcome = engine.change(add("br0"), HOST, CALLER, dry_run=True)
    assert "+ create bridge br0 mtu 1500" in [op.describe() for op in outcome.operations]
    assert outcome.subject.name == "br0"
    assert (kernel.things, kernel.log) == (before, [])
    assert engine.intent == store.load() == Intent()
    assert store.journal(9) == []


def test_what_admission_refuses_leaves_no_trace(store, kernel, engine):
    engine.change(add("br0"), HOST, CALLER)
    done = list(kernel.log)
    with pytest.raises(Conflict):
        engine.change(add("br0"), HOST, CALLER)
    assert kernel.log == done
    assert len(store.journal(9)) == 1


def test_each_operation_that_fails_is_taken_back(store, kernel, engine):
    engine.change(add("br0", icc=False), HOST, CALLER)
    before, intent = kernel.things.copy(), engine.intent
    total = len(engine.change(whole(linked_pair()), HOST, CALLER, dry_run=True).operations)
    assert total > 20
    for number in range(1, total + 1):
        kernel.before = fails_at(number)
        with pytest.raises(ApplyError) as caught:
            engine.change(whole(linked_pair()), HOST, CALLER)
        assert kernel.things == before
        assert engine.intent is intent
        assert store.load() == intent
        assert len(caught.value.undone) == number - 1
        assert caught.value.operation
        assert caught.value.message.startswith(caught.value.operation)
        assert caught.value.left == ()
        assert store.journal(1)[0].state == "failed"


def test_each_removal_that_fails_is_taken_back(kernel, engine):
    engine.change(add("br0"), HOST, CALLER)
    before = kernel.things.copy()
    remove = partial(network.remove, ref="br0")
    total = len(engine.change(lambda i: remove(i), HOST, CALLER, dry_run=True).operations)
    for number in range(1, total + 1):
        kernel.before = fails_at(number)
        with pytest.raises(ApplyError):
            engine.change(lambda i: remove(i), HOST, CALLER)
        assert kernel.things == before


def test_an_operation_that_failed_after_it_had_happened_is_taken_back_as_well(kernel, engine):
    kernel.after = fails_at(4)
    with pytest.raises(ApplyError):
        engine.change(add("br0"), HOST, CALLER)
    assert kernel.things == {}


def test_what_cannot_be_taken_back_is_named(kernel, engine):
    def refuse(operation):
        if operation.verb == "create" and operation.key == Key("address", "10.0.0.1/24 dev br0"):
            raise OSError(28, "no space")
        if operation.verb == "delete" and operation.key == BR0:
            raise OSError(16, "busy")

    kernel.before = refuse
    with pytest.raises(ApplyError, match="address") as caught:
        engine.change(add("br0"), HOST, CALLER)
    assert caught.value.left == ("+ create bridge br0 mtu 1500",)
    assert set(kernel.things) == {BR0}


def test_an_error_keeps_its_class_of_answer(kernel, engine):
    def clash(operation):
        if operation.key == BR0:
            raise Conflict("an interface named br0 exists already", hint="choose another name")

    kernel.before = clash
    with pytest.raises(ApplyError) as caught:
        engine.change(add("br0"), HOST, CALLER)
    assert (caught.value.status, caught.value.exit_code) == (409, 5)
    assert caught.value.hint == "choose another name"
    assert kernel.things == {}


def test_that_the_request_is_wrong_is_said_without_how_far_it_came(kernel, engine):
    wrong = SpecError("the program is not there", hint="is it in the image?")

    def refuse(operation):
        if operation.key == BR0:
            raise wrong

    kernel.before = refuse
    with pytest.raises(SpecError) as caught:
        engine.change(add("br0"), HOST, CALLER)
    assert caught.value is wrong
    assert kernel.things == {}


def test_a_driver_with_a_mistake_in_it_is_told_from_a_kernel_that_refuses(kernel, engine):
    def stumble(operation):
        if operation.key == BR0:
            raise KeyError("oops")

    kernel.before = stumble
    with pytest.raises(ApplyError, match="a driver raised KeyError") as caught:
        engine.change(add("br0"), HOST, CALLER)
    assert caught.value.exit_code == PluginError.exit_code
    assert kernel.things == {}


def test_success_is_what_a_fresh_read_shows(store, kernel, engine):
    def lose(operation):
        if operation.key == BR0 and operation.verb == "create":
            kernel.things[BR0] = msgspec.structs.replace(kernel.things[BR0], mtu=1400)

    kernel.after = lose
    with pytest.raises(VerifyError, match="does not show") as caught:
        engine.change(add("br0"), HOST, CALLER)
    assert "-bridge br0 mtu 1500" in caught.value.diff
    assert "+bridge br0 mtu 1400" in caught.value.diff
    assert kernel.things == {}
    assert store.load() == Intent()
    assert len(caught.value.undone) > 5


def test_a_final_change_is_kept_whatever_fails(store, kernel, engine):
    engine.change(whole(linked_pair()), HOST, CALLER)
    name = "web"
    kernel.before = fails_at(4)
    with pytest.raises(ApplyError) as caught:
        engine.change(lambda i: container.stop(i, name, ENDED), HOST, CALLER, final=True)
    assert caught.value.undone == ()
    assert caught.value.left
    assert not next(c for c in engine.intent.containers.values() if c.name == name).running
    assert store.load() == engine.intent
    left = [operation.describe() for operation in engine.plan(HOST)]
    assert sorted(left) == sorted(caught.value.left)
    engine.reconcile(HOST, CALLER)
    assert engine.plan(HOST) == ()


def test_a_final_change_that_is_only_tried_changes_nothing(store, kernel, engine):
    engine.change(whole(linked_pair()), HOST, CALLER)
    before = kernel.things.copy()
    stop = partial(container.stop, ref="web", end=ENDED)
    assert engine.change(lambda i: stop(i), HOST, CALLER, dry_run=True, final=True).operations
    assert (kernel.things, store.load()) == (before, engine.intent)


def test_a_reconcile_mends_every_single_loss(kernel, engine):
    engine.change(whole(linked_pair()), HOST, CALLER)
    wanted = kernel.things.copy()
    for key in wanted:
        lost = {key}
        while more := {k for k, v in kernel.things.items() if k not in lost and lost & {*v.falls_with}}:
            lost |= more  # as the kernel has it: a namespace takes what is in it along
        for gone in lost:
            del kernel.things[gone]
        assert {operation.key for operation in engine.plan(HOST)} >= lost
        engine.reconcile(HOST, CALLER)
        assert kernel.things == wanted, key
    assert engine.plan(HOST) == ()


def test_a_reconcile_that_is_interrupted_keeps_what_it_has_mended(kernel, engine):
    engine.change(whole(linked_pair()), HOST, CALLER)
    wanted = kernel.things.copy()
    kernel.things.clear()
    kernel.before = fails_at(10)
    with pytest.raises(ApplyError):
        engine.reconcile(HOST, CALLER)
    assert len(kernel.things) == 9
    engine.reconcile(HOST, CALLER)
    assert kernel.things == wanted


def refuses(kind):
    """A hook that lets every operation on resources of a kind fail."""

    def hook(operation):
        if operation.resource.kind == kind:
            raise NotFound(f"no {kind}")

    return hook


def test_a_reconcile_goes_past_what_fails_to_all_that_does_not_wait_for_it(kernel, engine):
    engine.change(whole(linked_pair()), HOST, CALLER)
    wanted = kernel.things.copy()
    kernel.things.clear()
    kernel.before = refuses("veth")
    with pytest.raises(ApplyError) as caught:
        engine.reconcile(HOST, CALLER)
    kinds = {key.kind for key in wanted.keys() - kernel.things.keys()}
    assert kinds == {"veth", "route", "process"}
    assert caught.value.passed
    assert len(caught.value.left) == len(wanted) - len(kernel.things)
    kernel.before = lambda operation: None
    engine.reconcile(HOST, CALLER)
    assert kernel.things == wanted


@pytest.mark.parametrize("kind", ["ipset", "chain", "hook", "member", "entry", "sysctl"])
def test_a_reconcile_goes_no_further_where_packets_would_not_be_filtered(kernel, engine, kind):
    engine.change(whole(linked_pair()), HOST, CALLER)
    kernel.things.clear()
    kernel.before = refuses(kind)
    with pytest.raises(ApplyError) as caught:
        engine.reconcile(HOST, CALLER)
    assert not caught.value.passed
    assert not any(key.kind == "process" for key in kernel.things)


def test_a_reconcile_removes_what_nobody_asked_for(kernel, engine):
    engine.change(add("br0"), HOST, CALLER)
    wanted = kernel.things.copy()
    stray = Bridge(name="br9", mtu=1500, owner="network/br9")
    kernel.things[stray.key] = stray
    assert [operation.describe() for operation in engine.plan(HOST)] == ["- delete bridge br9 mtu 1500"]
    engine.reconcile(HOST, CALLER)
    assert kernel.things == wanted


def test_a_reconcile_with_nothing_to_do_writes_nothing(store, kernel, engine):
    engine.change(add("br0"), HOST, CALLER)
    assert engine.reconcile(HOST, CALLER).operations == ()
    assert len(store.journal(9)) == 1


def test_another_engine_on_the_same_store_goes_on_from_there(store, kernel, engine):
    engine.change(whole(linked_pair()), HOST, CALLER)
    assert Engine(store, [kernel], Failpoint.parse("")).plan(HOST) == ()


def test_a_kind_that_no_driver_serves_is_told(store):
    with pytest.raises(PluginError, match="no driver serves"):
        Engine(store, [], Failpoint.parse("")).change(add("br0"), HOST, CALLER)


@pytest.mark.parametrize("text", ["kill", "kill:", "kill:x", "stop:3", ":3", "fail:-1"])
def test_a_malformed_fail_point_is_refused(text):
    with pytest.raises(SpecError, match="invalid fail point"):
        Failpoint.parse(text)


def test_a_fail_point_counts_only_its_verbs(store, kernel):
    engine = Engine(store, [kernel], Failpoint.parse("fail:2@network create br1"))
    engine.change(add("br0"), HOST, CALLER)
    other = Caller(user="alice", verb="network create br1 --icc")
    with pytest.raises(ApplyError, match="fail point") as caught:
        engine.change(add("br1", "10.0.1.0/24"), HOST, other)
    assert len(caught.value.undone) == 2
    engine.change(add("br1", "10.0.1.0/24"), HOST, other)
    assert Key("bridge", "br1") in kernel.things
