"""All drivers of a host together: looking at it, and carrying operations out on it.

Operations are carried out in their order, a batch for each driver. Those drivers which mostly wait
for other programs (iptables, the OCI runtime) do so beside the others: a batch is waited for only
by what needs it, or what it needs, and by the next batch of the same driver.

    drivers = Drivers([XTables(), LinkDriver(rtnl)], failpoint)
    drivers.execute(operations, progress := Progress())
"""

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from netkit.core import plan
from netkit.engine.failpoint import Failpoint
from netkit.errors import PluginError
from netkit.kernel.driver import Driver
from netkit.model.operation import Operation
from netkit.model.resource import Key, Resource

log = logging.getLogger(__name__)


class Progress:
    """How far operations have come: those that happened, the first that did not want to, and whether
    all that does not wait for it was tried nevertheless.
    """

    def __init__(self) -> None:
        self.done: list[Operation] = []
        self.failed: Operation | None = None
        self.passed = False

    def missing(self, operations: Iterable[Operation]) -> list[Operation]:
        """Those of `operations` that have not happened."""
        done = {id(operation) for operation in self.done}
        return [operation for operation in operations if id(operation) not in done]


class _Batch(msgspec.Struct):
    """Neighbouring operations of one driver, under way."""

    driver: Driver
    keys: frozenset[Key]
    needs: frozenset[Key]
    future: "Future[None]"


class Drivers:
    """The drivers of one host, by the kinds that they serve. Not for two callers at a time."""

    def __init__(self, drivers: Iterable[Driver], failpoint: Failpoint) -> None:
        self._by_kind = {kind: driver for driver in drivers for kind in driver.kinds}
        self._failpoint = failpoint
        self._pool = ThreadPoolExecutor(thread_name_prefix="driver")

    def observe(self, scope: Sequence[Resource]) -> dict[Key, Resource]:
        """What stands in the place of the scope's resources now."""
        ordered = sorted(scope, key=lambda resource: id(self._serving(resource)))
        parts = [(driver, list(part)) for driver, part in itertools.groupby(ordered, key=self._serving)]
        return self._look(parts)

    def observe_all(self, wanted: Mapping[Key, Resource]) -> dict[Key, Resource]:
        """Everything of ours, and what of `wanted` is not marked as ours (an adopted bridge)."""
        drivers = {id(driver): driver for driver in self._by_kind.values()}
        found = self._look([(driver, None) for driver in drivers.values()])
        missing = [resource for key, resource in wanted.items() if key not in found]
        return {**found, **self.observe(missing)} if missing else found

    def execute(self, operations: Sequence[Operation], progress: Progress) -> None:
        """Carry operations out, noting each in `progress` as it has happened.

        Raises what a driver raised first, when all that was begun has come to its end.
        """
        running: list[_Batch] = []
        failures: list[BaseException] = []
        try:
            for driver, group in itertools.groupby(operations, key=lambda each: self._serving(each.resource)):
                batch = list(group)
                keys, needs = _touched(batch)
                for other in list(running):
                    if other.driver is driver or other.keys & needs or other.needs & keys:
                        running.remove(other)
                        other.future.result()
                if driver.waits:
                    future = self._pool.submit(self._carry_out, driver, batch, progress)
                    running.append(_Batch(driver, keys, needs, future))
                else:
                    self._carry_out(driver, batch, progress)
        except Exception as err:  # noqa: BLE001  it is raised when the others have ended
            failures.append(err)
        failures += [failure for each in running if (failure := each.future.exception())]
        for failure in failures[1:]:
            log.warning("failed as well: %s", failure)
        if failures:
            raise failures[0]

    def execute_past(self, operations: Sequence[Operation], progress: Progress) -> None:
        """The same, going past what fails to all that does not wait for it."""
        rest, first = list(operations), None
        while rest:
            part = Progress()
            try:
                self.execute(rest, part)
            except Exception as err:  # noqa: BLE001  the first one is raised in the end
                log.warning("failed: %s", err)
                first = first or err
            progress.done += part.done
            if part.failed is None:
                break
            progress.failed = progress.failed or part.failed
            progress.passed = plan.passable(part.failed)
            rest = plan.beside(part.failed, part.missing(rest)) if progress.passed else []
        if first is not None:
            raise first

    def _carry_out(self, driver: Driver, batch: list[Operation], progress: Progress) -> None:
        try:
            for operation in driver.execute(batch):
                progress.done.append(operation)
                log.debug("%s", operation.describe())
                self._failpoint.hit(operation.describe())
        except BaseException:
            missing = progress.missing(batch)
            progress.failed = progress.failed or (missing[0] if missing else batch[-1])
            raise

    def _look(self, parts: Sequence[tuple[Driver, list[Resource] | None]]) -> dict[Key, Resource]:
        """What drivers observe, each in its part; those that wait are asked first and answer last."""
        beside = [
            self._pool.submit(lambda driver, part: list(driver.observe(part)), driver, part)
            for driver, part in parts
            if driver.waits
        ]
        found = [each for driver, part in parts if not driver.waits for each in driver.observe(part)]
        return plan.index(itertools.chain(found, *(future.result() for future in beside)))

    def _serving(self, resource: Resource) -> Driver:
        driver = self._by_kind.get(resource.kind)
        if driver is None:
            raise PluginError(f"no driver serves resources of kind {resource.kind}")
        return driver


def _touched(batch: Iterable[Operation]) -> tuple[frozenset[Key], frozenset[Key]]:
    """The keys that operations are about, and those that must stand meanwhile."""
    both = [each for op in batch for each in (op.observed, op.wanted) if each is not None]
    return frozenset(each.key for each in both), frozenset(need for each in both for need in each.needs)
