"""What Docker's API lacks, under `/netkit`: plan, reconcile, blame, bridges, links, publishing.

Names are CamelCase like Docker's. Every changing call takes `?dry_run=1`.
"""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from netkit.core import link as linking
from netkit.daemon import checks, shapes, shapes_network
from netkit.daemon.bodies import AliasBody, BridgeBody, InterfaceBody, LinkBody, PublishBody
from netkit.daemon.call import Call, answer, empty, told
from netkit.engine.explain import Question
from netkit.errors import NotFound, SpecError
from netkit.model.names import nearest
from netkit.model.spec import Container, Intent, Link, Network, Publish, parse_publish

_JOURNAL_DEFAULT, _JOURNAL_MAX = 50, 10_000


async def plan(call: Call) -> web.Response:
    """GET /netkit/plan."""
    return answer(shapes.operations(await call.run(call.service.plan)))


async def reconcile(call: Call) -> web.Response:
    """POST /netkit/reconcile."""
    return answer(shapes.operations((await call.change(call.service.reconcile)).operations))


async def teardown(call: Call) -> web.Response:
    """POST /netkit/teardown."""
    return answer(shapes.operations((await call.change(call.service.teardown)).operations))


async def blame(call: Call) -> web.Response:
    """GET /netkit/blame?what=."""
    what = call.text("what").strip()
    if not what:
        raise SpecError("nothing named", hint="?what= a rule, an address, a link, a port or a name")
    return answer([shapes.plain(row) for row in await call.run(call.service.blame, what)])


async def journal(call: Call) -> web.Response:
    """GET /netkit/journal?limit=."""
    limit = int(call.number("limit", _JOURNAL_DEFAULT))
    if not 0 < limit <= _JOURNAL_MAX:
        raise SpecError(f"invalid limit {limit}", hint=f"1 to {_JOURNAL_MAX}")
    return answer([shapes.plain(entry) for entry in await call.run(call.service.journal, limit)])


async def bridges(call: Call) -> web.Response:
    """GET /netkit/bridges."""
    intent = call.service.intent
    return answer([shapes_network.bridge(network, intent) for network in intent.networks.values()])


async def show_bridge(call: Call) -> web.Response:
    """GET /netkit/bridges/NAME."""
    return answer(shapes_network.bridge(_bridge(call), call.service.intent))


async def create_bridge(call: Call) -> web.Response:
    """POST /netkit/bridges."""
    request = shapes_network.bridge_request(await call.body(BridgeBody))
    shapes_network.refuse_predefined(request.name, "made")
    outcome = await call.change(call.service.create_network, request)
    if call.dry_run:
        return told(call, outcome, empty())
    return answer(shapes_network.bridge(outcome.subject, call.service.intent), 201)


async def remove_bridge(call: Call) -> web.Response:
    """DELETE /netkit/bridges/NAME."""
    return told(call, await call.change(call.service.remove_network, _bridge(call).id), empty())


async def attach(call: Call) -> web.Response:
    """POST /netkit/bridges/NAME/attach: put an interface of the host into a bridge."""
    interface = (await call.body(InterfaceBody)).interface
    network = _bridge(call)
    return told(call, await call.change(call.service.attach_interface, network.id, interface), empty())


async def detach(call: Call) -> web.Response:
    """POST /netkit/bridges/NAME/detach."""
    interface = (await call.body(InterfaceBody)).interface
    network = _bridge(call)
    return told(call, await call.change(call.service.detach_interface, network.id, interface), empty())


async def publish(call: Call) -> web.Response:
    """POST /netkit/containers/C/publish: open ports of a container, running or not."""
    body = await call.body(PublishBody)
    wanted = tuple(_publications(body.publish))
    outcome = await call.change(call.service.publish, call.ref, wanted)
    return told(call, outcome, _ports(outcome.subject))


async def unpublish(call: Call) -> web.Response:
    """POST /netkit/containers/C/unpublish."""
    names = tuple((await call.body(PublishBody)).publish)
    outcome = await call.change(call.service.unpublish, call.ref, names)
    return told(call, outcome, _ports(outcome.subject))


async def links(call: Call) -> web.Response:
    """GET /netkit/links."""
    intent = call.service.intent
    pairs = ((parent, link) for parent in intent.containers.values() for link in parent.links)
    return answer([_link(intent, parent, link) for parent, link in pairs])


async def add_link(call: Call) -> web.Response:
    """POST /netkit/links."""
    body = await call.body(LinkBody)
    alias = body.alias or call.service.container(body.target).name
    outcome = await call.change(call.service.add_link, body.parent, body.target, alias)
    if call.dry_run:
        return told(call, outcome, empty())
    parent: Container = outcome.subject
    return answer(_link(call.service.intent, parent, parent.links[-1]), 201)


async def remove_link(call: Call) -> web.Response:
    """DELETE /netkit/links?parent=&alias=."""
    parent, alias = call.text("parent"), call.text("alias")
    if not parent or not alias:
        raise SpecError("a link is named by its parent and alias", hint="?parent=web&alias=db")
    return told(call, await call.change(call.service.remove_link, parent, alias), empty())


async def aliases(call: Call) -> web.Response:
    """POST /netkit/networks/N/aliases."""
    body = await call.body(AliasBody)
    outcome = await call.change(
        call.service.aliases, call.ref, body.container, tuple(body.add), tuple(body.remove)
    )
    return told(call, outcome, empty())


async def explain(call: Call) -> web.Response:
    """GET /netkit/explain?source=&target=&protocol=&port=."""
    source, target = call.text("source").strip(), call.text("target").strip()
    if not source or not target:
        raise SpecError("source and target are wanted", hint="?source=web&target=db&port=5432")
    protocol, port = call.text("protocol"), int(call.number("port", 0))
    if protocol not in {"", "tcp", "udp", "icmp"} or not 0 <= port < 65536:
        raise SpecError(f"invalid protocol or port: {protocol} {port}", hint="tcp, udp or icmp; 1 to 65535")
    verdict = await call.run(call.service.explain, Question(source, target, protocol, port))
    return answer(
        {
            "Arrives": verdict.arrives,
            "Reason": verdict.reason,
            "Place": verdict.place,
            "Address": f"{verdict.dst}:{verdict.port}" if verdict.port else verdict.dst,
            "Steps": verdict.steps,
            "Doubts": verdict.doubts,
        }
    )


async def doctor(call: Call) -> web.Response:
    """GET /netkit/doctor."""
    return answer(await call.run(lambda: list(checks.findings(call.service))))


def _bridge(call: Call) -> Network:
    """The network of the bridge that the path names: by bridge, else as a network. NotFound."""
    networks = call.service.intent.networks.values()
    for network in networks:
        if network.bridge == call.ref:
            return network
    for network in networks:
        if call.ref in {network.name, network.id}:
            return network
    known = [network.bridge for network in networks]
    raise NotFound(f"no such bridge: {call.ref}", hint=nearest(call.ref, known))


def _publications(texts: Iterable[str]) -> Iterable[Publish]:
    for text in texts:
        yield from parse_publish(text)


def _ports(container: Container | None) -> web.Response:
    return answer({"Ports": shapes.ports(container) if container else {}})


def _link(intent: Intent, parent: Container, link: Link) -> dict[str, Any]:
    target = intent.containers.get(link.target)
    open_on = [net.name for net, _, _ in linking.openings(intent, parent, target)] if target else []
    return {
        "Parent": parent.name,
        "Target": target.name if target else link.target,
        "Alias": link.alias,
        "Ports": [f"{port}/{protocol}" for port, protocol in target.exposed] if target else [],
        "Networks": open_on,
        "Open": bool(open_on),
    }
