"""One random host, its packets sent for real and walked on paper. Run inside a namespace of its own.

    nsenter --net=HOST python -m tests.packets.scenario SEED CASES VARIANT OUTSIDE WIRE FOLDER

Prints JSON: how many cases were compared, and each disagreement with the intent that made it. The
same seed makes the same intent and the same packets.
"""

import contextlib
import json
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

from netaddr import IPNetwork
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw

from netkit.core import firewall, plan
from netkit.core import walk as walking
from netkit.core.render import everything, render
from netkit.core.walk import Packet
from netkit.core.world import HOST, World
from netkit.kernel import libc
from netkit.kernel.ipset import IpSets
from netkit.kernel.links import LinkDriver
from netkit.kernel.netns import NamespaceDriver
from netkit.kernel.routes import RouteDriver
from netkit.kernel.rtnl import Rtnl
from netkit.kernel.sysctl import SysctlDriver
from netkit.kernel.veths import VethDriver
from netkit.kernel.xtables import XTables
from netkit.model.resource import Key
from netkit.model.rule import parse_rule
from netkit.model.saved import parse_saved
from netkit.model.spec import Host
from netkit.testing.intents import PORTS, opened, random_intent

UPLINK, UPLINK_CIDR, NEIGHBOUR, FAR = "up0", "198.51.100.1/24", "198.51.100.2", "203.0.113.9"
# A port of the first bridge, and the machine behind it, which has the host for its gateway.
WIRE, WIRED_BRIDGE, WIRED_GATEWAY, WIRED = "wire0", "nb0", "10.1.0.1", "10.1.0.200"
NEEDS_FILTER = Key("sysctl", "net.bridge.bridge-nf-call-iptables")
BUILT_IN = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "icmp": socket.IPPROTO_ICMP}
MAGIC = b"netkit-walk:"
_NO_PROCESS = {"file", "mount", "process"}


def random_packet(dice, intent, namespaces, number):
    """A packet from somewhere to somewhere that exists."""
    ends = [end for each in intent.containers.values() for end in each.endpoints.values()]
    targets = [str(end.address) for end in ends] * 3
    targets += [str(net.gateway) for net in intent.networks.values()] + [UPLINK_CIDR[:-3]] * 4
    kind = dice.random()
    source = UPLINK if kind < 0.2 else HOST if kind < 0.4 else dice.choice(namespaces)
    source = WIRED_BRIDGE if kind > 0.9 else source
    if source != UPLINK:
        targets += [NEIGHBOUR, FAR] * 2
    if source != WIRED_BRIDGE:
        targets += [WIRED] * 3
    if source == HOST:
        targets += ["127.0.0.1"] * 4
    protocol = dice.choice(("tcp", "tcp", "udp", "udp", "icmp"))
    port = 0 if protocol == "icmp" else dice.choice((*PORTS, 8080, 8081, 8082, 8083))
    src = {UPLINK: NEIGHBOUR, WIRED_BRIDGE: WIRED}.get(source, "")
    return Packet(protocol=protocol, source=source, dst=dice.choice(targets), port=port, src=src)


def wire(packet, sender, number):
    """The packet's bytes, with `number` in it to be known by."""
    head = IP(src=sender, dst=packet.dst)
    if packet.protocol == "tcp":
        return bytes(head / TCP(sport=20000 + number, dport=packet.port, flags="S", seq=number))
    mark = Raw(MAGIC + str(number).encode())
    if packet.protocol == "udp":
        return bytes(head / UDP(sport=20000 + number, dport=packet.port) / mark)
    return bytes(head / ICMP(type=8, id=number, seq=1) / mark)


def read(data):
    """(number, src, dst, port) of one of our packets, or None."""
    packet = IP(data)
    if TCP in packet and packet[TCP].flags == "S":
        return packet[TCP].seq, packet.src, packet.dst, packet[TCP].dport
    payload = bytes(packet[Raw]) if Raw in packet else b""
    if not payload.startswith(MAGIC):
        return None
    number = int(payload[len(MAGIC) :])
    if UDP in packet:
        return number, packet.src, packet.dst, packet[UDP].dport
    if ICMP in packet and packet[ICMP].type == 8:
        return number, packet.src, packet.dst, 0
    return None


class Ears:
    """Raw sockets in every place: what is delivered there is heard, after all rules."""

    def __init__(self, places):
        self._sockets = []
        self._mouths = {}
        for name, path in places.items():
            for protocol in PROTOCOLS.values():
                ear = libc.socket_in(path, socket.AF_INET, socket.SOCK_RAW, protocol)
                ear.setblocking(False)
                ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                self._sockets.append((name, ear))
            self._mouths[name] = libc.socket_in(path, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def send(self, name, data, dst):
        try:
            self._mouths[name].sendto(data, (dst, 0))
        except OSError:
            return  # no route, not permitted: it does not arrive

    def hear(self):
        heard = {}
        for name, ear in self._sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    if found := read(ear.recv(65535)):
                        heard.setdefault(found[0], (name, *found[1:]))
        return heard

    def close(self):
        for _, ear in self._sockets:
            ear.close()
        for mouth in self._mouths.values():
            mouth.close()


def carried_out(operations, drivers):
    """Carry a plan out with the real drivers."""
    for operation in operations:
        driver = next(each for each in drivers if operation.resource.kind in each.kinds)
        list(driver.execute([operation]))


def user_rules(dice, intent):
    """Sometimes the user has an opinion of their own."""
    if dice.random() < 0.5:
        return ()
    addresses = addresses_in(intent)
    text = f"-s {dice.choice(addresses)}/32 -d {dice.choice(addresses)}/32 -j DROP"
    return (parse_rule(text),)


def addresses_in(intent):
    return [str(e.address) for c in intent.containers.values() for e in c.endpoints.values()]


def foreign_rules(dice, intent):
    """What others have written: chains of their own, rules in front and behind, policies."""
    if dice.random() < 0.3:
        return
    yield from (f"-t {table} -N THEIRS" for table in BUILT_IN)
    for _ in range(dice.randint(2, 7)):
        table = dice.choice(list(BUILT_IN))
        chain = dice.choice((*BUILT_IN[table], "THEIRS"))
        targets = foreign_targets(dice, intent, table, chain)
        verb = dice.choice(("-I", "-A"))
        yield f"-t {table} {verb} {chain} {foreign_match(dice, intent, table, chain)} {dice.choice(targets)}"
    for table in ("mangle", "filter"):
        if dice.random() < 0.15:
            yield f"-t {table} -P {dice.choice(BUILT_IN[table])} DROP"


def foreign_match(dice, intent, table, chain):
    places = [*addresses_in(intent), WIRED, NEIGHBOUR, UPLINK_CIDR[:-3]]
    links = (UPLINK, "nb0", "nb1", "nb+", "lo")
    protocol = dice.choice(("tcp", "udp"))
    ports = f"-m multiport --dports {dice.choice(PORTS)},8080:8082"
    first = "-p tcp -m tcp " + dice.choice(("", "! ")) + "--syn"
    matches = [
        f"-s {dice.choice(places)}", f"-d {dice.choice(places)}", f"! -s {dice.choice(places)}",
        f"-p {protocol}", f"-p {protocol} --dport {dice.choice(PORTS)}", f"-p {protocol} {ports}", first,
        "-p icmp -m icmp --icmp-type 8", "-m state --state NEW", "-m conntrack ! --ctstate DNAT",
        "-m conntrack --ctstate INVALID", "-m addrtype --dst-type LOCAL", "-m set --match-set NETKIT-BRIDGES src,src",
    ]  # fmt: skip
    if dice.random() < 0.1:  # and what the walk cannot weigh
        return dice.choice(
            (
                "-m statistic --mode random --probability 0.5",
                f"-p {protocol} -m iprange --src-range 10.1.0.1-10.1.0.3",
            )
        )
    if chain not in {"OUTPUT", "POSTROUTING"}:
        matches += [f"-i {dice.choice(links)}", f"! -i {dice.choice(links)}"]
    if chain not in {"INPUT", "PREROUTING"}:
        matches += [f"-o {dice.choice(links)}", f"! -o {dice.choice(links)}"]
    return dice.choice(matches)


def foreign_targets(dice, intent, table, chain):
    places = [*addresses_in(intent), WIRED, UPLINK_CIDR[:-3]]
    targets = ["-j ACCEPT", "-j RETURN"] + ([] if chain == "THEIRS" else ["-j THEIRS", "-g THEIRS"])
    if table != "nat":
        targets += ["-j DROP"] * 2
    if table == "filter":
        targets += ["-j REJECT", "-j LOG --log-prefix 'seen -j DROP '"]
    if table == "mangle":
        targets += ["-j MARK --set-mark 7"]
    if table == "nat" and chain in {"PREROUTING", "OUTPUT"}:
        targets += [f"-j DNAT --to-destination {dice.choice(places)}"] * 3 + ["-j REDIRECT"]
    if table == "nat" and chain == "POSTROUTING":
        targets += ["-j MASQUERADE"] * 2 + ["-j SNAT --to-source 198.51.100.1"]
    return targets


def wired(machine):
    """Put the port into the bridge, with the machine behind it."""
    for line in (
        f"ip link set {WIRE} up master {WIRED_BRIDGE}",
        f"nsenter --net={machine} ip route add default via {WIRED_GATEWAY}",
    ):
        subprocess.run(line.split(), check=True)


def play(seed, cases, variant, outside, wire, folder, break_rule):
    dice = random.Random(seed)
    netns = Path(folder) / "netns"
    netns.mkdir(parents=True)
    host = Host(state_dir=folder)
    intent = opened(dice, random_intent(dice, host), host)
    resources = {
        key: each
        for key, each in render(intent, host, everything(intent)).items()
        if key.kind not in _NO_PROCESS
    }
    rtnl, sets, rules = Rtnl.open(), IpSets(names=firewall.SET_NAMES), XTables(variant=variant)
    veths = VethDriver(rtnl, netns)
    memory = {}
    drivers = (
        SysctlDriver(memory),
        sets,
        rules,
        NamespaceDriver(netns),
        LinkDriver(rtnl),
        veths,
        RouteDriver(netns),
    )
    operations = plan.diff({}, resources)
    carried_out(operations, drivers)
    own = user_rules(dice, intent)
    binary = "iptables" if variant == "nft" else "iptables-legacy"
    for rule in own:
        subprocess.run([binary, "-I", "NETKIT-USER", *rule.arguments()], check=True)
    wired(wire)
    filtered = NEEDS_FILTER in resources or dice.random() < 0.6
    Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text(f"{int(filtered)}")
    foreign = list(foreign_rules(dice, intent))
    for line in foreign:
        subprocess.run(f"{binary} {line}", shell=True, check=True)
    saved = parse_saved(rules.saved())
    if break_rule:
        subprocess.run([binary, "-I", "FORWARD", "-j", break_rule], check=True)
    # Where nobody else has written rules, what the resources say is what there is.
    known = {"saved": saved} if foreign or dice.random() < 0.5 else {"user_rules": own}
    world = World(
        resources=resources,
        uplinks={UPLINK: (IPNetwork(UPLINK_CIDR),)},
        ports={WIRE: WIRED_BRIDGE},
        forward_default=True,
        bridge_filter_default=filtered,
        **known,
    )
    namespaces = sorted(end.namespace for end in world.all_ends)
    ears = Ears({HOST: "", UPLINK: outside, WIRED_BRIDGE: wire, **{path: path for path in namespaces}})
    try:
        wrong, doubted = compare(dice, cases, intent, world, namespaces, ears)
    finally:
        ears.close()
        for table in BUILT_IN if foreign else ():
            subprocess.run([binary, "-t", table, "-F"], check=True)  # a set in use cannot be removed
        carried_out(plan.diff(resources, {}), drivers)
        veths.close()
    return {
        "cases": cases,
        "doubted": doubted,
        "foreign": foreign,
        "wrong": wrong,
        "networks": len(intent.networks),
        "containers": len(intent.containers),
    }


def compare(dice, cases, intent, world, namespaces, ears):
    packets = {n: random_packet(dice, intent, namespaces, n) for n in range(1, cases + 1)}
    verdicts = {n: walking.walk(world, packet) for n, packet in packets.items()}
    heard = {}
    for number, packet in packets.items():
        sender = verdicts[number].sender
        if int(sender.split(".")[0]) == 0:
            continue  # the sender has no route: there is no packet to send
        ears.send(packet.source, wire(packet, sender, number), packet.dst)
        if number % 20 == 0:
            time.sleep(0.05)
    deadline = time.monotonic() + 3
    expected = {n for n, verdict in verdicts.items() if verdict.arrives}
    while time.monotonic() < deadline and not (expected <= set(heard) and time.monotonic() > deadline - 2.4):
        heard |= ears.hear()
        time.sleep(0.02)
    wrong = []
    for number, verdict in verdicts.items():
        said = (verdict.place, verdict.src, verdict.dst, verdict.port) if verdict.arrives else None
        # Where it says that it cannot know, either may be.
        if said != heard.get(number) and not verdict.doubts:
            wrong.append(
                {
                    "packet": packets[number].describe(),
                    "walk": verdict.describe(),
                    "kernel": heard.get(number),
                }
            )
    return wrong, sum(bool(verdict.doubts) for verdict in verdicts.values())


if __name__ == "__main__":
    seed_, cases_, variant_, outside_, wire_, folder_, *rest_ = sys.argv[1:]
    break_rule_ = rest_[0] if rest_ else ""
    print(json.dumps(play(int(seed_), int(cases_), variant_, outside_, wire_, folder_, break_rule_)))
