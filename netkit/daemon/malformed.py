"""Answers to what is no HTTP, or too much of it: JSON like every other error, and a line in the log.

The web framework would answer in plain text, and log where in its parser it found out.

    runner = Runner(app, handler_cancellation=True)
"""

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from netkit.daemon.middleware import describe, failure
from netkit.errors import NetkitError, SpecError

LINE_MAX = 1 << 20  # bytes of a header or of the request line: as much as a daemon in Go takes
_SHOWN_MAX = 200
log = logging.getLogger(__name__)


class Runner(web.AppRunner):
    """An application's runner whose connections answer so."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        limits = {"max_line_size": LINE_MAX, "max_field_size": LINE_MAX}
        return _Server(made.request_handler, made.request_factory, {**self._kwargs, **limits})


class _Server(web.Server):
    def __init__(self, handler: Any, request_factory: Any, settings: dict[str, Any]) -> None:
        super().__init__(handler, request_factory=request_factory, **settings)
        self._settings = {key: value for key, value in settings.items() if key != "handler_cancellation"}

    def __call__(self) -> RequestHandler:
        return _Handler(self, loop=asyncio.get_running_loop(), **self._settings)


class _Handler(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that did not come as far as the application."""
        if status >= 500:
            log.error("a request failed outside of the application", exc_info=exc)
            error = NetkitError("internal error", hint="see the daemon's log")
        else:
            said = " ".join((message or str(exc)).split())[:_SHOWN_MAX]
            log.info("malformed request: %s", said)
            error = SpecError(f"malformed HTTP request: {said}", hint=f"lines have at most {LINE_MAX} bytes")
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: it cannot become an error any more")
        response = failure(status, describe(error))
        response.force_close()
        return response
