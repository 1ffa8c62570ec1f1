"""Exec: make it, start it, size its terminal, look at it.

Started attached it is a hijacked stream that ends with the process; started detached the answer
is empty and at once.
"""

from aiohttp import web

from netkit.daemon import hijack
from netkit.daemon.bodies import ExecBody, ExecStartBody
from netkit.daemon.call import EXECS, Call, answer, empty
from netkit.daemon.execs import Exec
from netkit.daemon.pump import carry
from netkit.daemon.routes_streams import window
from netkit.errors import Conflict
from netkit.runtime.monitor import NotRunnable


async def create(call: Call) -> web.Response:
    """POST /containers/X/exec."""
    body = await call.body(ExecBody)
    hijack.DetachKeys(body.detach_keys)  # refused now rather than when it is typed
    made = call.app[EXECS].create(call.service.container(call.ref), body)
    return answer({"Id": made.id}, 201)


async def start(call: Call) -> web.StreamResponse:
    """POST /exec/E/start: a stream, or with Detach an empty answer."""
    body = await call.body(ExecStartBody)
    execs = call.app[EXECS]
    try:
        started = await execs.start(call.ref, attached=not body.detach)
    except NotRunnable as err:
        if body.detach:
            raise
        return await _refusal(call, execs.get(call.ref), err)
    if body.detach:
        return empty(200)
    try:
        return await _stream(call, started)
    finally:
        if started.running:
            execs.leave(started)


async def resize(call: Call) -> web.Response:
    """POST /exec/E/resize?h=&w=."""
    found = call.app[EXECS].get(call.ref)
    height, width = window(call)
    if found.session is None or not found.running:
        raise Conflict(f"exec {found.id[:12]} is not running", hint="start it first")
    found.session.resize(height, width)
    return empty(200)


async def show(call: Call) -> web.Response:
    """GET /exec/E/json."""
    return answer(call.app[EXECS].get(call.ref).shape())


async def _refusal(call: Call, refused: Exec, err: NotRunnable) -> web.StreamResponse:
    """Docker's way: the reason is output, and the exit code tells that it never ran."""
    wire = await hijack.take(call.request, terminal=refused.body.tty, version=call.version)
    await wire.write(2, f"{err.message}\r\n".encode())
    await wire.end()
    return wire.response()


async def _stream(call: Call, started: Exec) -> web.StreamResponse:
    """Carry its streams until it ends or the client leaves."""
    body, session = started.body, started.session
    if session is None:
        raise Conflict(f"exec {started.id[:12]} is not running", hint="start it first")
    wanted = frozenset({1} if body.attach_stdout else ()) | ({2} if body.attach_stderr else set())
    keys = hijack.DetachKeys(body.detach_keys) if body.tty else None
    wire = await hijack.take(call.request, terminal=body.tty, version=call.version)
    if await carry(wire, session, keys, wanted):
        # The client asks for the exit code as soon as the stream ends.
        await started.ended.wait()
        await session.close()
    await wire.end()
    return wire.response()
