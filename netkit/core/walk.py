"""The packet walk: where a packet ends up, and which rule or route decides, from resources alone.

It is the brain of `netkit explain`, and it is held against the kernel by tests that send the real
packet. It follows the first packet of a connection, as the kernel does: the sender's route, the
bridge (whose frames meet the rules only while br_netfilter is on), redirection, routing, the
FORWARD or INPUT chain, masquerading. Answers are not walked: conntrack lets them through.

    >>> walk(world, Packet(protocol="tcp", source=ns, src="10.0.0.3", dst="10.0.0.2", port=80)).arrives
    False
"""

import msgspec
from netaddr import IPAddress, IPNetwork

from netkit.core.tables import Facts, Tables
from netkit.core.world import HOST, World

_LOOPBACK = IPNetwork("127.0.0.0/8")


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """The first packet of a connection: `source` is a namespace's path, `host`, or an uplink's name.

    An uplink's name stands for a machine at its other end, which sends through this host. `protocol`
    is tcp, udp or icmp; an empty `src` is chosen as the sender's kernel would choose it.
    """

    protocol: str
    source: str
    dst: str
    port: int = 0
    src: str = ""

    def describe(self) -> str:
        target = f"{self.dst}:{self.port}" if self.port else self.dst
        return f"{self.protocol} {self.source} ({self.src or 'own address'}) -> {target}"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of it: `place` is a namespace's path, `host`, an uplink's name, or empty.

    `sender` is the source address as it left the sender; `src`, `dst` and `port` are as the receiver
    sees them, `reason` names what decided.
    """

    arrives: bool
    reason: str
    sender: str = ""
    place: str = ""
    src: str = ""
    dst: str = ""
    port: int = 0
    steps: tuple[str, ...] = ()

    def describe(self) -> str:
        head = f"arrives at {self.place} as {self.src} -> {self.dst}" if self.arrives else "does not arrive"
        return "\n".join((*(f"  {step}" for step in self.steps), f"{head}: {self.reason}"))


class _Stopped(Exception):
    """The packet goes no further."""


def walk(world: World, packet: Packet) -> Verdict:
    """Follow one packet. Pure."""
    return _Walk(world, packet).run()


class _Walk:
    """One packet on its way; what is known of it changes as it is translated."""

    def __init__(self, world: World, packet: Packet) -> None:
        self._world = world
        self._tables = Tables(world.resources, world.user_rules)
        self._packet = packet
        self._steps: list[str] = []
        self._src = IPAddress(packet.src) if packet.src else IPAddress(0)
        self._sender = self._src
        self._dst = IPAddress(packet.dst)
        self._port = packet.port
        self._redirected = False

    def run(self) -> Verdict:
        try:
            place, reason = self._start()
        except _Stopped as stopped:
            return self._verdict(False, str(stopped))
        return self._verdict(True, reason, place)

    def _verdict(self, arrives: bool, reason: str, place: str = "") -> Verdict:
        return Verdict(
            arrives=arrives,
            reason=reason,
            sender=str(self._sender),
            place=place,
            src=str(self._src),
            dst=str(self._dst),
            port=self._port,
            steps=tuple(self._steps),
        )

    def _start(self) -> tuple[str, str]:
        source = self._packet.source
        if source == HOST:
            return self._from_host()
        if source in self._world.uplinks:
            return self._received(source)
        return self._from_container(source)

    def _from_container(self, namespace: str) -> tuple[str, str]:
        ends = self._world.ends(namespace)
        if any(self._dst == end.address.ip for end in ends) or self._dst in _LOOPBACK:
            self._choose_source(self._dst)
            return namespace, "an address of the container itself"
        on_link = [end for end in ends if self._dst in end.address.cidr]
        if on_link:
            end = max(on_link, key=lambda each: each.address.prefixlen)
            self._choose_source(end.address.ip)
            self._step(f"route: {self._dst} is on the link of {end.interface}")
            return self._on_bridge(end.bridge, namespace)
        way = self._world.way_out(namespace)
        if way is None:
            raise _Stopped(f"the container has no route to {self._dst}")
        end, gateway = way
        self._choose_source(end.address.ip)
        self._step(f"route: default via {gateway} on {end.interface}")
        if gateway not in self._world.addresses_of(end.bridge):
            raise _Stopped(f"nobody has the gateway's address {gateway} on {end.bridge}")
        return self._received(end.bridge)

    def _on_bridge(self, bridge: str, namespace: str) -> tuple[str, str]:
        """A frame to a neighbour on the same bridge, or to the host behind it."""
        if self._dst in self._world.addresses_of(bridge):
            return self._received(bridge)
        target = self._world.holder(bridge, self._dst)
        if target is None:
            raise _Stopped(f"nobody on {bridge} has {self._dst}")
        if target.namespace == namespace:
            return namespace, "an address of the container itself"
        if not self._world.bridge_filter:
            return target.namespace, f"switched on {bridge}, past the rules: br_netfilter is off"
        reason = self._filter("FORWARD", bridge, bridge)
        return target.namespace, reason

    def _received(self, in_link: str) -> tuple[str, str]:
        """A packet that came to the host by one of its links."""
        if self._dst in _LOOPBACK and not self._world.routes_loopback(in_link):
            self._translate_destination("PREROUTING", in_link)
            if self._dst in _LOOPBACK:
                raise _Stopped(f"a martian: {self._dst} cannot come in by {in_link}")
        else:
            self._translate_destination("PREROUTING", in_link)
        if self._world.is_local(self._dst):
            return HOST, self._filter("INPUT", in_link, "")
        if not self._world.forwards:
            raise _Stopped("net.ipv4.ip_forward is off")
        return self._sent(in_link)

    def _from_host(self) -> tuple[str, str]:
        local = self._world.is_local(self._dst)
        if local:
            self._choose_source(self._dst if self._dst not in _LOOPBACK else IPAddress("127.0.0.1"))
        elif out := self._world.route(self._dst):
            self._choose_source(self._world.source_on(out))
        self._translate_destination("OUTPUT", "")
        if self._world.is_local(self._dst):
            return HOST, "an address of the host itself"
        return self._sent("")

    def _sent(self, in_link: str) -> tuple[str, str]:
        """Routed on: forwarded (`in_link` is where it came from), or the host's own."""
        out = self._world.route(self._dst)
        if out is None:
            raise _Stopped(f"the host has no route to {self._dst}")
        self._step(f"route: {self._dst} by {out}")
        from_loopback = self._src in _LOOPBACK
        if from_loopback and not self._world.routes_loopback(out):
            raise _Stopped(f"a martian: {self._src} cannot leave by {out}")
        reason = self._filter("FORWARD", in_link, out) if in_link else f"sent by the host on {out}"
        self._translate_source(in_link, out)
        if out in self._world.uplinks:
            return out, reason
        target = self._world.holder(out, self._dst)
        if target is None:
            raise _Stopped(f"nobody on {out} has {self._dst}")
        return target.namespace, reason

    def _filter(self, chain: str, in_link: str, out_link: str) -> str:
        """Pass a chain of the filter table, or stop; gives what let it pass."""
        verdict, rule = self._tables.run("filter", chain, self._facts(in_link, out_link), self._step)
        if verdict == "DROP":
            raise _Stopped(f"dropped by {rule.text()}" if rule else f"dropped by the policy of {chain}")
        return f"accepted by {rule.text()}" if rule else f"no rule of {chain} is against it"

    def _translate_destination(self, chain: str, in_link: str) -> None:
        verdict, rule = self._tables.run("nat", chain, self._facts(in_link, ""), self._step)
        if verdict != "DNAT" or rule is None:
            return
        address, _, port = rule.to.partition(":")
        self._dst = IPAddress(address)
        self._port = int(port) if port else self._port
        self._redirected = True
        self._step(f"redirected to {rule.to}")

    def _translate_source(self, in_link: str, out: str) -> None:
        facts = self._facts("", out)
        verdict, _ = self._tables.run("nat", "POSTROUTING", facts, self._step)
        if verdict == "MASQUERADE":
            self._src = self._world.source_on(out)
            self._step(f"masqueraded as {self._src}")

    def _facts(self, in_link: str, out_link: str) -> Facts:
        return Facts(
            protocol=self._packet.protocol,
            src=self._src,
            dst=self._dst,
            port=self._port,
            in_link=in_link,
            out_link=out_link,
            states=frozenset({"NEW", *(["DNAT"] if self._redirected else [])}),
            src_local=self._world.is_local(self._src),
            dst_local=self._world.is_local(self._dst),
        )

    def _choose_source(self, address: IPAddress) -> None:
        if int(self._src) == 0:
            self._src = self._sender = address

    def _step(self, text: str) -> None:
        self._steps.append(text)
