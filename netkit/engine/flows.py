"""A driver around a driver: what redirects or opens takes the tracked connections along.

It changes nothing of what the driver inside does; when that has happened, connections which the
old state decided and the new one would not are forgotten, in one walk over the kernel's table.

    FlowsFollow(XTables())
"""

from collections.abc import Iterable, Iterator, Sequence

from netkit.core.firewall import LINKS
from netkit.kernel.conntrack import Flow, forget
from netkit.kernel.driver import Driver
from netkit.model.operation import Operation
from netkit.model.resource import Entry, Member, Resource


class FlowsFollow:
    """The driver `inside`, with stale flows forgotten after each batch."""

    def __init__(self, inside: Driver) -> None:
        self._inside = inside
        self.kinds = inside.kinds
        self.waits = inside.waits

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        return self._inside.observe(scope)

    def execute(self, operations: Sequence[Operation]) -> Iterator[Operation]:
        stale: list[Flow] = []
        try:
            for operation in self._inside.execute(operations):
                stale += _stale(operation)
                yield operation
        finally:
            if stale:
                forget(stale)


def _stale(operation: Operation) -> list[Flow]:
    """The connections that an operation makes stale."""
    match operation.resource:
        case Entry(rule=rule) if rule.target == "DNAT" and rule.dports:
            address, _, port = rule.to.partition(":")
            if operation.verb == "delete":
                return [Flow(rule.protocol, answer=address, answer_port=int(port))]
            # Only datagrams: a connection that was made before went to the host itself, and fits.
            dst, number = rule.dst.partition("/")[0], rule.dports[0]
            return [Flow("udp", dst=dst, dst_port=number)] if rule.protocol == "udp" else []
        case Member(set=name, entry=entry) if name == LINKS and operation.verb == "delete":
            source, service, target = entry.split(",")
            protocol, _, port = service.partition(":")
            return [Flow(protocol, src=source, dst=target, dst_port=int(port))]
    return []
