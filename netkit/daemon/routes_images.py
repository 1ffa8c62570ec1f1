"""Images: list, inspect, import from a tar, remove.

A tar is streamed to a file before it is unpacked, so that its size is the disk's matter only.
"""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
from aiohttp import web

from netkit.daemon import shapes_image
from netkit.daemon.call import Call, answer
from netkit.errors import Conflict, SpecError, Unsupported

_FILTERS = frozenset({"reference", "dangling", "label", "before", "since", "until"})


async def index(call: Call) -> web.Response:
    """GET /images/json."""
    raise NotImplementedError


async def show(call: Call) -> web.Response:
    """GET /images/X/json."""
    raise NotImplementedError


async def create(call: Call) -> web.Response:
    """POST /images/create?fromSrc=-&repo=&tag=: the body is a tar of a root file system."""
    raise NotImplementedError


async def remove(call: Call) -> web.Response:
    """DELETE /images/X."""
    raise NotImplementedError
