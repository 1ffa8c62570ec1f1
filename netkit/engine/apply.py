"""The engine: observe → plan → execute → verify, with undo. The only place where things happen.

A change is an edit of the intent. What the edit makes different is rendered on both sides, and
just that, with what it relies on, is observed, planned, carried out and read again. When an
operation fails, the way back is a plan as well: from what is there now to what was there before.
The intent is saved only when the kernel shows what it asks for. A reconcile is the same with
everything in scope. What cannot be taken back (a process is ended) is `final`: the intent is saved
first, and whatever interrupts the rest, the next reconcile goes on with it.

    outcome = engine.change(lambda intent: admit.network.create(intent, …), host, caller)
"""

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from netkit.core import plan
from netkit.core.render import affected, everything, relied_on, render
from netkit.engine.drivers import Drivers, Progress
from netkit.engine.failpoint import Failpoint
from netkit.engine.store import Store, now
from netkit.errors import ApplyError, NetkitError, PluginError, SpecError, VerifyError
from netkit.kernel.driver import Driver
from netkit.model.operation import Operation
from netkit.model.request import Caller
from netkit.model.resource import Key, Resource
from netkit.model.spec import Host, Intent

log = logging.getLogger(__name__)

Edit = Callable[[Intent], tuple[Intent, Any]]


class Outcome(msgspec.Struct, frozen=True):
    """What a change did, or would do: its operations, and the spec that it was about."""

    operations: tuple[Operation, ...]
    subject: Any = None


class _Change(msgspec.Struct, frozen=True):
    """What is to be done: operations, what they lead to, where to look, and what `found` was there before."""

    operations: tuple[Operation, ...]
    wanted: Mapping[Key, Resource]
    scope: Sequence[Resource]
    found: Mapping[Key, Resource]


class Engine:
    """Makes the kernel match the intent. Not thread-safe: one writer."""

    def __init__(self, store: Store, drivers: Iterable[Driver], failpoint: Failpoint) -> None:
        self._store = store
        self._drivers = Drivers(drivers, failpoint)
        self._failpoint = failpoint
        self.intent = store.load()

    def change(
        self, edit: Edit, host: Host, caller: Caller, *, dry_run: bool = False, final: bool = False
    ) -> Outcome:
        """Edit the intent and make the kernel follow, or say what that would do.

        Raises what the edit refuses with, and ApplyError when an operation failed and was undone;
        of a `final` change, when an operation failed and the rest is left to a reconcile.
        """
        old = self.intent
        new, subject = edit(old)
        if final and not dry_run:
            # First of all: what has ended has ended, even where nothing can be looked at or taken away now.
            self.adjust(lambda _: (new, subject))
        change = self._work_out(old, new, host)
        if not dry_run:
            self._carry_out(change, self.intent, new, caller)
        return Outcome(change.operations, subject)

    def _work_out(self, old: Intent, new: Intent, host: Host) -> _Change:
        """What is to be done so that the kernel, as it is now, follows from one intent to another."""
        units = affected(old, new)
        before, after = render(old, host, units), render(new, host, units)
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        relied = {key: each for key, each in relied_on(new, host, units).items() if key not in keys}
        wanted = {**{key: after[key] for key in keys if key in after}, **relied}
        # Drivers echo what they cannot read cheaply: ask them for what was made, not for what is to be.
        found = self._drivers.observe([*(before.get(key) or after[key] for key in keys), *relied.values()])
        operations = plan.diff(found, wanted)
        # What is relied on and stands has been looked at once, and is not touched.
        standing = relied.keys() - {operation.key for operation in operations}
        scope = [after.get(key) or before[key] for key in keys]
        scope += [each for key, each in relied.items() if key not in standing]
        return _Change(operations, {k: each for k, each in wanted.items() if k not in standing}, scope, found)

    def foresee(self, old: Intent, edit: Edit, host: Host) -> Outcome:
        """What an edit of an intent would do that is still to come, once the kernel is as that asks for."""
        new, subject = edit(old)
        units = affected(old, new)
        return Outcome(plan.diff(render(old, host, units), render(new, host, units)), subject)

    def adjust(self, edit: Edit) -> Any:
        """Edit the intent where the kernel has already changed by itself (a process has ended).

        The kernel is not touched: a reconcile must follow.
        """
        new, subject = edit(self.intent)
        self._store.save(self.intent, new)
        self.intent = new
        return subject

    def observed(self) -> dict[Key, Resource]:
        """Everything on this host that carries our mark."""
        return self._drivers.observe_all({})

    def plan(self, host: Host) -> tuple[Operation, ...]:
        """What a reconcile would do now."""
        wanted = render(self.intent, host, everything(self.intent))
        return plan.diff(self._drivers.observe_all(wanted), wanted)

    def reconcile(self, host: Host, caller: Caller) -> Outcome:
        """Make everything that carries our mark match the intent.

        Raises ApplyError when an operation failed, also where what does not wait for it is done.
        """
        wanted = render(self.intent, host, everything(self.intent))
        found = self._drivers.observe_all(wanted)
        operations = plan.diff(found, wanted)
        if operations:
            # A replaced resource is in two operations; what is looked for afterwards is the wanted one.
            scope = list({op.key: op.resource for op in operations}.values())
            touched = {op.key: op.wanted for op in operations if op.wanted is not None}
            change = _Change(operations, touched, scope, found)
            self._carry_out(change, self.intent, self.intent, caller, past=True)
        return Outcome(operations)

    def _carry_out(
        self, change: _Change, old: Intent, new: Intent, caller: Caller, *, past: bool = False
    ) -> None:
        """Journal, execute (`past` what fails), verify, save; or undo."""
        self._failpoint.begin(caller.verb)
        entry = self._store.open_entry(caller, change.operations, now())
        progress = Progress()
        try:
            execute = self._drivers.execute_past if past else self._drivers.execute
            execute(change.operations, progress)
            self._verify(change.wanted, change.scope)
            self._store.commit(entry, old, new, change.operations, mended=past)
        except Exception as err:
            undone: list[str] = []
            left = [operation.describe() for operation in progress.missing(change.operations)]
            if old is not new:  # a reconcile and a final change are gone on with, never taken back
                undone, left = self._undo(change, progress.done)
            self._close_failed(entry)
            raise _accounted(_told(err), progress, undone, left) from err
        self.intent = new
        self._failpoint.saved()

    def _close_failed(self, entry: int) -> None:
        """Where the journal cannot be written, the next start closes the entry."""
        try:
            self._store.fail_entry(entry)
        except NetkitError as err:
            log.warning("entry %s of the journal stays open: %s", entry, err)

    def _verify(self, wanted: Mapping[Key, Resource], scope: Sequence[Resource]) -> None:
        """Read again: success is that the difference is empty."""
        observed = self._drivers.observe(scope)
        if left := plan.diff(observed, wanted):
            raise VerifyError(
                f"the kernel does not show what was asked for: {left[0].describe()}",
                diff=_difference(observed, wanted, [operation.key for operation in left]),
                hint="another program may be changing it at the same time",
            )

    def _undo(self, change: _Change, done: Sequence[Operation]) -> tuple[list[str], list[str]]:
        """Put back what was there before; returns what was undone and what is left.

        It is looked up anew: an operation that failed may have happened in part.
        """
        undone: list[str] = []
        left: list[str] = []
        before = {
            key: change.found[key] for key in (each.key for each in change.scope) if key in change.found
        }
        try:
            back = plan.diff(self._drivers.observe(change.scope), before)
        except Exception as err:  # noqa: BLE001  without a look, what is known is taken back
            log.warning("cannot look at what is to be undone: %s", err)
            back = tuple(operation.undo() for operation in reversed(done))
        for operation in back:
            try:
                self._drivers.execute([operation], Progress())
                undone.append(operation.describe())
            except Exception as err:  # noqa: BLE001  the others are still to be put back
                log.warning("cannot undo: %s: %s", operation.describe(), err)
                left.append(operation.undo().describe())
        return undone, left


def _told(err: Exception) -> NetkitError:
    """Whatever a driver raised, as an error of ours."""
    match err:
        case NetkitError():
            return err
        case OSError():
            return ApplyError(str(err), hint="see the daemon's log")
    log.error("a driver misbehaved", exc_info=err)
    return PluginError(f"a driver raised {type(err).__name__}: {err}", hint="see the daemon's log")


def _accounted(
    err: NetkitError, progress: Progress, undone: Sequence[str], left: Sequence[str]
) -> NetkitError:
    """The error with the operation that failed, what was undone and what is left.

    That the request is wrong (a program that is not in the image) is said as it is: how far we had
    come is of no use to whoever has to mend it.
    """
    if isinstance(err, SpecError) and not left:
        return err
    if isinstance(err, VerifyError):
        err.undone, err.left = tuple(undone), tuple(left)
        return err
    failed = progress.failed.describe() if progress.failed else ""
    failed = (isinstance(err, ApplyError) and err.operation) or failed
    message = f"{failed}: {err.message}" if failed else err.message
    wrapped = ApplyError(message, operation=failed, undone=undone, left=left, hint=err.hint)
    wrapped.status, wrapped.exit_code, wrapped.passed = err.status, err.exit_code, progress.passed
    return wrapped


def _difference(observed: Mapping[Key, Resource], wanted: Mapping[Key, Resource], keys: Iterable[Key]) -> str:
    """A unified diff of two texts: what the kernel shows and what was asked for."""
    keys = list(keys)
    shown = [observed[key].describe() for key in keys if key in observed]
    asked = [wanted[key].describe() for key in keys if key in wanted]
    return "\n".join(difflib.unified_diff(asked, shown, "wanted", "observed", lineterm=""))
