"""The seam between decisions and hands: what every driver can do, and nothing of what for.

A driver serves some kinds of resources. It observes what is there and carries out operations on
them; it never decides. Drivers live in `kernel` and `runtime`; the engine holds one of each.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from netkit.model.operation import Operation
from netkit.model.resource import Resource


class Driver(Protocol):
    """The hands for one family of resources."""

    kinds: frozenset[str]
    """The `Resource.kind`s that it serves."""

    waits: bool
    """Whether it mostly waits for other programs: it may then be used beside other drivers."""

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        """What the kernel has.

        With a scope: for each resource in it, the one that stands in its place now (same key), if
        any; the cost follows the size of the scope. A field that the kernel does not give back
        cheaply is echoed from the scope's value. Without a scope: everything that carries our
        mark, whoever made it and whenever.
        """

    def execute(self, operations: Sequence[Operation]) -> Iterator[Operation]:
        """Carry the operations out in order and yield each one when it has happened.

        Operations that the kernel takes as one transaction are yielded together after it. An
        error is raised as it is; the operations not yielded have not happened. To create what is
        there already as wanted and to delete what is gone are successes.
        """


class OneByOne:
    """A base for drivers whose operations are independent of each other."""

    waits = False

    def execute(self, operations: Sequence[Operation]) -> Iterator[Operation]:
        for operation in operations:
            match operation.observed, operation.wanted:
                case None, Resource() as wanted:
                    self.create(wanted)
                case Resource() as observed, None:
                    self.delete(observed)
                case Resource() as observed, Resource() as wanted:
                    self.modify(observed, wanted)
            yield operation

    def create(self, wanted: Resource) -> None:
        """Make it."""
        raise TypeError(f"{type(self).__name__} cannot create")

    def modify(self, observed: Resource, wanted: Resource) -> None:
        """Change `observed` in place into `wanted`; by default one way is to make it anew."""
        self.delete(observed)
        self.create(wanted)

    def delete(self, observed: Resource) -> None:
        """Remove it."""
        raise TypeError(f"{type(self).__name__} cannot delete")
