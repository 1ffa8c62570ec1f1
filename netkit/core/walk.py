"""The packet walk: where a packet ends up, and which rule or route decides.

It is the brain of `netkit explain`, and it is held against the kernel by tests that send the real
packet. It follows the first packet of a connection, as the kernel does: the sender's route, the
bridge (whose frames meet the rules only while br_netfilter is on), redirection, routing, the
tables of each hook in their order, masquerading. Answers are not walked: conntrack lets them through.

    >>> walk(world, Packet(protocol="tcp", source=ns, src="10.0.0.3", dst="10.0.0.2", port=80)).arrives
    False
"""

import msgspec
from netaddr import IPAddress, IPNetwork

from netkit.core.tables import Facts, Ruling, Tables
from netkit.core.world import HOST, World

_LOOPBACK = IPNetwork("127.0.0.0/8")
# The tables that a packet passes at each hook of the kernel, in the order of their priorities.
_HOOKS = {
    "PREROUTING": ("raw", "mangle", "nat"),
    "INPUT": ("mangle", "filter", "security", "nat"),
    "FORWARD": ("mangle", "filter", "security"),
    "OUTPUT": ("raw", "mangle", "nat", "filter", "security"),
    "POSTROUTING": ("mangle", "nat"),
}


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """The first packet of a connection: `source` is a namespace's path, `host`, or a link's name.

    An uplink's name stands for a machine at its other end, which sends through this host, a
    bridge's for one that is behind the bridge's other ports. `protocol` is tcp, udp or icmp; an
    empty `src` is chosen as the sender's kernel would choose it.
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
    """What becomes of it: `place` is a namespace's path, `host`, a link's name, or empty.

    `sender` is the source address as it left the sender; `src`, `dst` and `port` are as the receiver
    sees them, `reason` names what decided. `doubts` are the rules on its way that cannot be weighed
    and that may lead to something else.
    """

    arrives: bool
    reason: str
    sender: str = ""
    place: str = ""
    src: str = ""
    dst: str = ""
    port: int = 0
    steps: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def describe(self) -> str:
        head = f"arrives at {self.place} as {self.src} -> {self.dst}" if self.arrives else "does not arrive"
        doubts = (f"cannot weigh: {doubt}" for doubt in self.doubts)
        return "\n".join((*(f"  {step}" for step in self.steps), *doubts, f"{head}: {self.reason}"))


class _Stopped(Exception):
    """The packet goes no further."""


def walk(world: World, packet: Packet) -> Verdict:
    """Follow one packet. Pure."""
    return _Walk(world, packet).run()


class _Walk:
    """One packet on its way; what is known of it changes as it is translated."""

    def __init__(self, world: World, packet: Packet) -> None:
        self._world = world
        self._tables = Tables(world.resources, world.user_rules, world.saved)
        self._packet = packet
        self._steps: list[str] = []
        self._doubts: dict[str, None] = {}
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
            doubts=tuple(self._doubts),
        )

    def _start(self) -> tuple[str, str]:
        source = self._packet.source
        if source == HOST:
            return self._from_host()
        if source in self._world.uplinks:
            return self._received(source)
        if self._world.is_bridge(source):
            return self._from_behind(source)
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
            return self._on_bridge(end.bridge, self._dst)
        way = self._world.way_out(namespace)
        if way is None:
            raise _Stopped(f"the container has no route to {self._dst}")
        end, gateway = way
        self._choose_source(end.address.ip)
        self._step(f"route: default via {gateway} on {end.interface}")
        return self._on_bridge(end.bridge, gateway)

    def _from_behind(self, bridge: str) -> tuple[str, str]:
        """A machine behind a port of a bridge, whose way out is the host."""
        near = any(self._dst in network.cidr for network in self._world.networks_of(bridge))
        if not near or self._dst in self._world.addresses_of(bridge):
            return self._received(bridge)
        if self._world.holder(bridge, self._dst) is None:
            raise _Stopped(f"no container on {bridge} has {self._dst}")
        return self._on_bridge(bridge, self._dst)

    def _on_bridge(self, bridge: str, hop: IPAddress) -> tuple[str, str]:
        """A frame to a neighbour on the same bridge, or to the host behind it."""
        if hop in self._world.addresses_of(bridge):
            return self._received(bridge)
        place = self._neighbour(bridge, hop)
        if not self._world.bridge_filter:
            return place, f"switched on {bridge}, past the rules: br_netfilter is off"
        before = self._dst
        self._pass("PREROUTING", bridge, "")
        return self._switched(bridge, hop) if self._dst == before else self._routed(bridge, True)

    def _switched(self, bridge: str, hop: IPAddress) -> tuple[str, str]:
        """Within a bridge, past the rules: from one of its ports to another."""
        place = self._neighbour(bridge, hop)
        reason = self._pass("FORWARD", bridge, bridge)
        # To the hook a frame of a bridge comes from nowhere.
        self._pass("POSTROUTING", "", bridge)
        return self._taken(place), reason

    def _neighbour(self, bridge: str, address: IPAddress) -> str:
        """Who on a bridge has an address: a container, or somebody behind its other ports."""
        if end := self._world.holder(bridge, address):
            return end.namespace
        if wire := self._world.wires.get(bridge):
            self._step(f"bridge: no container has {address}, it is sent out by {', '.join(wire)}")
            return bridge
        raise _Stopped(f"nobody on {bridge} has {address}")

    def _taken(self, place: str) -> str:
        """Where it has come to, unless whoever is there takes it for a forgery."""
        own = any(end.address.ip == self._src for end in self._world.ends(place))
        if own or self._src in _LOOPBACK:
            raise _Stopped(f"a martian: it comes from {self._src}, which is an address of the receiver's own")
        return place

    def _received(self, in_link: str) -> tuple[str, str]:
        """A packet that came to the host by one of its links."""
        before = self._dst
        self._pass("PREROUTING", in_link, "")
        return self._routed(in_link, self._dst != before)

    def _routed(self, in_link: str, redirected: bool) -> tuple[str, str]:
        if self._dst in _LOOPBACK and not self._world.routes_loopback(in_link):
            raise _Stopped(f"a martian: {self._dst} cannot come in by {in_link}")
        if self._world.is_local(self._dst):
            return HOST, self._pass("INPUT", in_link, "")
        filtered = self._world.bridge_filter and self._world.is_bridge(in_link)
        if filtered and redirected and self._world.route(self._dst) == in_link:
            # br_netfilter hands it back to the bridge, whether the host forwards or not.
            return self._switched(in_link, self._dst)
        if not self._world.forwards:
            raise _Stopped("net.ipv4.ip_forward is off")
        return self._sent(in_link)

    def _from_host(self) -> tuple[str, str]:
        local = self._world.is_local(self._dst)
        out = "lo" if local else self._world.route(self._dst)
        if out is None:
            raise _Stopped(f"the host has no route to {self._dst}")
        if local:
            self._choose_source(self._dst if self._dst not in _LOOPBACK else IPAddress("127.0.0.1"))
        else:
            self._choose_source(self._world.source_on(out, self._dst))
        # A redirection leads it elsewhere, and the rules are still shown the link it was to leave by.
        self._pass("OUTPUT", "", out)
        return self._looped() if self._world.is_local(self._dst) else self._sent("")

    def _looped(self) -> tuple[str, str]:
        """From the host to itself by lo: it is translated on its way out, and only there."""
        self._pass("POSTROUTING", "", "lo")
        self._pass("PREROUTING", "lo", "", translates=False)
        self._pass("INPUT", "lo", "", translates=False)
        return HOST, "an address of the host itself"

    def _sent(self, in_link: str) -> tuple[str, str]:
        """Routed on: forwarded (`in_link` is where it came from), or the host's own."""
        out = self._world.route(self._dst)
        if out is None:
            raise _Stopped(f"the host has no route to {self._dst}")
        self._step(f"route: {self._dst} by {out}")
        from_loopback = self._src in _LOOPBACK
        if from_loopback and not self._world.routes_loopback(out):
            raise _Stopped(f"a martian: {self._src} cannot leave by {out}")
        reason = self._pass("FORWARD", in_link, out) if in_link else f"sent by the host on {out}"
        self._pass("POSTROUTING", in_link, out)
        if not self._world.is_bridge(out):
            return out, reason
        return self._taken(self._neighbour(out, self._dst)), reason

    def _pass(self, hook: str, in_link: str, out_link: str, *, translates: bool = True) -> str:
        """Pass all tables of a hook, or stop; gives what let it pass the filter."""
        reason = ""
        for table in _HOOKS[hook]:
            if table == "nat" and not translates:
                continue
            facts = self._facts(in_link, out_link, tracked=table != "raw" or in_link == "lo")
            ruling = self._tables.run(table, hook, facts)
            self._doubts |= dict.fromkeys(doubt.text for doubt in ruling.doubts)
            if ruling.rule:
                self._step(f"{ruling.place}: {ruling.rule.text}")
            if ruling.verdict in {"DROP", "REJECT"}:
                raise _Stopped(_against(ruling, table, hook))
            if table == "nat" and ruling.rule:
                self._translate(ruling.verdict, ruling.rule.rule.to, in_link, out_link)
            if table == "filter":
                accepted = f"accepted by {ruling.rule.text}" if ruling.rule else ""
                reason = accepted or f"no rule of {hook} is against it"
        return reason

    def _translate(self, verdict: str, to: str, in_link: str, out_link: str) -> None:
        address, _, port = to.partition(":")
        match verdict:
            case "DNAT" | "REDIRECT":
                if verdict == "REDIRECT":
                    address, port = str(self._here(in_link)), to
                before = self._dst, self._port
                self._dst = IPAddress(address) if address else self._dst
                self._port = int(port) if port else self._port
                # To where it goes anyway is no redirection to the rules that ask for one.
                self._redirected |= before != (self._dst, self._port)
                self._step(f"redirected to {to or self._dst}")
            case "SNAT" | "MASQUERADE":
                own = self._world.source_on(out_link, self._dst)
                self._src = own if verdict == "MASQUERADE" else IPAddress(address)
                self._step(f"masqueraded as {self._src}")

    def _here(self, in_link: str) -> IPAddress:
        """The host's address as REDIRECT takes it: of the link a packet came in by, or the loopback's."""
        known = self._world.addresses_of(in_link)
        return known[0] if known else IPAddress("127.0.0.1")

    def _facts(self, in_link: str, out_link: str, *, tracked: bool) -> Facts:
        """What rules see of it; before it is tracked, and that is in raw, it is INVALID to them."""
        states = {"NEW", *(["DNAT"] if self._redirected else [])}
        return Facts(
            protocol=self._packet.protocol,
            src=self._src,
            dst=self._dst,
            port=self._port,
            in_link=in_link,
            out_link=out_link,
            states=frozenset(states if tracked else {"INVALID"}),
            src_local=self._world.is_local(self._src),
            dst_local=self._world.is_local(self._dst),
        )

    def _choose_source(self, address: IPAddress) -> None:
        if int(self._src) == 0:
            self._src = self._sender = address

    def _step(self, text: str) -> None:
        self._steps.append(text)


def _against(ruling: Ruling, table: str, hook: str) -> str:
    """Why it is dropped."""
    if ruling.rule is None:
        return f"dropped by the policy of {table} {hook}"
    return f"{'rejected' if ruling.verdict == 'REJECT' else 'dropped'} by {ruling.rule.text}"
