"""One call to the API as its handler sees it: who asks, for what, with which parameters.

It parses what is in the address and the body; it does nothing.

    async def remove(call: Call) -> web.StreamResponse:
        await call.run(call.service.remove_network, call.ref, call.caller, call.dry_run)
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from netkit.daemon import body, shapes
from netkit.daemon.caller import identify
from netkit.errors import NotFound, SpecError
from netkit.model.names import nearest
from netkit.model.request import Caller

if TYPE_CHECKING:
    from netkit.daemon.execs import Execs
    from netkit.daemon.service import Service
    from netkit.engine.apply import Outcome
    from netkit.model.spec import Container
    from netkit.runtime.containers import State

SERVICE: "web.AppKey[Service]" = web.AppKey("service")
EXECS: "web.AppKey[Execs]" = web.AppKey("execs")
STATE_DIR: web.AppKey[str] = web.AppKey("state_dir")
_FALSE = ("", "0", "no", "false", "none")

Result = TypeVar("Result")
Kind = TypeVar("Kind", bound=body.Body)
Filters = Mapping[str, tuple[str, ...]]


class Call:
    """A request, its service and its parameters."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self.app = request.app
        self.service: Service = request.app[SERVICE]
        self.state_dir: str = request.app[STATE_DIR]
        self.caller: Caller = identify(request)

    @property
    def ref(self) -> str:
        """What the path names: a container, a network, an image, an exec."""
        return self.request.match_info["ref"].removeprefix("/")

    @property
    def version(self) -> tuple[int, int]:
        """The API version that the client speaks; the highest where the path names none."""
        text = self.request.match_info.get("version")
        if text is None:
            return (1, 50)
        major, _, minor = text.partition(".")
        return int(major), int(minor)

    @property
    def dry_run(self) -> bool:
        return self.flag("dry_run")

    def text(self, name: str, default: str = "") -> str:
        return self.request.query.get(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """A switch in the query, as Docker reads them."""
        text = self.request.query.get(name)
        return default if text is None else text.strip().lower() not in _FALSE

    def number(self, name: str, default: float) -> float:
        """A number in the query. Raises SpecError."""
        text = self.request.query.get(name, "")
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise SpecError(f"invalid {name} {text!r}", hint="a number")
        return value

    def filters(self, known: frozenset[str]) -> Filters:
        """`filters=` as name → values; takes {"a": ["x"]} and {"a": {"x": true}}. Raises SpecError."""
        text = self.request.query.get("filters", "")
        try:
            raw = msgspec.json.decode(text, type=dict[str, dict[str, bool] | list[str]]) if text else {}
        except msgspec.DecodeError as err:
            raise SpecError(f"invalid filters {text!r}", hint='write them as {"name": ["x"]}') from err
        for name in raw:
            if name not in known:
                raise SpecError(f"invalid filter {name!r}", hint=nearest(name, known))
        return {name: tuple(_values(values)) for name, values in raw.items()}

    def state(self, container: "Container") -> "State":
        """What a container does now. Raises NotFound where it has just been removed. Any thread."""
        try:
            return self.service.state(container.id)
        except KeyError as err:
            raise NotFound(f"no such container: {container.name}", hint="it has just been removed") from err

    async def body(self, kind: type[Kind]) -> Kind:
        """The JSON body, typed. Raises SpecError, Unsupported."""
        return body.decode(kind, await self.request.read())

    async def raw_body(self) -> dict[str, Any]:
        """The JSON body as it came. Raises SpecError."""
        return body.parse(await self.request.read())

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run a synchronous method of the service on the engine's thread."""
        return await self.service.call(function, *args)

    async def change(self, function: "Callable[..., Outcome]", *args: Any) -> "Outcome":
        """Run a verb of the service, with the caller and dry_run as its last arguments."""
        return await self.service.call(function, *args, self.caller, self.dry_run)


def _values(values: dict[str, bool] | list[str]) -> list[str]:
    return [name for name, on in values.items() if on] if isinstance(values, dict) else values


def answer(value: Any, status: int = 200) -> web.Response:
    """A JSON answer."""
    data = msgspec.json.encode(value) + b"\n"
    return web.Response(body=data, status=status, content_type="application/json")


def empty(status: int = 204) -> web.Response:
    """An answer without a body."""
    return web.Response(status=status)


def told(call: Call, outcome: "Outcome", otherwise: web.Response) -> web.Response:
    """The operations of a dry run, else the answer of the verb itself."""
    return answer(shapes.operations(outcome.operations)) if call.dry_run else otherwise


def passes_labels(labels: Mapping[str, str], wanted: tuple[str, ...]) -> bool:
    """Whether all of `name` and `name=value` hold."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True
