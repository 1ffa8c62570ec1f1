"""Containers: list, create, inspect, the verbs of their life, wait and prune.

Handlers only translate. What streams (attach, logs) is in `routes_streams`.
"""

import asyncio
import contextlib
import signal as signals
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from aiohttp import web

from netkit.daemon import clock, feasible, listing, shapes, shapes_create
from netkit.daemon.bodies import CreateBody, UpdateBody
from netkit.daemon.body import convert
from netkit.daemon.call import EXECS, Call, answer, empty, passes_labels, told
from netkit.daemon.routes_images import plain_name
from netkit.daemon.signals import signal_number
from netkit.errors import Conflict, NotFound, SpecError, Unsupported
from netkit.runtime import users

_CONDITIONS = ("", "not-running", "next-exit", "removed")


async def index(call: Call) -> web.Response:
    """GET /containers/json: newest first."""
    filters, limit = call.filters(listing.FILTERS), int(call.number("limit", 0))
    listing.check(filters)
    everything = call.flag("all") or limit > 0 or listing.wants_stopped(filters)
    # States are read from files: not on the event loop, there may be a thousand containers.
    every = await asyncio.to_thread(lambda: list(rows(call, everything, call.flag("size"))))
    shown = [row for row in every if _shown(call, row, filters)]
    for row in shown:
        row.pop("ExitCode")
    return answer(shown[:limit] if limit > 0 else shown)


async def create(call: Call) -> web.Response:
    """POST /containers/create?name=. With dry_run=1&start=1 the plan is that of its start as well."""
    raw = await call.raw_body()
    body = convert(CreateBody, raw)
    platform = call.text("platform")
    if platform and not platform.startswith("linux"):
        raise Unsupported(f"platform {platform} is not supported", hint="containers are Linux here")
    if not body.image:
        raise SpecError("no image named", hint="netkit images lists those that are there")
    image = await asyncio.to_thread(call.service.images.get, plain_name(body.image))
    request = shapes_create.container(body, image, raw, call.text("name"))
    await asyncio.to_thread(feasible.check, request)
    who = await asyncio.to_thread(users.resolve, image.lowers, request.user or "0")
    request = msgspec.structs.replace(request, uid=who.uid, gid=who.gid, groups=who.groups, home=who.home)
    with _missing_beside_the_image():
        if call.dry_run and call.flag("start"):
            return told(call, await call.run(call.service.plan_run, request, call.caller), empty())
        outcome = await call.change(call.service.create_container, request)
    if call.dry_run:
        return told(call, outcome, empty())
    return answer({"Id": outcome.subject.id, "Warnings": []}, 201)


async def show(call: Call) -> web.Response:
    """GET /containers/X/json."""
    service = call.service
    container, intent = service.container(call.ref), service.intent
    state = await asyncio.to_thread(call.state, container)
    body = shapes.inspect(container, intent, state, call.state_dir)
    body["ExecIDs"] = call.app[EXECS].of(container.id) or None
    if call.flag("size"):
        body |= {"SizeRw": 0, "SizeRootFs": 0}
    return answer(body)


async def start(call: Call) -> web.Response:
    """POST /containers/X/start: 304 where it runs already."""
    outcome = await call.change(call.service.start, call.ref)
    return told(call, outcome, empty(204 if outcome.subject else 304))


async def stop(call: Call) -> web.Response:
    """POST /containers/X/stop[?t=&signal=]: 304 where it does not run."""
    if call.dry_run:
        return told(call, await call.run(call.service.plan_stop, call.ref, call.caller), empty())
    stopped = await call.service.stop(call.ref, _grace(call), call.text("signal"), call.caller)
    return empty(204 if stopped else 304)


async def restart(call: Call) -> web.Response:
    """POST /containers/X/restart[?t=&signal=]."""
    if call.dry_run:
        return told(call, await call.run(call.service.plan_restart, call.ref, call.caller), empty())
    await call.service.restart(call.ref, _grace(call), call.text("signal"), call.caller)
    return empty()


async def kill(call: Call) -> web.Response:
    """POST /containers/X/kill[?signal=]."""
    if call.dry_run:
        _check_told_in_advance(call)
        return told(call, await call.run(call.service.plan_stop, call.ref, call.caller), empty())
    await call.service.kill(call.ref, call.text("signal"), call.caller)
    return empty()


async def rename(call: Call) -> web.Response:
    """POST /containers/X/rename?name=."""
    name = call.text("name")
    if not name:
        raise SpecError("neither old nor new names may be empty", hint="?name=NEW")
    return told(call, await call.change(call.service.rename, call.ref, name), empty())


async def update(call: Call) -> web.Response:
    """POST /containers/X/update: nothing of a container can be updated yet but networks and ports."""
    body = await call.body(UpdateBody)
    container = call.service.container(call.ref)
    wanted = body.restart_policy
    if wanted.name and (wanted.name, wanted.maximum_retry_count) != (
        container.restart.policy,
        container.restart.attempts,
    ):
        raise Unsupported("the restart policy of a container cannot be changed", hint="create it anew")
    return answer({"Warnings": []})


async def remove(call: Call) -> web.Response:
    """DELETE /containers/X[?force=1]; with link=1 the path names a link, /parent/alias."""
    if call.flag("link"):
        parent, _, alias = call.ref.rpartition("/")
        if not parent:
            raise SpecError(f"invalid link {call.ref!r}", hint="name it as PARENT/ALIAS")
        return told(call, await call.change(call.service.remove_link, parent, alias), empty())
    outcome = await call.change(call.service.remove_container, call.ref, call.flag("force"))
    return told(call, outcome, empty())


async def prune(call: Call) -> web.Response:
    """POST /containers/prune: all that do not run."""
    filters, now = call.filters(listing.PRUNE_FILTERS), time.time()
    before = min((clock.parse_moment(text, now) for text in filters.get("until", ())), default=now + 1)
    unwanted = filters.get("label!", ())
    doomed = [
        container
        for container in call.service.intent.containers.values()
        if not container.running
        and clock.seconds(container.created) < before
        and passes_labels(container.labels, filters.get("label", ()))
        and not any(passes_labels(container.labels, (text,)) for text in unwanted)
    ]
    outcomes = [await call.change(call.service.remove_container, item.id, False) for item in doomed]
    if call.dry_run:
        return answer(shapes.operations(op for outcome in outcomes for op in outcome.operations))
    return answer({"ContainersDeleted": [item.id for item in doomed], "SpaceReclaimed": 0})


async def wait(call: Call) -> web.StreamResponse:
    """POST /containers/X/wait: the head at once, the exit code when there is one."""
    condition = call.text("condition")
    if condition not in _CONDITIONS:
        raise SpecError(f"invalid condition {condition!r}", hint="not-running, next-exit or removed")
    exit_code = call.service.wait(call.ref, condition)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(call.request)
    body = msgspec.json.encode({"StatusCode": await exit_code}) + b"\n"
    await response.write(body)
    await response.write_eof()
    return response


@contextlib.contextmanager
def _missing_beside_the_image() -> Iterator[None]:
    """400 for a network or a link's target that is missing: any 404 has Docker's client pull the image."""
    try:
        yield
    except NotFound as err:
        err.status = SpecError.status
        raise


def rows(call: Call, everything: bool, sized: bool) -> Iterator[dict[str, Any]]:
    """The items of a list, newest first, each with its ExitCode, which filters want."""
    intent, now = call.service.intent, time.time()
    for container in sorted(intent.containers.values(), key=lambda item: item.created, reverse=True):
        with contextlib.suppress(NotFound):
            state = call.state(container)
            if not (everything or container.running or state.status == "restarting"):
                continue
            row = shapes.summary(container, intent, state, now) | {"ExitCode": state.exit_code}
            yield row | {"SizeRw": 0, "SizeRootFs": 0} if sized else row


def _shown(call: Call, row: dict[str, Any], filters: dict[str, tuple[str, ...]] | Any) -> bool:
    return listing.passes(row, row["ExitCode"], filters, call.service.intent)


def _grace(call: Call) -> float | None:
    """`t=` in seconds; None where the container's own is to hold, negative for no end."""
    return call.number("t", 0.0) if "t" in call.request.query else None


def _check_told_in_advance(call: Call) -> None:
    """What a running container makes of a signal is known of SIGKILL only. Raises Unsupported, Conflict."""
    if not call.service.container(call.ref).running:
        raise Conflict(f"container {call.ref} is not running", hint="start it first")
    if signal_number(call.text("signal") or "SIGKILL") != signals.SIGKILL:
        raise Unsupported("what a signal brings about cannot be told in advance", hint="leave --dry-run out")
