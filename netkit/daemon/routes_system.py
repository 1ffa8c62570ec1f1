"""The daemon itself: ping, version, info, events, and the answers to what netkit does not have.

A path that Docker has and netkit has not is answered with 501 and a word on it; swarm with the
503 that its clients know; any other path with 404.
"""

import asyncio
import contextlib
import os
import platform
import time
from collections import Counter
from pathlib import Path

import msgspec
from aiohttp import web

from netkit.daemon import clock, events, routes_containers, shapes_image, shapes_system
from netkit.daemon.call import Call, answer
from netkit.errors import NotFound, Unsupported
from netkit.runtime import detect

_SETTINGS = (
    "net.ipv4.ip_forward",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
)
_PING_HEADERS = {
    "Builder-Version": "1",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}


async def ping(call: Call) -> web.Response:
    """HEAD and GET /_ping."""
    return web.Response(text="OK", headers=_PING_HEADERS)


async def version(call: Call) -> web.Response:
    """GET /version."""
    return answer(shapes_system.version(_machine()))


async def info(call: Call) -> web.Response:
    """GET /info."""
    service = call.service
    counts = await asyncio.to_thread(_counts, call)
    images, host = len(service.images.all()), await call.run(service.host)
    return answer(shapes_system.info(_machine(), host, counts, images))


async def stream_events(call: Call) -> web.StreamResponse:
    """GET /events[?since=&until=&filters=]: a JSON object for each line."""
    filters, now = call.filters(events.FILTERS), time.time()
    since, until = _moment(call.text("since"), now), _moment(call.text("until"), now)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(call.request)
    async for event in call.service.events.subscribe(since, until, filters):
        await response.write(msgspec.json.encode(event.shape()) + b"\n")
    await response.write_eof()
    return response


async def disk_use(call: Call) -> web.Response:
    """GET /system/df: what is there; the size of a container's own files is not known."""
    images = await asyncio.to_thread(call.service.images.all)
    used = Counter(container.image_id for container in call.service.intent.containers.values())
    return answer(
        {
            "LayersSize": sum(image.size for image in images),
            "Images": [shapes_image.summary(image, image.names, used[image.id]) for image in images],
            "Containers": await asyncio.to_thread(lambda: list(routes_containers.rows(call, True, True))),
            "Volumes": [],
            "BuildCache": [],
        }
    )


async def no_plugins(call: Call) -> web.Response:
    """GET /plugins."""
    return answer([])


async def no_volumes(call: Call) -> web.Response:
    """GET /volumes."""
    return answer({"Volumes": [], "Warnings": None})


async def no_swarm(call: Call) -> web.Response:
    """Whatever is about swarm."""
    text = "This node is not a swarm manager. netkit joins hosts without swarm."
    return answer({"message": text}, 503)


async def not_yet(call: Call) -> web.Response:
    """What Docker has at this path and netkit has not."""
    raise Unsupported(
        f"{call.request.method} {call.request.path} is not supported by netkit",
        hint="netkit does containers and their networks",
    )


def _counts(call: Call) -> Counter[str]:
    """Containers by status."""
    counts: Counter[str] = Counter()
    for container in call.service.intent.containers.values():
        with contextlib.suppress(NotFound):
            counts[call.state(container).status] += 1
    return counts


def _moment(text: str, now: float) -> float | None:
    return clock.parse_moment(text, now) if text else None


def _machine() -> shapes_system.Machine:
    """The facts of this machine."""
    names = platform.uname()
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return shapes_system.Machine(
        name=names.node,
        kernel=names.release,
        machine=names.machine,
        system=_system(),
        processors=os.cpu_count() or 1,
        memory=pages * size,
        python=platform.python_version(),
        runtime=detect.tools().name,
        time=clock.stamp(time.time()),
        settings={name: _setting(name) for name in _SETTINGS},
    )


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _setting(name: str) -> bool:
    """Whether a kernel setting is on; one that is not there is off."""
    path = Path("/proc/sys", *name.split("."))
    try:
        return path.read_text().strip() == "1"
    except OSError:
        return False
