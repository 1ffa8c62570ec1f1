"""A driver around a driver: what redirects or opens takes the tracked connections along.

It changes nothing of what the driver inside does; when that has happened, connections which the
old state decided and the new one would not are forgotten, in one walk over the kernel's table.

    FlowsFollow(XTables())
"""

from collections.abc import Iterable, Iterator, Sequence

from netkit.core.firewall import LINKS
from netkit.kernel.conntrack import Flow, forget
from netkit.kernel.driver import Driver
from netkit.model.names import ISOLATE
from netkit.model.operation import Operation
from netkit.model.resource import Entry, Member, Resource
from netkit.model.rule import Rule


class FlowsFollow:
    """The driver `inside`, with stale flows forgotten after each batch."""

    def __init__(self, inside: Driver) -> None:
        self._inside = inside
        self.kinds = inside.kinds
        self.waits = inside.waits

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        return self._inside.observe(scope)

    def execute(self, operations: Sequence[Operation]) -> Iterator[Operation]:
        gone: list[Flow] = []
        try:
            for operation in self._inside.execute(operations):
                gone += stale(operation)
                yield operation
        finally:
            if gone:
                forget(gone)


def stale(operation: Operation) -> list[Flow]:
    """The connections that an operation makes stale; those that still fit stay."""
    match operation.observed, operation.wanted:
        case Entry(rule=was), None if was.target == "DNAT":
            return [_redirected(was)]
        case None, Entry(rule=now) if now.target == "DNAT":
            # Only datagrams: a connection that was made before went to the host itself, and fits.
            return [Flow(now.protocol, dst=_host(now), dst_port=_port(now))] if now.protocol == "udp" else []
        case Entry(rule=was), Entry(rule=now) if was.to != now.to and was.protocol == "udp":
            return [_redirected(was)]
        case Entry(rule=was), Entry(rule=now, chain=chain, subnet=subnet) if chain == ISOLATE:
            closed = was.target != now.target and now.target == "DROP"
            # As the kernel shows it, an entry does not say whose traffic it decides: never everybody's.
            return [Flow(within=subnet)] if closed and subnet else []
        case Member(set=name, entry=entry), None if name == LINKS:
            source, service, target = entry.split(",")
            protocol, _, port = service.partition(":")
            return [Flow(protocol, src=source, dst=target, dst_port=int(port))]
    return []


def _redirected(rule: Rule) -> Flow:
    """The connections that went where a DNAT rule leads, by that rule."""
    address, _, port = rule.to.partition(":")
    return Flow(
        rule.protocol,
        dst=_host(rule),
        dst_port=_port(rule),
        answer=address,
        answer_port=int(port or 0),
        redirected=True,
    )


def _host(rule: Rule) -> str:
    return rule.dst.partition("/")[0]


def _port(rule: Rule) -> int:
    return rule.dports[0] if rule.dports else 0
