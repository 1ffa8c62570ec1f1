"""What every call passes through: version, errors, headers, and the log.

Errors leave as `{"message": …, "error": …, "hint": …, "kind": …}` with the status of their class;
`message` is what Docker's clients show, so it has the hint in it. A stream that has begun cannot
change its status any more: what then goes wrong is logged.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable, MutableSet
from typing import Any

import msgspec
from aiohttp import web

from netkit import __version__
from netkit.daemon.caller import VERSION_PREFIX
from netkit.errors import ApplyError, NetkitError, SpecError, VerifyError

API_VERSION = (1, 50)
MIN_API_VERSION = (1, 24)
STREAMS = "netkit.stream"
_FULL = (errno.ENOSPC, errno.EDQUOT)
RUNNING: web.AppKey[MutableSet[asyncio.Task[Any]]] = web.AppKey("running")
log = logging.getLogger("netkit.daemon.access")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def spell(version: tuple[int, int]) -> str:
    """(1, 50) as clients write it."""
    return f"{version[0]}.{version[1]}"


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with the error's status and body, whatever was raised."""
    try:
        return await handler(request)
    except NetkitError as err:
        return failure(err.status, describe(err))
    except web.HTTPRequestEntityTooLarge as err:
        return failure(413, describe(SpecError("the request body is too large", hint=str(err.text))))
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        return failure(404, {"message": "page not found"})
    except web.HTTPException:
        raise
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as err:
        if isinstance(err, OSError) and err.errno in _FULL:
            return failure(500, describe(_full(err)))
        log.exception("%s %s: internal error", request.method, request.path)
        return failure(500, describe(NetkitError(f"internal error: {type(err).__name__}: {err}")))


@web.middleware
async def versions(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a version that we do not speak, in Docker's words."""
    if found := VERSION_PREFIX.match(request.path):
        version = (int(found[1]), int(found[2]))
        if version > API_VERSION:
            raise SpecError(
                f"client version {spell(version)} is too new. "
                f"Maximum supported API version is {spell(API_VERSION)}"
            )
        if version < MIN_API_VERSION:
            raise SpecError(
                f"client version {spell(version)} is too old. Minimum supported API version is "
                f"{spell(MIN_API_VERSION)}, please upgrade your client to a newer version"
            )
    return await handler(request)


@web.middleware
async def logged(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line for each call, at debug."""
    began = time.monotonic()
    response = await handler(request)
    took_ms = (time.monotonic() - began) * 1000
    log.debug("%s %s -> %d in %.1f ms", request.method, request.path_qs, response.status, took_ms)
    return response


@web.middleware
async def finished(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A verb once begun goes on when its client goes away; a stream ends with its client."""
    if getattr(request.match_info.handler, STREAMS, False):
        return await _streamed(request, handler)
    return await asyncio.shield(asyncio.ensure_future(handler(request)))


async def _streamed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep a stream's task where `end_streams` finds it."""
    task = asyncio.current_task()
    running = request.app[RUNNING]
    if task is None:
        return await handler(request)
    running.add(task)
    try:
        return await handler(request)
    finally:
        running.discard(task)


async def end_streams(app: web.Application) -> None:
    """on_shutdown: streams would go on for ever; verbs are waited for."""
    running = app[RUNNING]
    for task in list(running):
        task.cancel()


async def headers(request: web.Request, response: web.StreamResponse) -> None:
    """on_response_prepare: what every answer of the API carries."""
    response.headers.update(standing_headers())


def standing_headers() -> dict[str, str]:
    """The headers that are the same for every answer."""
    return {
        "Api-Version": spell(API_VERSION),
        "Docker-Experimental": "false",
        "Ostype": "linux",
        "Server": f"netkit/{__version__} (linux)",
    }


def _full(err: OSError) -> ApplyError:
    where = f": {err.filename} could not be written" if err.filename else ""
    return ApplyError(f"the disk is full{where}", hint="make room and say it again")


def describe(err: NetkitError) -> dict[str, Any]:
    """The JSON body of an error."""
    body: dict[str, Any] = {
        "message": str(err),
        "error": err.message,
        "hint": err.hint,
        "kind": type(err).__name__,
    }
    if isinstance(err, ApplyError):
        body |= {"operation": err.operation, "undone": err.undone, "left": err.left}
    if isinstance(err, VerifyError):
        body["diff"] = err.diff
    if code := getattr(err, "container_exit_code", 0):
        body["exit_code"] = code  # what `run` is to exit with
    return body


def failure(status: int, body: dict[str, Any]) -> web.Response:
    """An error as an answer."""
    data = msgspec.json.encode(body) + b"\n"
    return web.Response(body=data, status=status, content_type="application/json")
