"""Intents for unit tests, built through admission so that they are valid."""

from netkit.core.admit import container, network
from netkit.model.request import ContainerRequest, EndpointRequest, NetworkRequest
from netkit.model.spec import Container, Host, Intent, Network, parse_publish, parse_subnet

HOST = Host(state_dir="/state", uplink_mtu=1500, port_range=(49153, 65535))


def with_network(intent: Intent, name: str, subnet: str = "", **fields: object) -> tuple[Intent, Network]:
    wanted = parse_subnet(subnet) if subnet else None
    request = NetworkRequest(name=name, bridge=name, subnet=wanted, **fields)
    return network.create(intent, request, HOST, new_id=(name * 64)[:64], now="2026-01-01T00:00:00Z")


def with_container(
    intent: Intent,
    name: str,
    *networks: str,
    publish: str = "",
    host: Host = HOST,
    wishes: tuple[EndpointRequest, ...] = (),
    **fields: object,
) -> tuple[Intent, Container]:
    request = ContainerRequest(
        image="box",
        image_id="sha256:box",
        lowers=("/images/box",),
        name=name,
        command=("sh",),
        endpoints=(*(EndpointRequest(network=net) for net in networks), *wishes),
        publish=parse_publish(publish) if publish else (),
        **fields,
    )
    new_id = (name * 64)[:64]
    return container.create(intent, request, host, new_id=new_id, now="2026-01-01T00:00:00Z", random_name="n")


def started(intent: Intent, *names: str, host: Host = HOST) -> Intent:
    for name in names:
        intent, _ = container.start(intent, name, host)
    return intent


def linked_pair(**fields: object) -> Intent:
    """db (exposing 5432) and web (publishing 8080:80, linked to db) on br0 with icc off."""
    intent, _ = with_network(Intent(), "br0", "192.168.100.1/24", icc=False)
    intent, _ = with_container(intent, "db", "br0", exposed=((5432, "tcp"),), env=("PASS=x", "HOME=/"))
    intent, _ = with_container(intent, "web", "br0", publish="8080:80", links=(("db", "database"),))
    return started(intent, "db", "web")
