"""What takes time: waiting for processes to end, stopping them, starting them again.

It lives on the event loop. Every running container has a descriptor that becomes readable when
its monitor has written how it ended; then the container gives back what it had, and its restart
policy decides what follows.

    code = await supervisor.wait("web", "next-exit")
"""

import asyncio
import logging
import os
import signal as signals
import time
from collections import defaultdict
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING

from netkit.core.admit import container as containers
from netkit.daemon.signals import signal_number
from netkit.errors import Conflict, NetkitError, NotFound, SpecError
from netkit.model.request import Caller
from netkit.model.spec import Container

if TYPE_CHECKING:
    from netkit.daemon.service import Service

log = logging.getLogger(__name__)

SELF = Caller(user="netkit", verb="a process has ended")
_FIRST_DELAY_S = 0.1  # doubled with each restart that did not last, as Docker does
_LONGEST_DELAY_S = 60.0
_LASTED_S = 10.0
_KILL_GRACE_S = 10.0


class Supervisor:
    """Watches the processes of one service."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._exits: dict[str, list[asyncio.Future[int]]] = defaultdict(list)
        self._removals: dict[str, list[asyncio.Future[int]]] = defaultdict(list)
        self._watched: dict[str, int] = {}
        self._returning: set[str] = set()
        self._delays: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self._asked: dict[str, Caller] = {}  # by whom an end was asked for that has not come yet
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, container_id: str, again: bool = False) -> None:
        """Follow a container that has just been started (`again` by its policy) or was found running."""
        if not again:
            self._delays.pop(container_id, None)
        descriptor = self._service.runtime.exit_descriptor(container_id)
        self._watched[container_id] = descriptor
        self._began[container_id] = time.monotonic()
        self._loop.add_reader(descriptor, self._readable, container_id, descriptor)

    def comes_back(self, container_id: str) -> bool:
        """Whether it lies between two runs. Any thread."""
        return container_id in self._returning

    def close(self) -> None:
        """Stop watching; the containers go on."""
        for descriptor in self._watched.values():
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._watched.clear()
        for task in self._tasks:
            task.cancel()

    async def stop(self, ref: str, timeout_s: float | None, signal: str, caller: Caller) -> bool:
        """Ask a container to end, then make it. False where it does not run."""
        container = self._service.container(ref)
        number = signal_number(signal or container.stop_signal or "SIGTERM")
        # One between two runs is told as well: its restart policy is not to bring it back.
        if container.running or container.restart.policy != "no":
            container = await self._service.call(self._service.halt, container.id)
        if not container.running:
            return False
        grace = container.stop_timeout_s if timeout_s is None else timeout_s
        exited = self._expect_exit(container.id)
        self._asked[container.id] = caller
        for asked, grace_s in ((number, None if grace < 0 else grace), (signals.SIGKILL, _KILL_GRACE_S)):
            reached = await self._reaches(container, asked)
            # One that has just ended by itself is about to be settled.
            if await _within(exited, grace_s if reached else _KILL_GRACE_S):
                self._service.tell(container, "stop")
                return True
        raise Conflict(f"container {container.name} does not end", hint="see the daemon's log")

    async def restart(self, ref: str, timeout_s: float | None, signal: str, caller: Caller) -> None:
        """Stop a container, if it runs, and start it."""
        container = self._service.container(ref)
        await self.stop(container.id, timeout_s, signal, caller)
        await self._service.call(self._service.start, container.id, caller)
        self._service.tell(self._service.container(container.id), "restart")

    async def kill(self, ref: str, signal: str, caller: Caller) -> None:
        """Send a signal to a running container. Raises Conflict where it does not run."""
        container = self._service.container(ref)
        if not container.running:
            raise Conflict(f"container {container.name} is not running", hint="start it first")
        number = signal_number(signal or "SIGKILL")
        if number in {signals.SIGKILL, signals.SIGTERM}:
            container = await self._service.call(self._service.halt, container.id)
        exited = self._expect_exit(container.id)
        if number == signals.SIGKILL:
            self._asked[container.id] = caller
        await self._signal(container, number)
        if number == signals.SIGKILL:
            await _within(exited, _KILL_GRACE_S)

    def wait(self, ref: str, condition: str) -> Awaitable[int]:
        """A future of the exit code: condition not-running, next-exit or removed."""
        container = self._service.container(ref)
        if condition == "removed":
            return self._promise(self._removals[container.id])
        if condition == "next-exit" or container.running:
            return self._expect_exit(container.id)
        if condition not in {"", "not-running"}:
            raise SpecError(f"unknown condition {condition!r}", hint="not-running, next-exit, removed")
        future = self._loop.create_future()
        future.set_result(container.exit_code)
        return future

    def removed(self, container: Container) -> None:
        """A container has been forgotten: whoever waits for either end of it is told."""
        for waiting in (self._exits, self._removals):
            for future in waiting.pop(container.id, ()):
                if not future.done():
                    future.set_result(container.exit_code)
        for known in (self._delays, self._began, self._asked):
            known.pop(container.id, None)

    def _expect_exit(self, container_id: str) -> asyncio.Future[int]:
        return self._promise(self._exits[container_id])

    def _promise(self, futures: list[asyncio.Future[int]]) -> asyncio.Future[int]:
        future: asyncio.Future[int] = self._loop.create_future()
        futures.append(future)
        return future

    async def _reaches(self, container: Container, number: int) -> bool:
        """Whether there is still a process to send a signal to."""
        try:
            await self._signal(container, number)
        except Conflict:
            return False
        return True

    async def _signal(self, container: Container, number: int) -> None:
        await self._service.call(self._service.signal, container, number)

    def _readable(self, container_id: str, descriptor: int) -> None:
        self._loop.remove_reader(descriptor)
        os.close(descriptor)
        if self._watched.get(container_id) == descriptor:  # else its process was made anew
            del self._watched[container_id]
        self._spawn(self._exited(container_id))

    async def _exited(self, container_id: str) -> None:
        """A process has ended: settle it, again and again while not even that can be saved (a full disk)."""
        delay = _FIRST_DELAY_S
        while (known := self._service.intent.containers.get(container_id)) and known.running:
            by = self._asked.get(container_id, SELF)
            try:
                settled = await self._service.call(self._service.ended, container_id, by)
            except NotFound:
                return  # removed by force, which ended it and settled it in one
            except NetkitError as err:
                log.error("container %s ended and could not be settled: %s", known.name, err)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _LONGEST_DELAY_S)
                continue
            if settled is not None:
                self.settled(settled)
            return

    def settled(self, container: Container) -> None:
        """It is saved how a container ended: those who wait are told, and its policy decides what follows."""
        if container.id not in self._service.intent.containers:
            self.removed(container)
            return
        self._asked.pop(container.id, None)
        for future in self._exits.pop(container.id, ()):
            if not future.done():
                future.set_result(container.exit_code)
        if time.monotonic() - self._began.get(container.id, 0.0) >= _LASTED_S:
            self._delays.pop(container.id, None)
        if containers.comes_back(container):
            self._spawn(self._bring_back(container))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bring_back(self, container: Container) -> None:
        delay = self._delays.get(container.id, _FIRST_DELAY_S)
        self._delays[container.id] = min(2 * delay, _LONGEST_DELAY_S)
        self._returning.add(container.id)
        try:
            await asyncio.sleep(delay)
            await self._start_again(container)
        finally:
            self._returning.discard(container.id)

    async def _start_again(self, container: Container) -> None:
        by = Caller(user="netkit", verb=f"restart policy {container.restart.policy}")
        try:
            await self._service.call(self._service.bring_back, container.id, by)
        except NetkitError as err:
            log.error("container %s could not be started again: %s", container.name, err)


async def _within(future: asyncio.Future[int], seconds: float | None) -> bool:
    try:
        await asyncio.wait_for(asyncio.shield(future), seconds)
    except TimeoutError:
        return False
    return True
