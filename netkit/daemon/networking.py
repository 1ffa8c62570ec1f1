"""The verbs about networks, endpoints, links and published ports; see `verbs` for how each works.

outcome = await service.call(service.create_network, request, caller)
"""

import contextlib
import secrets
from collections.abc import Callable

from netkit.core.admit import endpoint, link, network, ports
from netkit.daemon.verbs import Verbs
from netkit.engine.apply import Outcome
from netkit.engine.store import now
from netkit.errors import NotFound
from netkit.model.request import Caller, EndpointRequest, NetworkRequest
from netkit.model.spec import Network, Publish


class Networking(Verbs):
    """Who is on which network, and who may talk to whom."""

    # networks

    def create_network(self, request: NetworkRequest, caller: Caller, dry_run: bool = False) -> Outcome:
        new_id, time, host = secrets.token_hex(32), now(), self.host(links=True)
        return self._change(
            lambda intent: network.create(intent, request, host, new_id=new_id, now=time),
            caller,
            dry_run,
            host,
            ("network", "create"),
        )

    def remove_network(self, ref: str, caller: Caller, dry_run: bool = False) -> Outcome:
        return self._change(
            lambda intent: network.remove(intent, ref), caller, dry_run, event=("network", "destroy")
        )

    def prune_networks(
        self, keep: Callable[[Network], bool], caller: Caller, dry_run: bool = False
    ) -> Outcome:
        """Remove the networks that nothing is attached to, less those that `keep` spares."""
        doomed = [net for net in network.unused(self.intent) if not keep(net)]
        done = [self.remove_network(net.id, caller, dry_run) for net in doomed]
        operations = tuple(operation for outcome in done for operation in outcome.operations)
        return Outcome(operations, [net.name for net in doomed])

    def attach_interface(self, ref: str, interface: str, caller: Caller, dry_run: bool = False) -> Outcome:
        host = self.host(links=True)
        return self._change(
            lambda intent: network.attach(intent, ref, interface, host), caller, dry_run, host
        )

    def detach_interface(self, ref: str, interface: str, caller: Caller, dry_run: bool = False) -> Outcome:
        return self._change(lambda intent: network.detach(intent, ref, interface), caller, dry_run)

    # endpoints, links, ports

    def connect(
        self,
        network_ref: str,
        container_ref: str,
        wish: EndpointRequest,
        caller: Caller,
        dry_run: bool = False,
    ) -> Outcome:
        host = self.host(leasing=(self.network(network_ref).id,))
        outcome = self._change(
            lambda intent: endpoint.connect(intent, network_ref, container_ref, wish, host),
            caller,
            dry_run,
            host,
        )
        return self._told(outcome, "connect", network_ref, dry_run)

    def disconnect(
        self,
        network_ref: str,
        container_ref: str,
        force: bool,
        caller: Caller,
        dry_run: bool = False,
    ) -> Outcome:
        outcome = self._change(
            lambda intent: endpoint.disconnect(intent, network_ref, container_ref, force), caller, dry_run
        )
        return self._told(outcome, "disconnect", network_ref, dry_run)

    def aliases(
        self,
        network_ref: str,
        container_ref: str,
        add: tuple[str, ...],
        remove: tuple[str, ...],
        caller: Caller,
        dry_run: bool = False,
    ) -> Outcome:
        return self._change(
            lambda intent: endpoint.alias(intent, network_ref, container_ref, add, remove),
            caller,
            dry_run,
        )

    def publish(
        self, ref: str, wanted: tuple[Publish, ...], caller: Caller, dry_run: bool = False
    ) -> Outcome:
        host = self.host(wanted=ports.needs(wanted))
        return self._change(lambda intent: ports.publish(intent, ref, wanted, host), caller, dry_run, host)

    def unpublish(self, ref: str, names: tuple[str, ...], caller: Caller, dry_run: bool = False) -> Outcome:
        return self._change(lambda intent: ports.unpublish(intent, ref, names), caller, dry_run)

    def add_link(
        self, parent: str, target: str, alias: str, caller: Caller, dry_run: bool = False
    ) -> Outcome:
        return self._change(lambda intent: link.add(intent, parent, target, alias), caller, dry_run)

    def remove_link(self, parent: str, name: str, caller: Caller, dry_run: bool = False) -> Outcome:
        return self._change(lambda intent: link.remove(intent, parent, name), caller, dry_run)

    def _told(self, outcome: Outcome, action: str, network_ref: str, dry_run: bool) -> Outcome:
        if not dry_run:
            with contextlib.suppress(NotFound):  # a network that has gone has no events
                self._tell("network", action, self.network(network_ref), container=outcome.subject.id)
        return outcome
