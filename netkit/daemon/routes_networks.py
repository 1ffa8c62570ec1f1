"""Networks: list, inspect, create, connect, disconnect, remove, prune, in Docker's words.

Handlers only translate: the verbs are the service's. `host` and `none` are listed and can be
inspected; whatever would change them is refused.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from netkit.core.admit import find
from netkit.daemon import clock, shapes_create, shapes_network
from netkit.daemon.bodies import ConnectBody, DisconnectBody, NetworkBody
from netkit.daemon.call import Call, Filters, answer, empty, passes_labels, told
from netkit.errors import NetkitError
from netkit.model.spec import Network

_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_PRUNE_FILTERS = frozenset({"label", "label!", "until"})


async def index(call: Call) -> web.Response:
    """GET /networks."""
    filters, intent = call.filters(_FILTERS), call.service.intent
    used = {net_id for c in intent.containers.values() if c.running for net_id in c.endpoints}
    rows = [shapes_network.summary(network) for network in intent.networks.values()]
    rows += [shapes_network.predefined(name, clock.NEVER) for name in shapes_network.PREDEFINED]
    return answer([row for row in rows if _passes(row, filters, row["Id"] in used)])


async def show(call: Call) -> web.Response:
    """GET /networks/X."""
    try:
        network = call.service.network(call.ref)
    except NetkitError:
        if name := shapes_network.find_predefined(call.ref):
            return answer(shapes_network.predefined(name, clock.NEVER))
        raise
    return answer(shapes_network.inspect(network, call.service.intent))


async def create(call: Call) -> web.Response:
    """POST /networks/create."""
    request = shapes_network.request(await call.body(NetworkBody))
    shapes_network.refuse_predefined(request.name, "made")
    outcome = await call.change(call.service.create_network, request)
    if call.dry_run:
        return told(call, outcome, empty())
    return answer({"Id": outcome.subject.id, "Warning": ""}, 201)


async def remove(call: Call) -> web.Response:
    """DELETE /networks/X."""
    shapes_network.refuse_predefined(call.ref, "removed")
    return told(call, await call.change(call.service.remove_network, call.ref), empty())


async def connect(call: Call) -> web.Response:
    """POST /networks/X/connect."""
    shapes_network.refuse_predefined(call.ref, "joined")
    body = await call.body(ConnectBody)
    wish = shapes_create.endpoint(call.ref, body.endpoint_config)
    outcome = await call.change(call.service.connect, call.ref, body.container, wish)
    return told(call, outcome, empty(200))


async def disconnect(call: Call) -> web.Response:
    """POST /networks/X/disconnect."""
    shapes_network.refuse_predefined(call.ref, "left")
    body = await call.body(DisconnectBody)
    outcome = await call.change(call.service.disconnect, call.ref, body.container, body.force)
    return told(call, outcome, empty(200))


async def prune(call: Call) -> web.Response:
    """POST /networks/prune."""
    keep = _spared(call.filters(_PRUNE_FILTERS))
    outcome = await call.change(call.service.prune_networks, keep)
    return told(call, outcome, answer({"NetworksDeleted": outcome.subject}))


def _passes(row: Mapping[str, Any], filters: Filters, used: bool) -> bool:
    return all(_holds(row, name, values, used) for name, values in filters.items())


def _holds(row: Mapping[str, Any], name: str, values: tuple[str, ...], used: bool) -> bool:
    builtin = row["Name"] in {"bridge", *shapes_network.PREDEFINED}
    match name:
        case "label":
            return passes_labels(row["Labels"], values)
        case "dangling":
            idle = not used and not builtin
            return any((value.lower() in {"1", "true"}) == idle for value in values)
        case "type":
            return ("builtin" if builtin else "custom") in values
        case "driver":
            return row["Driver"] in values
        case "scope":
            return row["Scope"] in values
        case "id":
            return any(row["Id"].startswith(value) for value in values)
        case _:
            return any(value in row["Name"] for value in values)


def _spared(filters: Filters) -> Callable[[Network], bool]:
    """Whether prune spares a network: too young, without a wanted label, or with an unwanted one."""
    now = time.time()
    before = min((clock.parse_moment(text, now) for text in filters.get("until", ())), default=now + 1)
    wanted, unwanted = filters.get("label", ()), filters.get("label!", ())

    def spared(network: Network) -> bool:
        young = clock.seconds(network.created) > before
        labelled = passes_labels(network.labels, wanted)
        return young or not labelled or any(passes_labels(network.labels, (text,)) for text in unwanted)

    return spared


def network_id(call: Call, ref: str) -> str:
    """The id of a network, for filters; the word itself where there is none."""
    try:
        return find.network(call.service.intent, ref).id
    except NetkitError:
        return ref
