"""A service without a kernel: real admission on a real intent, and processes that are only said to run.

What `Service` does with the engine is left out; its methods and their answers are the same.
"""

import asyncio
import itertools

import msgspec
from netaddr import IPNetwork

from netkit.core.admit import container as containers
from netkit.core.admit import endpoint, find, link, network, ports
from netkit.daemon.events import Events
from netkit.errors import Conflict, NotFound
from netkit.model.derived import digest
from netkit.model.operation import Operation
from netkit.model.request import NetworkRequest
from netkit.model.resource import Bridge
from netkit.model.spec import Host, Intent
from netkit.runtime.containers import State
from netkit.runtime.images import Image
from netkit.runtime.logs import Line
from netkit.runtime.monitor import NotRunnable

TIME = "2026-01-31T12:00:00.000000Z"


class Outcome(msgspec.Struct, frozen=True):
    operations: tuple = ()
    subject: object = None


def image(**more):
    shown = {
        "id": "sha256:" + "ab" * 32,
        "names": ("box:latest",),
        "lowers": ("/images/box",),
        "created": TIME,
        "size": 4096,
        "architecture": "amd64",
        "env": ("PATH=/bin", "LANG=C"),
        "command": ("sh",),
        "exposed": ((80, "tcp"),),
        "labels": {"from": "image"},
    }
    return Image(**{**shown, **more})


class Images:
    def __init__(self):
        self._known = {"box": image()}

    def get(self, ref):
        if ref.removesuffix(":latest") not in self._known:
            raise NotFound(f"No such image: {ref}:latest")
        return self._known[ref.removesuffix(":latest")]

    def all(self):
        return list(self._known.values())

    def import_tar(self, stream, name, changes=()):
        size = sum(len(chunk) for chunk in iter(lambda: stream.read(1 << 16), b""))
        made = image(names=(name,), id="sha256:" + "cd" * 32, size=size)
        self._known[name.removesuffix(":latest")] = made
        return made

    def remove(self, ref, in_use=frozenset(), dry_run=False):
        if self.get(ref).id in in_use:
            raise Conflict(f"image {ref} is in use by a container", hint="remove the container first")
        gone = self.get(ref) if dry_run else self._known.pop(ref.removesuffix(":latest"))
        return list(gone.names), gone.id


class Session:
    """A process that echoes its stdin in capitals, and says on stderr that it ended."""

    def __init__(self):
        self._lines = asyncio.Queue()
        self.closed = False

    async def output(self):
        yield 1, b"hello\n"
        while data := await self._lines.get():
            yield 1, data.upper()
        yield 2, b"bye\n"

    async def write(self, data):
        await self._lines.put(data)

    async def close_stdin(self):
        await self._lines.put(b"")

    async def close(self):
        self.closed = True


class Execution(Session):
    """A program that ends with code 7 when its streams do."""

    def __init__(self, command):
        super().__init__()
        self.command = command
        self.pid = 99
        self.size = None
        self.ended = asyncio.Event()
        if not command.attached:
            self.ended.set()

    async def output(self):
        async for chunk in super().output():
            yield chunk
        self.ended.set()

    def resize(self, height, width):
        self.size = height, width

    async def wait(self):
        await self.ended.wait()
        return 7


class Runtime:
    def __init__(self):
        self.sessions = []

    async def execute(self, container_id, exec_id, command):
        if command.argv[0] == "nix":
            raise NotRunnable("OCI runtime exec failed: nix: executable file not found in $PATH", 127)
        self.sessions.append(Execution(command))
        return self.sessions[-1]

    async def logs(self, container_id, *, follow, tail, since, until):
        lines = [Line("2026-01-31T12:00:00.123456789Z", 1, b"out\n"), Line(TIME, 2, b"err\n")]
        for line in lines[-tail:] if tail is not None else lines:
            yield line

    def processes(self, container_id, ps_args):
        return ["PID", "CMD"], [["42", f"ps {ps_args}"]]

    async def attach(self, container_id, stdin=True):
        self.sessions.append(Session())
        return self.sessions[-1]


class FakeService:
    def __init__(self):
        self.intent = Intent()
        self.images = Images()
        self.events = Events()
        self.runtime = Runtime()
        self.callers = []
        self.waiting = {}
        self._ids = (digest(str(number), length=64) for number in itertools.count())
        self._admit(
            network.create, NetworkRequest(name="bridge", bridge="netkit0"), self.host(), **self._new()
        )

    async def call(self, function, *args):
        return function(*args)

    def host(self, links=False, wanted=None):
        pools = ((IPNetwork("172.30.0.0/16"), 24),)
        return Host(state_dir="/state", pools=pools, port_range=(50000, 50010))

    def network(self, ref):
        return find.network(self.intent, ref)

    def container(self, ref):
        return find.container(self.intent, ref)

    def state(self, container_id):
        container = self.intent.containers[container_id]
        if container.running:
            return State(status="running", pid=42, started=TIME)
        return State("exited" if container.finished else "created", exit_code=container.exit_code)

    def tell(self, container, action):
        self.events.publish("container", action, container.id, {"name": container.name})

    def create_network(self, request, caller, dry_run=False):
        host = self.host()
        outcome = self._verb(caller, dry_run, network.create, request, host, **self._new())
        bridge = Bridge(name=outcome.subject.bridge, mtu=1500, owner=outcome.subject.owner)
        return Outcome((Operation(None, bridge),), outcome.subject)

    def remove_network(self, ref, caller, dry_run=False):
        return self._verb(caller, dry_run, network.remove, ref)

    def prune_networks(self, keep, caller, dry_run=False):
        doomed = [net for net in network.unused(self.intent) if not keep(net)]
        for net in doomed:
            self.remove_network(net.id, caller, dry_run)
        return Outcome((), [net.name for net in doomed])

    def connect(self, network_ref, container_ref, wish, caller, dry_run=False):
        return self._verb(caller, dry_run, endpoint.connect, network_ref, container_ref, wish, self.host())

    def disconnect(self, network_ref, container_ref, force, caller, dry_run=False):
        return self._verb(caller, dry_run, endpoint.disconnect, network_ref, container_ref)

    def aliases(self, network_ref, container_ref, add, remove, caller, dry_run=False):
        return self._verb(caller, dry_run, endpoint.alias, network_ref, container_ref, add, remove)

    def publish(self, ref, wanted, caller, dry_run=False):
        return self._verb(caller, dry_run, ports.publish, ref, wanted, self.host())

    def unpublish(self, ref, names, caller, dry_run=False):
        return self._verb(caller, dry_run, ports.unpublish, ref, names)

    def add_link(self, parent, target, alias, caller, dry_run=False):
        return self._verb(caller, dry_run, link.add, parent, target, alias)

    def remove_link(self, parent, name, caller, dry_run=False):
        return self._verb(caller, dry_run, link.remove, parent, name)

    def create_container(self, request, caller, dry_run=False):
        return self._verb(
            caller, dry_run, containers.create, request, self.host(), random_name="calm_otter", **self._new()
        )

    def start(self, ref, caller, dry_run=False):
        if self.container(ref).running:
            return Outcome()
        return self._verb(caller, dry_run, containers.start, ref, self.host())

    async def stop(self, ref, timeout_s, signal, caller):
        container = self.container(ref)
        if not container.running:
            return False
        end = containers.Ending(exit_code=137, finished=TIME)
        self._verb(caller, False, containers.stop, ref, end)
        for future in self.waiting.pop(container.id, ()):
            future.set_result(137)
        return True

    async def kill(self, ref, signal, caller):
        if not await self.stop(ref, 0, signal, caller):
            raise Conflict(f"container {ref} is not running", hint="start it first")

    def wait(self, ref, condition):
        future = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(self.container(ref).id, []).append(future)
        return future

    def remove_container(self, ref, force, caller, dry_run=False):
        return self._verb(caller, dry_run, containers.remove, ref)

    def rename(self, ref, name, caller, dry_run=False):
        return self._verb(caller, dry_run, containers.rename, ref, name)

    def plan(self):
        return (Operation(None, Bridge(name="netkit0", mtu=1500, owner="network/bridge")),)

    def reconcile(self, caller, dry_run=False):
        return Outcome(self.plan())

    def _new(self):
        return {"new_id": next(self._ids), "now": TIME}

    def _verb(self, caller, dry_run, function, *args, **more):
        before = self.intent
        subject = self._admit(function, *args, **more)
        self.callers.append(caller)
        if dry_run:
            self.intent = before
        return Outcome((), subject)

    def _admit(self, function, *args, **more):
        self.intent, subject = function(self.intent, *args, **more)
        return subject
