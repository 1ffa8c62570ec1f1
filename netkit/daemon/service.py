"""The verbs of the daemon, those about containers and about the whole among them.

Synchronous methods run on the one engine thread (`await service.call(service.start, …)`), which
makes it the one writer; the intent is immutable and may be read from any thread. What takes time
(stopping, waiting, restarting) is in `supervisor`.

    service = await recovery.take_over(options, events)
    outcome = await service.call(service.create_network, request, caller)
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from netkit.core.admit import container as containers
from netkit.core.admit import ports
from netkit.core.walk import Verdict
from netkit.daemon import naming
from netkit.daemon.events import Events
from netkit.daemon.networking import Networking
from netkit.daemon.supervisor import Supervisor
from netkit.engine.apply import Engine, Outcome
from netkit.engine.explain import Besides, Question, explain
from netkit.engine.facts import Facts
from netkit.engine.registry import Hands
from netkit.engine.store import Entry, Made, Store, now
from netkit.errors import NetkitError
from netkit.kernel import nftables, xtables
from netkit.model.operation import Operation
from netkit.model.request import Caller, ContainerRequest
from netkit.model.spec import ANYWHERE, Container, Intent
from netkit.runtime.containers import Runtime, State
from netkit.runtime.images import Images

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Service(Networking):
    """One host's networks and containers. See the module for which thread calls what."""

    def __init__(
        self, store: Store, engine: Engine, hands: Hands, facts: Facts, images: Images, events: Events
    ) -> None:
        super().__init__(engine, facts, events)
        self._store = store
        self._hands = hands
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._loop = asyncio.get_running_loop()
        self.images = images
        self.runtime: Runtime = hands.runtime
        self._supervisor = Supervisor(self)

    async def call(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run a synchronous method on the engine's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def close(self) -> None:
        """Finish what was put off, and let go; containers keep running."""
        self._supervisor.close()
        self._thread.submit(self._hands.close).result()
        self._thread.shutdown()
        self._store.close()

    async def stop(self, ref: str, timeout_s: float | None, signal: str, caller: Caller) -> bool:
        """Ask a container to end, then make it; False where it does not run."""
        return await self._supervisor.stop(ref, timeout_s, signal, caller)

    async def restart(self, ref: str, timeout_s: float | None, signal: str, caller: Caller) -> None:
        await self._supervisor.restart(ref, timeout_s, signal, caller)

    async def kill(self, ref: str, signal: str, caller: Caller) -> None:
        await self._supervisor.kill(ref, signal, caller)

    def wait(self, ref: str, condition: str) -> Awaitable[int]:
        """A future of the exit code; conditions as Docker's: not-running, next-exit, removed."""
        return self._supervisor.wait(ref, condition)

    def tell(self, container: Container, action: str) -> None:
        """An event about a container."""
        self._tell("container", action, container)

    def state(self, container_id: str) -> State:
        """What a container does now, or how its latest run ended. Any thread; cheap."""
        container = self.intent.containers[container_id]
        if container.running:
            return self.runtime.status(container_id)
        status = "exited" if container.started or container.finished else "created"
        returning = self._supervisor.comes_back(container_id) and not container.halted
        return State(
            status="restarting" if returning else status,
            exit_code=container.exit_code,
            started=container.started,
            finished=container.finished,
            oom=container.oom_killed,
            error=container.error,
        )

    # containers

    def create_container(self, request: ContainerRequest, caller: Caller, dry_run: bool = False) -> Outcome:
        new_id, time = secrets.token_hex(32), now()
        # A chosen address is held against the host's; any other is given when the container starts.
        chosen = any(wish.ip is not None for wish in request.endpoints)
        host = self.host(leasing=self.intent.networks if chosen else ())
        name = naming.choose({container.name for container in self.intent.containers.values()})
        return self._change(
            lambda intent: containers.create(
                intent, request, host, new_id=new_id, now=time, random_name=name
            ),
            caller,
            dry_run,
            host,
            ("container", "create"),
        )

    def plan_run(self, request: ContainerRequest, caller: Caller) -> Outcome:
        """What creating and starting a container would do."""
        new_id, time = secrets.token_hex(32), now()
        host = self.host(wanted=ports.needs(request.publish), leasing=self.intent.networks)

        def edit(intent: Intent) -> tuple[Intent, Container]:
            intent, made = containers.create(
                intent, request, host, new_id=new_id, now=time, random_name="new"
            )
            return containers.start(intent, made.id, host)

        return self._change(edit, caller, True, host)

    def plan_stop(self, ref: str, caller: Caller) -> Outcome:
        """What the end of a container would do."""
        return self._change(lambda intent: containers.stop(intent, ref, containers.Ending()), caller, True)

    def plan_restart(self, ref: str, caller: Caller) -> Outcome:
        """What the end of a container would do, and then another start."""
        host, end = self.host(wanted=frozenset()), self.plan_stop(ref, caller)
        stopped, _ = containers.stop(self.intent, ref, containers.Ending())
        start = self._engine.foresee(stopped, lambda intent: containers.start(intent, ref, host), host)
        return Outcome((*end.operations, *start.operations), start.subject)

    def start(self, ref: str, caller: Caller, dry_run: bool = False, again: bool = False) -> Outcome:
        """Wire and start a container. The outcome has no subject when it runs already.

        `again` says that its restart policy asks for it: a host address may come later than it does.
        """
        container = self.container(ref)
        if container.running:
            return Outcome(())
        # Who listens is asked only where a port is wanted: it takes some 10 ms.
        asks = container.publish or container.publish_all
        needed = ports.needs(container.publish) if asks else None
        host = self.host(wanted=needed, leasing=container.endpoints)
        host = msgspec.structs.replace(host, own=(ANYWHERE,)) if again else host
        try:
            outcome = self._change(
                lambda intent: containers.start(intent, ref, host, again), caller, dry_run, host
            )
            if not dry_run:
                self.runtime.start(container.id)
                self._loop.call_soon_threadsafe(self._supervisor.watch, container.id, again)
        except NetkitError as err:
            self._note_failure(container, err, caller)
            raise
        if not dry_run:
            self._tell_networks("connect", outcome.subject)
            self._tell("container", "start", outcome.subject)
        return outcome

    def bring_back(self, container_id: str, caller: Caller) -> None:
        """Start a container once more for its policy, unless it was stopped, started or removed meanwhile."""
        container = self.intent.containers.get(container_id)
        if container is not None and not container.running and not container.halted:
            self.start(container_id, caller, again=True)

    def signal(self, container: Container, number: int) -> None:
        """Send a signal to the first process. Whatever it brings about is told after it."""
        self.runtime.signal(container.id, number)
        self._tell("container", "kill", container, signal=str(number))

    def resume(self, container: Container) -> None:
        """Follow a container found alive; one that was created and never started is started."""
        if self.runtime.status(container.id).status == "created":
            self.runtime.start(container.id)
        self._loop.call_soon_threadsafe(self._supervisor.watch, container.id)

    def ended(self, container_id: str, caller: Caller) -> Container | None:
        """A process has ended: give back what it had, and keep how it ended (or forget it: --rm).

        None where there is nothing to settle: it was settled already, or the process made anew.
        """
        state = self.runtime.status(container_id)
        if not self.container(container_id).running or state.status != "exited":
            return None
        end = containers.Ending(
            exit_code=state.exit_code,
            started=state.started,
            finished=state.finished or now(),
            oom_killed=state.oom,
        )
        edit = _gone if self.container(container_id).auto_remove else containers.stop
        _, container = edit(self.intent, container_id, end)
        whole = True
        try:
            self._settle(lambda intent: edit(intent, container_id, end), caller)
        except NetkitError as err:
            known = self.intent.containers.get(container_id)
            if known is not None and known.running:
                raise  # not even the intent could be saved
            log.error("container %s has ended; a reconcile goes on with what it had: %s", container.name, err)
            whole = False
        self._tell_end(container)
        if container.auto_remove and whole:
            self._forgotten(container)
        return container

    def halt(self, ref: str, halted: bool = True) -> Container:
        """Note that somebody stops it, so that no restart policy brings it back."""
        container: Container = self._engine.adjust(lambda intent: containers.halt(intent, ref, halted))
        return container

    def remove_container(self, ref: str, force: bool, caller: Caller, dry_run: bool = False) -> Outcome:
        """Forget a container and its folder; with `force` a running one is killed."""
        if force and self.container(ref).running:
            end = containers.Ending(exit_code=137, finished=now())
            outcome = self._settle(lambda intent: _gone(intent, ref, end), caller, dry_run)
            if not dry_run:
                self._tell("container", "kill", outcome.subject, signal="9")
                self._tell_end(outcome.subject)
        else:
            outcome = self._settle(lambda intent: containers.remove(intent, ref), caller, dry_run)
        if not dry_run:
            self._forgotten(outcome.subject)
        return outcome

    def rename(self, ref: str, name: str, caller: Caller, dry_run: bool = False) -> Outcome:
        old = self.container(ref).name
        outcome = self._change(lambda intent: containers.rename(intent, ref, name), caller, dry_run)
        if not dry_run:
            self._tell("container", "rename", outcome.subject, oldName=f"/{old}")
        return outcome

    # the whole

    def plan(self) -> tuple[Operation, ...]:
        """What a reconcile would change now."""
        return self._engine.plan(self.host())

    def reconcile(self, caller: Caller, dry_run: bool = False) -> Outcome:
        """Make the host match the intent, and let the processes go that had to be made anew for it."""
        if dry_run:
            return Outcome(self.plan())
        for container in tuple(self.intent.containers.values()):
            if container.running and (settled := self.ended(container.id, caller)):
                self._loop.call_soon_threadsafe(self._supervisor.settled, settled)
        try:
            outcome = self.mend(caller)
        except NetkitError:
            self._resume_created(self.intent.containers)
            raise
        made = (op for op in outcome.operations if op.resource.kind == "process" and op.wanted is not None)
        self._resume_created(op.resource.name_of() for op in made)
        self.runtime.sweep(self.intent.containers.keys())
        return outcome

    def mend(self, caller: Caller) -> Outcome:
        """The same for what was made and no more: processes that are made anew wait to be let go."""
        return self._engine.reconcile(self.host(), caller)

    def teardown(self, caller: Caller, dry_run: bool = False) -> Outcome:
        """Forget everything and remove all that carries our mark."""
        doomed = list(self.intent.containers.values())
        outcome = self._settle(lambda intent: (Intent(), None), caller, dry_run)
        if dry_run:
            return outcome
        for container in doomed:
            self._forgotten(container)
        rest = self._engine.reconcile(self.host(), caller)
        return Outcome((*outcome.operations, *rest.operations))

    def blame(self, what: str) -> list[Made]:
        """Which verb, user and time asked for the resources that `what` names or is part of."""
        words = naming.plain(what).split()
        found = [
            made
            for made in self._store.made()
            if all(word in naming.plain(f"{made.resource} {made.owner}") for word in words)
        ]
        exact = [made for made in found if naming.mentions(naming.plain(made.resource), naming.plain(what))]
        return exact or found

    def explain(self, question: Question) -> Verdict:
        """Whether a packet arrives, and what decides, on the host as it is now."""
        network = self._hands.network
        unseen = [f"table {table} of nft" for table in nftables.foreign_tables()]
        besides = Besides(
            firewall=self._hands.firewall(),
            ports=network.foreign_ports(),
            ways=network.ways(),
            unseen=(*filter(None, (xtables.mixed(),)), *unseen),
        )
        return explain(self._engine.observed(), self.intent, self.host(links=True), besides, question)

    def journal(self, limit: int) -> list[Entry]:
        return self._store.journal(limit)

    def _resume_created(self, ids: Iterable[str]) -> None:
        """Let go and follow those processes that wait for it."""
        for container in (self.container(each) for each in ids):
            if container.running and self.runtime.status(container.id).status == "created":
                log.warning("container %s: its process had to be made anew", container.name)
                self.resume(container)

    def _note_failure(self, container: Container, err: NetkitError, caller: Caller) -> None:
        """A start that failed leaves nothing running, and its reason with the container (--rm: nothing)."""
        self.runtime.give_up(container.id)
        code = getattr(err, "container_exit_code", 128)
        end = containers.Ending(exit_code=code, finished=now(), error=err.message)
        if container.auto_remove:
            outcome = self._settle(lambda intent: _gone(intent, container.id, end), caller)
            self._forgotten(outcome.subject)
        elif self.container(container.id).running:
            self._settle(lambda intent: containers.stop(intent, container.id, end), caller)

    def _tell_end(self, container: Container) -> None:
        self._tell("container", "die", container, exitCode=str(container.exit_code))
        self._tell_networks("disconnect", container)

    def _tell_networks(self, action: str, container: Container) -> None:
        """A container that starts comes to its networks, and leaves them when it ends."""
        for network in (self.intent.networks.get(each) for each in container.endpoints):
            if network is not None:  # it may have been removed, or lost
                self._tell("network", action, network, container=container.id)

    def _forgotten(self, container: Container) -> None:
        """A container has left the intent: its folder goes, and whoever waits is told."""
        self.runtime.remove(container.id)
        self._tell("container", "destroy", container)
        self._loop.call_soon_threadsafe(self._supervisor.removed, container)


def _gone(intent: Intent, ref: str, end: containers.Ending) -> tuple[Intent, Container]:
    """Stopped and forgotten in one change."""
    intent, container = containers.stop(intent, ref, end)
    return containers.remove(intent, container.id)
