"""Who asks, and in which words: kept for blame.

On a unix socket the kernel says whose process is at the other end; a tcp client is named by its
address. The words are the command line that the client tells of, else method and path.

    >>> identify(request)
    Caller(user='root', verb='network connect br0 web')
"""

import pwd
import re
import socket
import struct

from aiohttp import web

from netkit.model.request import Caller

VERB_HEADER = "X-Netkit-Verb"
VERSION_PREFIX = re.compile(r"/v(\d+)\.(\d+)(?=/|$)")
_CREDENTIALS = struct.Struct("3i")
_VERB_MAX = 400  # characters of a command line that are kept


def identify(request: web.Request) -> Caller:
    """The caller of a request."""
    verb = request.headers.get(VERB_HEADER, "").strip()
    return Caller(user=_user(request), verb=(verb or _path(request))[:_VERB_MAX])


def _path(request: web.Request) -> str:
    return f"{request.method} {VERSION_PREFIX.sub('', request.path, count=1)}"


def _user(request: web.Request) -> str:
    """The login name of the process at the other end of a unix socket, else its address."""
    sock = request.transport.get_extra_info("socket") if request.transport else None
    if sock is None or sock.family != socket.AF_UNIX:
        return f"tcp:{request.remote or '?'}"
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
