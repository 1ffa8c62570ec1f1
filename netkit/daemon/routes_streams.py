"""What flows: attach, logs, and the little that belongs to a running terminal.

Attach answers before the container is started, as the stock client wants it; what goes wrong
after the head of a stream can only be logged.
"""

import time

from aiohttp import web

from netkit.daemon import clock, hijack
from netkit.daemon.call import Call, answer, empty
from netkit.daemon.pump import carry
from netkit.errors import Conflict, SpecError

_TAIL_ALL = ("", "all")


async def attach(call: Call) -> web.StreamResponse:
    """POST /containers/X/attach?stream=&stdin=&stdout=&stderr=&logs=&detachKeys=."""
    container = call.service.container(call.ref)
    keys = hijack.DetachKeys(call.text("detachKeys")) if container.terminal else None
    streams = wanted_streams(call)
    stdin = call.flag("stdin") and container.stdin
    session = await call.service.runtime.attach(container.id, stdin=stdin)
    try:
        wire = await hijack.take(call.request, terminal=container.terminal, version=call.version)
        call.service.tell(container, "attach")
        if not await carry(wire, session, keys, streams):
            call.service.tell(container, "detach")
    finally:
        await session.close()
    await wire.end()
    return wire.response()


async def logs(call: Call) -> web.StreamResponse:
    """GET /containers/X/logs?stdout=&stderr=&follow=&tail=&since=&until=&timestamps=."""
    container = call.service.container(call.ref)
    streams, now = wanted_streams(call), time.time()
    if not streams:
        raise SpecError("neither stdout nor stderr is wanted", hint="?stdout=1&stderr=1")
    since, until = call.text("since"), call.text("until")
    lines = call.service.runtime.logs(
        container.id,
        follow=call.flag("follow"),
        tail=_tail(call),
        since=clock.parse_moment(since, now) if since else 0.0,
        until=clock.parse_moment(until, now) if until and until != "0" else None,
    )
    multiplexed = not container.terminal
    kind = hijack.MULTIPLEXED if multiplexed and call.version >= (1, 42) else hijack.RAW
    response = web.StreamResponse(headers={"Content-Type": kind})
    await response.prepare(call.request)
    stamped = call.flag("timestamps")
    async for line in lines:
        if line.stream in streams:
            data = f"{line.time} ".encode() + line.data if stamped else line.data
            await response.write(hijack.frame(line.stream, data) if multiplexed else data)
    await response.write_eof()
    return response


async def resize(call: Call) -> web.Response:
    """POST /containers/X/resize?h=&w=."""
    container = call.service.container(call.ref)
    if not container.running:
        raise Conflict(f"container {container.name} is not running", hint="start it first")
    height, width = window(call)
    await call.run(call.service.runtime.resize, container.id, height, width)
    return empty(200)


async def top(call: Call) -> web.Response:
    """GET /containers/X/top[?ps_args=]."""
    container = call.service.container(call.ref)
    if not container.running:
        raise Conflict(f"container {container.name} is not running", hint="start it first")
    titles, rows = await call.run(call.service.runtime.processes, container.id, call.text("ps_args", "-ef"))
    return answer({"Titles": titles, "Processes": rows})


def window(call: Call) -> tuple[int, int]:
    """Height and width of a terminal, in characters. Raises SpecError."""
    height, width = int(call.number("h", 0)), int(call.number("w", 0))
    if not (0 <= height <= 0xFFFF and 0 <= width <= 0xFFFF):
        raise SpecError(f"invalid terminal size {height}x{width}", hint="?h=24&w=80")
    return height, width


def wanted_streams(call: Call) -> frozenset[int]:
    """1 for stdout, 2 for stderr, as the query asks."""
    names = ((1, "stdout"), (2, "stderr"))
    return frozenset(number for number, name in names if call.flag(name))


def _tail(call: Call) -> int | None:
    """How many lines from the end; None for all."""
    text = call.text("tail")
    if text in _TAIL_ALL:
        return None
    if not text.isdigit():
        raise SpecError(f"invalid tail {text!r}", hint="a number, or all")
    return int(text)
