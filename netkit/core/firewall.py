"""The firewall's layout: a fixed skeleton of chains and sets, and what one network or port adds to it.

Who is on which network, which link is open and which port is published are set members, so the
number of rules does not grow with containers or links. A network adds one rule to NETKIT-ISOLATE
and two to NETKIT-MASQ, a published port one to NETKIT-PUBLISH.

    FORWARD ─▶ NETKIT-USER      the user's, never touched
            ─▶ NETKIT-FORWARD   answers · published · linked · NETKIT-ISOLATE (within a network)
                                · nothing between networks · nothing in or out of internal ones
                                · out: yes · in: no
    raw PREROUTING              nothing from a bridge reaches the host's loopback
    nat PREROUTING, OUTPUT ─▶ NETKIT-PUBLISH        nat POSTROUTING ─▶ NETKIT-MASQ

Built-in policies and rules of others are left alone; nothing here depends on a policy.
"""

from collections.abc import Iterable

from netaddr import IPAddress

from netkit.model.names import FORWARD, ISOLATE, MASQ, PUBLISH, USER_CHAIN
from netkit.model.resource import Chain, Entry, Hook, IpSet, Member, Resource
from netkit.model.rule import Rule, SetMatch
from netkit.model.spec import Network, Publish

HOST = "host"  # the owner of what serves all networks

BRIDGES = "NETKIT-BRIDGES"
INTERNAL = "NETKIT-INTERNAL"
LINKS = "NETKIT-LINKS"
PUBLISHED = "NETKIT-PUBLISHED"
_SETS = {
    BRIDGES: "hash:net,iface",
    INTERNAL: "hash:net,iface",
    LINKS: "hash:ip,port,ip",
    PUBLISHED: "hash:ip,port",
}

SET_NAMES = frozenset(_SETS)

_FROM_BRIDGE = SetMatch(BRIDGES, "src,src")
_TO_BRIDGE = SetMatch(BRIDGES, "dst,dst")
_FROM_INTERNAL = SetMatch(INTERNAL, "src,src")
_TO_INTERNAL = SetMatch(INTERNAL, "dst,dst")
_TO_PUBLISHED = SetMatch(PUBLISHED, "dst,dst")
_NOT_FROM_INTERNAL = SetMatch(INTERNAL, "src,src", invert=True)
_LOOPBACK = "127.0.0.0/8"


def _rule(target: str, *sets: SetMatch, **fields: object) -> Rule:
    return Rule(target=target, owner=HOST, sets=sets, **fields)  # type: ignore[arg-type]


_FORWARD_RULES = (
    _rule("ACCEPT", _TO_BRIDGE, states=("RELATED", "ESTABLISHED")),
    _rule("ACCEPT", _TO_PUBLISHED, _NOT_FROM_INTERNAL, states=("DNAT",)),
    _rule("ACCEPT", SetMatch(LINKS, "src,dst,dst")),
    _rule(ISOLATE),
    _rule("DROP", _FROM_BRIDGE, _TO_BRIDGE),
    _rule("DROP", _FROM_INTERNAL),
    _rule("DROP", _TO_INTERNAL),
    _rule("ACCEPT", _FROM_BRIDGE),
    _rule("DROP", _TO_BRIDGE),
)

# Bridges let addresses of the host's loopback through, for ports published on it (route_localnet). What
# comes in by a bridge must not reach those: answers go to the bridge's address, which is translated back.
# In raw, where no rule that somebody puts into INPUT later can be before it.
_GUARD = _rule("DROP", _FROM_BRIDGE, dst=_LOOPBACK)

_SKELETON: tuple[Resource, ...] = (
    *(IpSet(name=name, type=kind, owner=HOST) for name, kind in _SETS.items()),
    Chain(table="filter", name=USER_CHAIN, keep=True, owner=HOST),
    Chain(table="filter", name=FORWARD, rules=_FORWARD_RULES, owner=HOST),
    Chain(table="filter", name=ISOLATE, owner=HOST),
    Chain(table="nat", name=PUBLISH, owner=HOST),
    Chain(
        table="nat",
        name=MASQ,
        rules=(
            # What the host says to its own bridge address is not leaving: without this it would
            # seem to come from another address of the host.
            _rule("RETURN", out_link="lo"),
            # The host talks to a port published on 127.0.0.1: the container must be able to answer.
            _rule("MASQUERADE", _TO_PUBLISHED, src=_LOOPBACK, states=("DNAT",)),
        ),
        owner=HOST,
    ),
    Hook(table="filter", chain="FORWARD", rules=(_rule(USER_CHAIN), _rule(FORWARD)), owner=HOST),
    Hook(table="raw", chain="PREROUTING", rules=(_GUARD,), owner=HOST),
    Hook(
        table="nat",
        chain="PREROUTING",
        # A neighbour on the wire can address a packet to our 127.0.0.1; that must not be redirected.
        rules=(_rule(PUBLISH, dst=_LOOPBACK, invert=frozenset({"dst"}), dst_type="LOCAL"),),
        owner=HOST,
    ),
    Hook(table="nat", chain="OUTPUT", rules=(_rule(PUBLISH, dst_type="LOCAL"),), owner=HOST),
    Hook(table="nat", chain="POSTROUTING", rules=(_rule(MASQ),), owner=HOST),
)


def skeleton() -> tuple[Resource, ...]:
    """The chains, hooks and sets that every network shares; they never change."""
    return _SKELETON


def network(net: Network) -> Iterable[Resource]:
    """What one network adds: membership of its bridge, its icc verdict, masquerading."""
    owner, subnet = net.owner, str(net.subnet.cidr)
    yield Member(set=BRIDGES, entry=f"0.0.0.0/0,{net.bridge}", owner=owner)
    if net.internal:
        yield Member(set=INTERNAL, entry=f"0.0.0.0/0,{net.bridge}", owner=owner)
    within = Rule(
        target="ACCEPT" if net.icc else "DROP", in_link=net.bridge, out_link=net.bridge, owner=owner
    )
    yield Entry(table="filter", chain=ISOLATE, rule=within, owner=owner, subnet=subnet)
    if net.internal:
        return
    # A container that comes back to its own network through a published port would be answered
    # directly by the other one, past the translation, wherever br_netfilter is off.
    hairpin = Rule(target="MASQUERADE", src=subnet, out_link=net.bridge, states=("DNAT",), owner=owner)
    yield Entry(table="nat", chain=MASQ, rule=hairpin, owner=owner)
    if net.masquerade:
        out = frozenset({"out_link"})
        leave = Rule(target="MASQUERADE", src=subnet, out_link=net.bridge, invert=out, owner=owner)
        yield Entry(table="nat", chain=MASQ, rule=leave, owner=owner)


def publish(port: Publish, address: IPAddress, container: str) -> Iterable[Resource]:
    """What one published port adds: a redirection, and leave for it to pass."""
    owner = f"publish/{container}/{port.describe()}"
    host_ip = "" if int(port.host_ip) == 0 else f"{port.host_ip}/32"
    redirect = Rule(
        target="DNAT",
        dst=host_ip,
        protocol=port.protocol,
        dports=(port.host_port, port.host_port),
        to=f"{address}:{port.port}",
        owner=owner,
    )
    yield Entry(table="nat", chain=PUBLISH, rule=redirect, owner=owner)
    yield Member(set=PUBLISHED, entry=f"{address},{port.protocol}:{port.port}", owner=owner)


def link(
    source: IPAddress, target: IPAddress, ports: Iterable[tuple[int, str]], owner: str
) -> Iterable[Resource]:
    """What one link adds on one network: from `source` to each of the target's exposed ports."""
    for port, protocol in ports:
        yield Member(set=LINKS, entry=f"{source},{protocol}:{port},{target}", owner=owner)
