"""What all verbs of the daemon stand on: the intent, the facts, one change, one event.

Each verb is an admission, one change by the engine, and an event. All of it runs on the engine's
one thread; the intent is immutable and may be read from any.
"""

from collections.abc import Collection, Iterable

from netkit.core.admit import find
from netkit.daemon.events import Events
from netkit.engine.apply import Edit, Engine, Outcome
from netkit.engine.facts import Facts
from netkit.model.request import Caller
from netkit.model.spec import Container, Host, Intent, Network


class Verbs:
    """The base of the service: reading, and how a change is made and told."""

    def __init__(self, engine: Engine, facts: Facts, events: Events) -> None:
        self._engine = engine
        self._facts = facts
        self.events = events

    @property
    def intent(self) -> Intent:
        return self._engine.intent

    def host(
        self,
        *,
        links: bool = False,
        wanted: Collection[tuple[str, int]] | None = None,
        leasing: Iterable[str] = (),
    ) -> Host:
        """The facts a decision needs; see `engine.facts`. `leasing`: ids of networks that give an address."""
        nets = (self.intent.networks.get(network_id) for network_id in leasing)
        bridges = [network.bridge for network in nets if network is not None]
        return self._facts.read(self.intent, links=links, ports=wanted, leasing=bridges)

    def network(self, ref: str) -> Network:
        return find.network(self.intent, ref)

    def container(self, ref: str) -> Container:
        return find.container(self.intent, ref)

    def _change(
        self,
        edit: Edit,
        caller: Caller,
        dry_run: bool,
        host: Host | None = None,
        event: tuple[str, str] | None = None,
    ) -> Outcome:
        outcome = self._engine.change(edit, host or self.host(), caller, dry_run=dry_run)
        if event and not dry_run:
            self._tell(*event, outcome.subject)
        return outcome

    def _settle(self, edit: Edit, caller: Caller, dry_run: bool = False) -> Outcome:
        """A change that cannot be taken back: a process has ended, or is ended by it."""
        return self._engine.change(edit, self.host(), caller, dry_run=dry_run, final=True)

    def _tell(self, kind: str, action: str, subject: Network | Container, **more: str) -> None:
        attributes = {"name": subject.name, **more}
        if isinstance(subject, Container):
            attributes |= {"image": subject.image, **subject.labels}
        else:
            attributes["type"] = "bridge"
        self.events.publish(kind, action, subject.id, attributes)
