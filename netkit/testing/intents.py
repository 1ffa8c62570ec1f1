"""Random intents, all admitted and so valid, for property and packet tests of netkit and of backends.

The same dice give the same intent.

    intent = opened(dice, random_intent(dice, host), host)
"""

import contextlib
import random

from netaddr import IPAddress, IPNetwork

from netkit.core.admit import container, link, network, ports
from netkit.errors import NetkitError
from netkit.model.request import ContainerRequest, EndpointRequest, NetworkRequest
from netkit.model.spec import Host, Intent, Publish

PORTS = (80, 81, 5432)


def random_intent(dice: random.Random, host: Host) -> Intent:
    """Networks of all kinds, containers on one or two of them, links and published ports."""
    intent = Intent()
    for number in range(dice.randint(1, 3)):
        internal = dice.random() < 0.25
        request = NetworkRequest(
            name=f"n{number}",
            bridge=f"nb{number}",
            subnet=IPNetwork(f"10.{number + 1}.0.0/24"),
            icc=dice.random() < 0.5,
            internal=internal,
            masquerade=dice.random() < 0.8,
        )
        intent, _ = network.create(intent, request, host, new_id=f"{number}" * 64, now="t")
    nets = [net.name for net in intent.networks.values()]
    for number in range(dice.randint(3, 6)):
        wanted = dice.sample(nets, dice.randint(1, min(2, len(nets))))
        exposed = tuple((port, dice.choice(("tcp", "udp"))) for port in dice.sample(PORTS, 2))
        asked = ContainerRequest(
            image="i", image_id="i", lowers=("/i",), name=f"c{number}", command=("x",), exposed=exposed,
            endpoints=tuple(EndpointRequest(network=net) for net in wanted), mode=wanted[0],
        )  # fmt: skip
        name = f"c{number}"
        intent, _ = container.create(intent, asked, host, new_id=name * 32, now="t", random_name="r")
        intent, _ = container.start(intent, name, host)
    return intent


def opened(dice: random.Random, intent: Intent, host: Host) -> Intent:
    """Links and published ports, as far as they are admitted."""
    names = [each.name for each in intent.containers.values()]
    for number in range(dice.randint(1, 4)):
        with contextlib.suppress(NetkitError):
            intent, _ = link.add(intent, dice.choice(names), dice.choice(names), f"a{number}")
    for number in range(dice.randint(1, 4)):
        ip = dice.choice(("0.0.0.0", "0.0.0.0", "127.0.0.1", "198.51.100.1"))
        wish = Publish(
            port=dice.choice(PORTS),
            protocol=dice.choice(("tcp", "udp")),
            host_port=8080 + number,
            host_ip=IPAddress(ip),
        )
        with contextlib.suppress(NetkitError):
            intent, _ = ports.publish(intent, dice.choice(names), (wish,), host)
    return intent
