"""Exec: make it, start it, size its terminal, look at it.

An exec is known by its id from its making until its container is gone.
"""


from aiohttp import web

from netkit.daemon.call import Call


async def create(call: Call) -> web.Response:
    """POST /containers/X/exec."""
    raise NotImplementedError


async def start(call: Call) -> web.StreamResponse:
    """POST /exec/E/start: a hijacked stream, or with Detach an empty answer at once."""
    raise NotImplementedError


async def resize(call: Call) -> web.Response:
    """POST /exec/E/resize?h=&w=."""
    raise NotImplementedError


async def show(call: Call) -> web.Response:
    """GET /exec/E/json."""
    raise NotImplementedError
