"""The only maker of steps: turns observed resources into wanted ones.

A resource that is wanted and not there is created, one that is there and not wanted is deleted,
one that differs is modified where its kind allows it and replaced where it does not. Whatever
needs a replaced resource is replaced too, and so is what needs one that has gone. Deletions come
first, dependents before what they need, so that a name or an address is free before somebody else
takes it; then changes and creations, needs before dependents.

    >>> print(describe(diff({}, {br0.key: br0})))
    + create bridge br0 mtu 1500
"""

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from netkit.errors import PluginError
from netkit.model.operation import Operation
from netkit.model.resource import Key, Resource

Resources = Mapping[Key, Resource]

# Where needs leave the order free, kinds come in this one: what lets packets pass becomes true
# last, and what the kernel takes as one transaction stands together.
_KINDS = (
    "sysctl", "ipset", "chain", "hook", "namespace", "mount", "file", "bridge", "adopted",
    "address", "port", "veth", "route", "member", "entry", "process",
)  # fmt: skip
# Without these, packets pass that must not: nothing goes on beside one that failed.
_FILTERING = frozenset({"sysctl", "ipset", "chain", "hook", "member", "entry"})
_RANK = {kind: rank for rank, kind in enumerate(_KINDS)}


def index(resources: Iterable[Resource]) -> dict[Key, Resource]:
    """Resources by key. Two different ones with one key are a mistake of whoever made them."""
    found: dict[Key, Resource] = {}
    for resource in resources:
        other = found.setdefault(resource.key, resource)
        if other is not resource and other != resource and not _shared(other, resource):
            raise PluginError(f"two different resources claim {resource.key}")
    return found


def diff(observed: Resources, wanted: Resources) -> tuple[Operation, ...]:
    """The operations that turn `observed` into `wanted`, in an order that works."""
    replaced = _replaced(observed, wanted)
    deletes = [
        Operation(was, None)
        for key, was in observed.items()
        if (key not in wanted or key in replaced) and not was.external
    ]
    creates = [Operation(None, new) for key, new in wanted.items() if key not in observed or key in replaced]
    changes = [
        Operation(was, new)
        for key, new in wanted.items()
        if key not in replaced and (was := observed.get(key)) is not None and differs(was, new)
    ]
    order = _order({**observed, **wanted})
    return (
        *sorted(deletes, key=lambda op: order[op.key], reverse=True),
        *sorted((*changes, *creates), key=lambda op: order[op.key]),
    )


def passable(failed: Operation) -> bool:
    """Whether the rest of a plan may go on beside an operation that failed."""
    too_many = failed.resource.kind == "ipset" and failed.wanted is None  # it lets nothing pass
    return too_many or failed.resource.kind not in _FILTERING


def beside(failed: Operation, rest: Iterable[Operation]) -> list[Operation]:
    """Those of `rest`, in a plan's order, that do not wait for an operation that failed."""
    barred, standing, kept = {failed.key}, set[Key](), list[Operation]()
    for operation in (failed, *rest):
        resource = operation.resource
        if operation.wanted is None:
            waits = operation.key in barred or operation.key in standing
        else:
            # A process never runs without its network, which may be what failed.
            waits = resource.kind == "process" or not barred.isdisjoint((operation.key, *resource.needs))
        if not waits:
            kept.append(operation)
            continue
        barred.add(operation.key)
        standing.update(resource.needs if operation.wanted is None else ())
    return kept


def differs(observed: Resource, wanted: Resource) -> bool:
    """Whether the two values of one key describe different states."""
    if observed == wanted:
        return False
    if type(observed) is not type(wanted):
        return True
    return any(True for _ in _differences(observed, wanted))


def describe(operations: Iterable[Operation]) -> str:
    """A plan as text, one operation a line: for people, tests and logs."""
    return "\n".join(operation.describe() for operation in operations)


def _shared(one: Resource, other: Resource) -> bool:
    """Members may be wanted by several owners: two published ports may lead to the same place."""
    return one.kind == "member" and other.kind == "member"


def _changeable(was: Resource, new: Resource) -> bool:
    """Whether only fields differ that this kind can change in place."""
    return type(was) is type(new) and all(name in new.changeable for name in _differences(was, new))


def _differences(was: Resource, new: Resource) -> Iterator[str]:
    """The fields that differ, of those that the kernel keeps."""
    for name in new.__struct_fields__:
        if name not in new.unseen and getattr(was, name) != getattr(new, name):
            yield name


def _replaced(observed: Resources, wanted: Resources) -> set[Key]:
    """Keys on both sides that must go and come again, through all that need them."""
    replaced = {
        key
        for key, new in wanted.items()
        if (was := observed.get(key)) is not None and not _changeable(was, new)
    }
    # What has gone (in either set known, now absent) takes down what needs it as well.
    gone = {key for key in wanted if key not in observed} | replaced
    pending = [new for key, new in wanted.items() if key in observed and key not in replaced]
    while fell := [new for new in pending if any(need in gone for need in new.falls_with)]:
        replaced |= {new.key for new in fell}
        gone |= {new.key for new in fell}
        pending = [new for new in pending if new.key not in replaced]
    return replaced


def _order(resources: Resources) -> dict[Key, int]:
    """A place for every key such that needs come before what needs them; the same every time."""
    sorter: TopologicalSorter[Key] = TopologicalSorter()
    for key, resource in resources.items():
        sorter.add(key, *(need for need in resource.needs if need in resources))
    try:
        depth_first = tuple(sorter.static_order())
    except CycleError as err:
        raise PluginError(f"resources need each other in a circle: {err.args[1]}") from err
    places: dict[Key, tuple[int, int]] = {}
    for key in depth_first:
        resource = resources[key]
        rank, depth = _RANK.get(resource.kind, len(_KINDS)), 0
        for need in resource.needs:
            if need in places:
                rank, depth = max(rank, places[need][0]), max(depth, places[need][1] + 1)
        places[key] = rank, depth
    ordered = sorted(places, key=lambda key: (places[key], key))
    return {key: place for place, key in enumerate(ordered)}
