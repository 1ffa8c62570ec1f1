"""The table of routes: method, path, handler, and whether the answer is a stream.

Each path is served with and without a version in front (`/v1.50/…`). A stream ends with its
client; any other call, once begun, is carried out.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

from aiohttp import web

from netkit.daemon import (
    routes_containers,
    routes_exec,
    routes_images,
    routes_netkit,
    routes_networks,
    routes_streams,
    routes_system,
)
from netkit.daemon.call import Call
from netkit.daemon.middleware import STREAMS

_C, _N, _B = "/containers/{ref}", "/networks/{ref}", "/netkit/bridges/{ref}"
_IMAGE = "/images/{ref:.+}"


class Route(NamedTuple):
    method: str
    path: str
    handler: Callable[[Call], Awaitable[web.StreamResponse]]
    stream: bool = False


CONTAINERS = (
    Route("GET", "/containers/json", routes_containers.index),
    Route("POST", "/containers/create", routes_containers.create),
    Route("POST", "/containers/prune", routes_containers.prune),
    Route("GET", f"{_C}/json", routes_containers.show),
    Route("GET", f"{_C}/top", routes_streams.top),
    Route("GET", f"{_C}/logs", routes_streams.logs, stream=True),
    Route("POST", f"{_C}/attach", routes_streams.attach, stream=True),
    Route("POST", f"{_C}/resize", routes_streams.resize),
    Route("POST", f"{_C}/start", routes_containers.start),
    Route("POST", f"{_C}/stop", routes_containers.stop),
    Route("POST", f"{_C}/restart", routes_containers.restart),
    Route("POST", f"{_C}/kill", routes_containers.kill),
    Route("POST", f"{_C}/rename", routes_containers.rename),
    Route("POST", f"{_C}/update", routes_containers.update),
    Route("POST", f"{_C}/wait", routes_containers.wait, stream=True),
    Route("POST", f"{_C}/exec", routes_exec.create),
    Route("POST", "/exec/{ref}/start", routes_exec.start, stream=True),
    Route("POST", "/exec/{ref}/resize", routes_exec.resize),
    Route("GET", "/exec/{ref}/json", routes_exec.show),
    Route("DELETE", "/containers/{ref:.+}", routes_containers.remove),
)

IMAGES = (
    Route("GET", "/images/json", routes_images.index),
    Route("POST", "/images/create", routes_images.create),
    Route("GET", f"{_IMAGE}/json", routes_images.show),
    Route("POST", f"{_IMAGE}/tag", routes_images.tag),
    Route("DELETE", _IMAGE, routes_images.remove),
)

NETWORKS = (
    Route("GET", "/networks", routes_networks.index),
    Route("POST", "/networks/create", routes_networks.create),
    Route("POST", "/networks/prune", routes_networks.prune),
    Route("GET", _N, routes_networks.show),
    Route("DELETE", _N, routes_networks.remove),
    Route("POST", f"{_N}/connect", routes_networks.connect),
    Route("POST", f"{_N}/disconnect", routes_networks.disconnect),
)

OWN = (
    Route("GET", "/netkit/plan", routes_netkit.plan),
    Route("POST", "/netkit/reconcile", routes_netkit.reconcile),
    Route("POST", "/netkit/teardown", routes_netkit.teardown),
    Route("GET", "/netkit/blame", routes_netkit.blame),
    Route("GET", "/netkit/journal", routes_netkit.journal),
    Route("GET", "/netkit/bridges", routes_netkit.bridges),
    Route("POST", "/netkit/bridges", routes_netkit.create_bridge),
    Route("GET", _B, routes_netkit.show_bridge),
    Route("DELETE", _B, routes_netkit.remove_bridge),
    Route("POST", f"{_B}/attach", routes_netkit.attach),
    Route("POST", f"{_B}/detach", routes_netkit.detach),
    Route("POST", "/netkit/containers/{ref}/publish", routes_netkit.publish),
    Route("POST", "/netkit/containers/{ref}/unpublish", routes_netkit.unpublish),
    Route("GET", "/netkit/links", routes_netkit.links),
    Route("POST", "/netkit/links", routes_netkit.add_link),
    Route("DELETE", "/netkit/links", routes_netkit.remove_link),
    Route("POST", "/netkit/networks/{ref}/aliases", routes_netkit.aliases),
    Route("GET", "/netkit/explain", routes_netkit.explain),
    Route("GET", "/netkit/doctor", routes_netkit.doctor),
)

SYSTEM = (
    Route("GET", "/_ping", routes_system.ping),
    Route("HEAD", "/_ping", routes_system.ping),
    Route("GET", "/version", routes_system.version),
    Route("GET", "/info", routes_system.info),
    Route("GET", "/events", routes_system.stream_events, stream=True),
    Route("GET", "/system/df", routes_system.disk_use),
    Route("GET", "/plugins", routes_system.no_plugins),
    Route("GET", "/volumes", routes_system.no_volumes),
)

NOT_YET = tuple(
    Route(method, path, routes_system.not_yet)
    for method, path in (
        ("POST", "/auth"),
        ("POST", "/build"),
        ("POST", "/build/prune"),
        ("POST", "/commit"),
        ("POST", "/session"),
        ("GET", f"{_C}/changes"),
        ("GET", f"{_C}/export"),
        ("GET", f"{_C}/stats"),
        ("GET", f"{_C}/attach/ws"),
        ("HEAD", f"{_C}/archive"),
        ("GET", f"{_C}/archive"),
        ("PUT", f"{_C}/archive"),
        ("POST", f"{_C}/pause"),
        ("POST", f"{_C}/unpause"),
        ("GET", "/images/search"),
        ("GET", "/images/get"),
        ("POST", "/images/load"),
        ("POST", "/images/prune"),
        ("GET", f"{_IMAGE}/history"),
        ("GET", f"{_IMAGE}/get"),
        ("POST", f"{_IMAGE}/push"),
        ("GET", "/distribution/{ref:.+}/json"),
        ("POST", "/volumes/create"),
        ("POST", "/volumes/prune"),
    )
)

_SWARM = ("swarm", "nodes", "services", "tasks", "secrets", "configs")


def table() -> Iterator[Route]:
    """Every route, the more particular path before the more general."""
    yield from (*SYSTEM, *NOT_YET, *CONTAINERS, *IMAGES, *NETWORKS, *OWN)
    for noun in _SWARM:
        for method in ("GET", "POST", "DELETE"):
            yield Route(method, f"/{noun}", routes_system.no_swarm)
            yield Route(method, f"/{noun}/{{ref:.*}}", routes_system.no_swarm)


def add(app: web.Application) -> None:
    """Put every route into an application, with and without a version in front."""
    for route in table():
        handler = _handler(route)
        for prefix in ("", r"/v{version:\d+\.\d+}"):
            app.router.add_route(route.method, prefix + route.path, handler)


def _handler(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await route.handler(Call(request))

    setattr(handle, STREAMS, route.stream)
    return handle
