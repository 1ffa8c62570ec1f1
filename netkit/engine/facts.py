"""Facts about the host, read for decisions that need them and given to these as a value.

Reading all of them takes some milliseconds, so each verb asks for what it needs: a new network
for routes and interfaces, published ports for who listens, most for neither.

    host = Facts(options, rtnl).read(ports=frozenset({("tcp", 8080)}))
"""

import random
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
from netaddr import IPNetwork

from netkit.kernel.hostnet import HostNetwork
from netkit.kernel.listeners import listeners, port_range
from netkit.model.spec import Host, Intent

_RESOLV_CONF = Path("/etc/resolv.conf")


class Facts:
    """Reads the host; `base` holds what the daemon's options say and never changes."""

    def __init__(self, base: Host, network: HostNetwork) -> None:
        self._base = base
        self._network = network

    def read(
        self,
        intent: Intent,
        *,
        links: bool = False,
        ports: Collection[tuple[str, int]] | None = None,
        leasing: Collection[str] = (),
    ) -> Host:
        """The host as it is. `links`: routes, interfaces and addresses; `ports`: who listens on these, and
        what addresses there are to listen on; `leasing`: the host's addresses on these bridges, which are
        then not given to containers. Those on bridges that others made are always told.
        """
        facts: dict[str, object] = {"resolv_conf": _resolv_conf()}
        if links:
            own = {network.bridge for network in intent.networks.values()}
            facts |= {
                "routes": tuple(IPNetwork(dst) for dst, out in self._network.routes() if out not in own),
                "interfaces": self._network.kinds(),
                "uplink_mtu": self._network.uplink_mtu(),
            }
        bridges = {network.bridge for network in intent.networks.values() if network.adopted}
        if links or bridges or leasing:
            facts["addresses"] = self._addresses(None if links else bridges.union(leasing))
        if ports is not None:
            facts |= {
                "listeners": _listeners(ports),
                "own": tuple(IPNetwork(cidr) for cidr in self._network.own()),
                "port_range": port_range(),
                "entropy": random.getrandbits(16),
            }
        return msgspec.structs.replace(self._base, **facts)

    def _addresses(self, links: Collection[str] | None) -> Mapping[str, tuple[IPNetwork, ...]]:
        """The addresses that are not ours, by link."""
        return {
            link: tuple(IPNetwork(cidr) for cidr in cidrs)
            for link, cidrs in self._network.foreign_addresses(links).items()
        }


def _listeners(ports: Collection[tuple[str, int]]) -> Mapping[tuple[str, str, int], str]:
    """Who listens, by protocol, IPv4 address (or ::, which takes both) and port.

    Which program it is takes a look at every process, so it is asked only of ports that clash.
    """
    found = {key: who for key, who in listeners(None).items() if ":" not in key[1] or key[1] == "::"}
    clashing = {(protocol, port) for protocol, _, port in found} & set(ports)
    return {**found, **{k: w for k, w in listeners(clashing).items() if k in found}} if clashing else found


def _resolv_conf() -> str:
    """The host's resolver file, less servers on its own loopback: a container cannot reach those."""
    try:
        lines = _RESOLV_CONF.read_text().splitlines()
    except OSError:
        return ""
    kept = (line for line in lines if not line.replace("\t", " ").startswith("nameserver 127."))
    return "".join(f"{line}\n" for line in kept)
