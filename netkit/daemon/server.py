"""The HTTP server: the application, and the sockets it listens on.

A unix socket is root's and its group's (0660); the file of a daemon that has died is replaced,
one on which somebody answers is not touched. A tcp socket asks nobody who they are: bind it to
an address that only friends can reach.

    runner = await serve(application(service, state_dir), [unix_socket(Path("/run/netkit.sock"))])
"""

import contextlib
import logging
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from netkit.daemon import middleware, routes
from netkit.daemon.call import EXECS, SERVICE, STATE_DIR
from netkit.daemon.execs import Execs
from netkit.daemon.malformed import Runner
from netkit.errors import Conflict, SpecError

if TYPE_CHECKING:
    from netkit.daemon.service import Service

BODY_MAX = 1 << 20  # bytes of a JSON body; a tar is streamed and has no limit
_BACKLOG = 128
_SOCKET_MODE = 0o660
_PATH_MAX = 107  # sizeof(sun_path) - 1
_SHUTDOWN_S = 2.0
log = logging.getLogger(__name__)


def application(service: "Service", state_dir: str) -> web.Application:
    """All routes, on one service and its state folder."""
    layers = (
        middleware.finished,
        middleware.logged,
        middleware.errors,
        middleware.versions,
    )
    app = web.Application(middlewares=layers, client_max_size=BODY_MAX)
    app[SERVICE] = service
    app[STATE_DIR] = state_dir
    app[EXECS] = Execs(service)
    app[middleware.RUNNING] = set()
    app.on_shutdown.append(middleware.end_streams)
    app.on_response_prepare.append(middleware.headers)
    routes.add(app)
    return app


async def serve(app: web.Application, sockets: Iterable[socket.socket]) -> web.AppRunner:
    """Answer on these sockets until `runner.cleanup()`; streams end when their client goes away."""
    runner = Runner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    for sock in sockets:
        await web.SockSite(runner, sock, backlog=_BACKLOG).start()
    return runner


def listen(address: str) -> socket.socket:
    """A listening socket for `unix:///path` or `tcp://host:port`. Raises SpecError, Conflict."""
    scheme, _, rest = address.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return unix_socket(Path(rest))
    if scheme == "tcp" and rest:
        return tcp_socket(rest)
    raise SpecError(f"invalid address {address!r}", hint="unix:///run/netkit.sock or tcp://127.0.0.1:2375")


def unix_socket(path: Path) -> socket.socket:
    """Listen on a path. Raises Conflict where somebody does already, SpecError where one cannot."""
    if len(os.fsencode(path)) > _PATH_MAX:
        raise SpecError(f"socket path {path} is too long", hint=f"at most {_PATH_MAX} bytes")
    _clear(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = os.umask(0o777 & ~_SOCKET_MODE)  # so that it is never open to all, not for a moment
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
    except OSError as err:
        sock.close()
        raise SpecError(f"cannot listen on {path}: {err.strerror}", hint="choose another path") from err
    return sock


def tcp_socket(text: str) -> socket.socket:
    """Listen on `host:port`, `[::1]:port` or `:port`. Raises SpecError, Conflict."""
    host, _, port = text.rstrip("/").rpartition(":")
    host = host.strip("[]")
    if not port.isdigit() or int(port) > 65535:
        raise SpecError(f"invalid address tcp://{text}", hint="tcp://127.0.0.1:2375")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host or "127.0.0.1", int(port)), family=family, backlog=_BACKLOG)
    except OSError as err:
        raise Conflict(f"cannot listen on tcp://{text}: {err.strerror}", hint="choose another port") from err


def remove(names: Iterable[str]) -> None:
    """Take socket files away, so that clients see at once that nobody is there."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _clear(path: Path) -> None:
    """Make way: a socket file that nobody serves goes; anything else stays and is told."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"{path} exists and is not a socket", hint="choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            log.info("replaced the socket %s that a daemon had left", path)
            return
        except OSError:
            pass  # somebody is there, if only too busy to answer
    raise Conflict(f"a daemon listens on {path} already", hint="stop it, or choose another socket with -H")
