"""The execs of one daemon: made, started once, followed to their end, asked about afterwards.

Each is known by its id until its container is forgotten. What a client leaves behind goes on:
its output is read and thrown away, and its exit code is kept.

    exec_ = execs.create(container, body)
    await execs.start(exec_.id, attached=True)
"""

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any

from netkit.daemon.bodies import ExecBody
from netkit.daemon.shapes_create import words
from netkit.errors import Conflict, NetkitError, NotFound, SpecError
from netkit.model.spec import Container
from netkit.runtime.execution import Command, Execution

if TYPE_CHECKING:
    from netkit.daemon.service import Service

log = logging.getLogger(__name__)


class Exec:
    """One exec; `session` is there from its start on, `exit_code` from its end on."""

    def __init__(self, container: Container, body: ExecBody) -> None:
        self.id = secrets.token_hex(32)
        self.container = container
        self.body = body
        self.session: Execution | None = None
        self.begun = False
        self.ended = asyncio.Event()
        self.exit_code = 0

    @property
    def running(self) -> bool:
        return self.session is not None and not self.ended.is_set()

    def shape(self) -> dict[str, Any]:
        """GET /exec/E/json."""
        argv = words(self.body.cmd)
        return {
            "ID": self.id,
            "ContainerID": self.container.id,
            "Running": self.running,
            "ExitCode": self.exit_code if self.ended.is_set() else None,
            "Pid": self.session.pid if self.session else 0,
            "ProcessConfig": {
                "tty": self.body.tty,
                "entrypoint": argv[0],
                "arguments": list(argv[1:]),
                "privileged": self.body.privileged,
                "user": self.body.user or self.container.user,
            },
            "OpenStdin": self.body.attach_stdin,
            "OpenStdout": self.body.attach_stdout,
            "OpenStderr": self.body.attach_stderr,
            "CanRemove": False,
            "DetachKeys": self.body.detach_keys,
        }


class Execs:
    """All execs, by id. Lives on the event loop."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._known: dict[str, Exec] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def create(self, container: Container, body: ExecBody) -> Exec:
        """Note an exec in a running container. Raises Conflict, SpecError."""
        if not container.running:
            raise Conflict(f"container {container.name} is not running", hint="start it first")
        if not words(body.cmd) or not words(body.cmd)[0]:
            raise SpecError("no exec command specified", hint="name the program after the container")
        containers = self._service.intent.containers
        self._known = {key: each for key, each in self._known.items() if each.container.id in containers}
        made = Exec(container, body)
        self._known[made.id] = made
        self._tell(made, "exec_create")
        return made

    def get(self, exec_id: str) -> Exec:
        """Raises NotFound."""
        found = self._known.get(exec_id)
        if found is None:
            raise NotFound(f"no such exec instance: {exec_id}", hint="its container may be gone")
        return found

    def of(self, container_id: str) -> list[str]:
        """The ids of a container's execs that run."""
        return [
            each.id for each in self._known.values() if each.container.id == container_id and each.running
        ]

    async def start(self, exec_id: str, *, attached: bool) -> Exec:
        """Run it; one that is not `attached` has no streams.

        Raises NotFound, Conflict, and what the runtime raises where the program cannot be run;
        that too ends the exec, with the code that a shell would give.
        """
        wanted = self.get(exec_id)
        container = self._service.intent.containers.get(wanted.container.id)
        if wanted.begun:
            raise Conflict(f"exec {exec_id[:12]} has been started already", hint="make another one")
        if container is None or not container.running:
            raise Conflict(f"container {wanted.container.name} is not running", hint="start it first")
        wanted.begun = True
        asked = command(wanted.body, attached=attached)
        try:
            wanted.session = await self._service.runtime.execute(container.id, wanted.id, asked)
        except NetkitError as err:
            wanted.exit_code = getattr(err, "container_exit_code", 126)
            wanted.ended.set()
            raise
        self._tell(wanted, "exec_start")
        self._spawn(self._follow(wanted, wanted.session))
        return wanted

    def leave(self, left: Exec) -> None:
        """Nobody reads its output any more: read it, so that it does not get stuck."""
        if left.session is not None:
            self._spawn(_drain(left.session))

    async def _follow(self, followed: Exec, session: Execution) -> None:
        followed.exit_code = await session.wait()
        followed.ended.set()
        self._tell(followed, "exec_die", exitCode=str(followed.exit_code))

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell(self, about: Exec, action: str, **more: str) -> None:
        container = about.container
        if action != "exec_die":
            action = f"{action}: {' '.join(words(about.body.cmd))}"
        attributes = {"name": container.name, "image": container.image, "execID": about.id, **more}
        self._service.events.publish("container", action, container.id, attributes)


def command(body: ExecBody, *, attached: bool) -> Command:
    """What to run, in the runtime's words."""
    return Command(
        argv=words(body.cmd),
        env=tuple(body.env),
        user=body.user,
        workdir=body.working_dir,
        terminal=body.tty,
        stdin=attached and body.attach_stdin,
        privileged=body.privileged,
        attached=attached,
    )


async def _drain(session: Execution) -> None:
    try:
        async for _ in session.output():
            pass
        await session.close()
    except (OSError, NetkitError) as err:
        log.debug("the output of an exec is lost: %s", err)
