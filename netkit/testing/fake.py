"""A kernel in memory: one driver for every kind of resource, strict about what needs what.

It refuses what the real one refuses: to make a thing before what it needs, to remove a thing that
others still need, to make or remove twice. Tests can let an operation fail, happen in part, or be
lost, and change things behind the engine's back through `things`.

    kernel = FakeKernel()
    engine = Engine(store, [kernel], Failpoint.parse(""))
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from netkit.errors import ApplyError
from netkit.model.operation import Operation
from netkit.model.resource import AnyResource, Key, Resource

KINDS = frozenset(kind.__name__.lower() for kind in AnyResource.__args__)

Hook = Callable[[Operation], None]


class FakeKernel:
    """What is there, by key; `log` holds the operations that happened, `looks` the scopes observed."""

    kinds = KINDS
    waits = False

    def __init__(self, things: Iterable[Resource] = ()) -> None:
        self.things: dict[Key, Resource] = {thing.key: thing for thing in things}
        self.log: list[Operation] = []
        self.looks: list[tuple[Key, ...] | None] = []
        self.before: Hook = lambda operation: None
        self.after: Hook = lambda operation: None

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        self.looks.append(None if scope is None else tuple(thing.key for thing in scope))
        keys = self.things if scope is None else [thing.key for thing in scope]
        return [self.things[key] for key in keys if key in self.things]

    def execute(self, operations: Sequence[Operation]) -> Iterator[Operation]:
        for operation in operations:
            self.before(operation)
            self._carry_out(operation)
            self.log.append(operation)
            self.after(operation)
            yield operation

    def _carry_out(self, operation: Operation) -> None:
        key = operation.key
        there = self.things.get(key)
        if operation.verb == "create":
            if there is not None:
                raise ApplyError(f"{key} exists already")
        elif there is None:
            raise ApplyError(f"there is no {key}")
        if operation.wanted is None:
            self._refuse_needed(key)
            del self.things[key]
        else:
            self._demand_needs(operation.wanted)
            self.things[key] = operation.wanted

    def _demand_needs(self, wanted: Resource) -> None:
        for need in wanted.needs:
            if need not in self.things:
                raise ApplyError(f"{wanted.key} needs {need}, which is not there")

    def _refuse_needed(self, key: Key) -> None:
        for other in self.things.values():
            if key in other.needs:
                raise ApplyError(f"{key} is needed by {other.key}")
