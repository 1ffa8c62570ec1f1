"""Specs: what users asked for, parsed and valid, and the intent that holds all of it.

Everything here is frozen. Strings from users become values at this door (`parse_publish`,
`parse_address`, `parse_subnet`), and nothing downstream checks them again. The intent is the only
thing that netkit stores; the kernel is made to match it.

    >>> parse_publish("127.0.0.1:8080:80/tcp")[0].describe()
    '127.0.0.1:8080->80/tcp'
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from netaddr import AddrFormatError, IPAddress, IPNetwork

from netkit.errors import SpecError
from netkit.model.words import parse_ipv4, parse_publication

DEFAULT_NETWORK = "bridge"  # the name Docker's clients know the default network by
DEFAULT_BRIDGE = "netkit0"


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all specs share."""


class Network(Spec, frozen=True):
    """A network on a bridge. Its containers' default route goes to `gateway`.

    `address` is the bridge's own where that is not the gateway, which is a router beside it then.
    `ip_range` is what containers get addresses from (the fixed-cidr); `auxiliary` names addresses
    that are somebody else's; `adopted` says that the bridge was there before us; `cursor` is the
    address given out last, so that the next one differs; `host_binding` is the host address of
    published ports that name none, where the network has one for them.
    """

    id: str
    name: str
    bridge: str
    subnet: IPNetwork
    gateway: IPAddress
    ip_range: IPNetwork
    created: str
    address: IPAddress | None = None
    mtu: int = 1500
    auxiliary: Mapping[str, IPAddress] = {}
    internal: bool = False
    icc: bool = True
    masquerade: bool = True
    host_binding: IPAddress | None = None
    adopted: bool = False
    attachable: bool = True
    ports: tuple[str, ...] = ()
    options: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    cursor: int = 0

    @property
    def owner(self) -> str:
        return f"network/{self.name}"

    @property
    def own(self) -> IPAddress:
        """The host's address on this network."""
        return self.address or self.gateway

    @property
    def default(self) -> bool:
        return self.name == DEFAULT_NETWORK


class Publish(Spec, frozen=True):
    """One published port: `host_ip:host_port` leads to `port` of the container.

    `host_port` 0 means: choose one when the container starts, `host_last` above it: the first free
    one of that range. `host_ip` 0.0.0.0 is every address of the host where `everywhere` says so, else
    nobody has said which: the network's or the daemon's default, chosen when the container starts.
    """

    port: int
    protocol: str = "tcp"
    host_port: int = 0
    host_ip: IPAddress = IPAddress("0.0.0.0")
    host_last: int = 0
    everywhere: bool = False

    @property
    def said(self) -> bool:
        """Whether a host address was named, every one included."""
        return self.everywhere or bool(int(self.host_ip))

    @property
    def host_ports(self) -> range:
        """The host ports that would do; empty where any would."""
        return range(self.host_port, max(self.host_port, self.host_last) + 1) if self.host_port else range(0)

    @property
    def outside(self) -> str:
        """The host ports as they are written: `8000`, `8000-8005`, or `0` for any."""
        return f"{self.host_port}-{self.host_last}" if self.host_last else f"{self.host_port}"

    def describe(self) -> str:
        return f"{self.host_ip}:{self.outside}->{self.port}/{self.protocol}"


class Link(Spec, frozen=True):
    """A container may reach the exposed ports of `target` (a container id) and knows it as `alias`."""

    target: str
    alias: str


class Endpoint(Spec, frozen=True):
    """A container's attachment to a network, wanted (`ip`, `mac`, …) and leased (`address`).

    `address` is None while the container is not running: the lease went back to the network. That may
    be removed meanwhile; `name` is what it was called.
    """

    network: str
    id: str
    name: str = ""
    ip: IPAddress | None = None
    mac: str = ""
    interface: str = ""
    aliases: tuple[str, ...] = ()
    priority: int = 0
    order: int = 0
    options: Mapping[str, str] = {}
    address: IPAddress | None = None


class Limits(Spec, frozen=True):
    """cgroup limits; 0 is none. `memory` in bytes, `cpus` in units of 1e-9 processors."""

    memory: int = 0
    nano_cpus: int = 0
    pids: int = 0


class Restart(Spec, frozen=True):
    """When to start a container again: no, on-failure, always, unless-stopped.

    `attempts` bounds on-failure; 0 is no bound.
    """

    policy: str = "no"
    attempts: int = 0


class Container(Spec, frozen=True):
    """A container as asked for, and what of it is wanted now (`running`).

    `user` is as asked for, `uid`, `gid`, `groups` and `home` what the image makes of it.
    `mode` is how it is networked: "" for its endpoints, "none", "host" or "container:ID".
    `published` has the host ports chosen for `publish` (and `publish_all`) while it runs,
    `link_env` the variables of its links as they were when it started. `halted` says that
    somebody stopped it, which `--restart unless-stopped` remembers, `restarts` how often its
    policy has brought it back since somebody started it. `started`, `finished` (RFC 3339),
    `exit_code` and `oom_killed` are those of its latest run, `error` why it could not start.
    """

    id: str
    name: str
    image: str
    image_id: str
    lowers: tuple[str, ...]
    created: str
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/root"
    hostname: str = ""
    domainname: str = ""
    labels: Mapping[str, str] = {}
    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False
    stop_signal: str = ""
    stop_timeout_s: int = 10
    limits: Limits = Limits()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    read_only: bool = False
    sysctls: Mapping[str, str] = {}
    extra_hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    auto_remove: bool = False
    restart: Restart = Restart()
    mode: str = ""
    exposed: tuple[tuple[int, str], ...] = ()
    publish: tuple[Publish, ...] = ()
    publish_all: bool = False
    links: tuple[Link, ...] = ()
    endpoints: Mapping[str, Endpoint] = {}
    running: bool = False
    halted: bool = False
    restarts: int = 0
    published: tuple[Publish, ...] = ()
    link_env: tuple[str, ...] = ()
    started: str = ""
    finished: str = ""
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    raw: Mapping[str, Any] = {}
    """The body of the create request, for `inspect` to give back."""

    @property
    def owner(self) -> str:
        return f"container/{self.name}"


class Intent(msgspec.Struct, frozen=True):
    """All specs accepted so far, by id, with their leases. Changed only by making another one."""

    networks: Mapping[str, Network] = MappingProxyType({})
    containers: Mapping[str, Container] = MappingProxyType({})

    def with_network(self, network: Network) -> "Intent":
        return Intent({**self.networks, network.id: network}, self.containers)

    def without_network(self, network_id: str) -> "Intent":
        rest = {k: v for k, v in self.networks.items() if k != network_id}
        return Intent(rest, self.containers)

    def with_container(self, container: Container) -> "Intent":
        return Intent(self.networks, {**self.containers, container.id: container})

    def without_container(self, container_id: str) -> "Intent":
        rest = {k: v for k, v in self.containers.items() if k != container_id}
        return Intent(self.networks, rest)


ANYWHERE = IPNetwork("0.0.0.0/0")


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine is: facts read by the hands, given to decisions as an argument.

    `routes` are the host's routes except those of our own networks' bridges; `listeners` maps
    (protocol, address, port) to the program that has it; `uplink_mtu` is the default route's; `own`
    is what the host takes for its own, which is anything where nobody has looked.
    """

    state_dir: str
    routes: tuple[IPNetwork, ...] = ()
    interfaces: Mapping[str, str] = {}
    listeners: Mapping[tuple[str, str, int], str] = {}
    uplink_mtu: int = 1500
    port_range: tuple[int, int] = (49153, 65535)
    own: tuple[IPNetwork, ...] = (ANYWHERE,)
    resolv_conf: str = ""
    addresses: Mapping[str, tuple[IPNetwork, ...]] = {}
    iptables: bool = True
    ip_forward: bool = True
    default_ip: IPAddress = IPAddress("0.0.0.0")
    pools: tuple[tuple[IPNetwork, int], ...] = ()
    entropy: int = 0


def parse_subnet(text: str, what: str = "subnet") -> IPNetwork:
    """An IPv4 network in CIDR form; host bits are kept. Raises SpecError."""
    try:
        network = IPNetwork(text)
    except (AddrFormatError, ValueError) as err:
        raise SpecError(f"invalid {what} {text!r}", hint="write it as 192.168.100.0/24") from err
    if network.version != 4 or "/" not in text:
        raise SpecError(f"invalid {what} {text!r}", hint="an IPv4 network such as 192.168.100.0/24")
    return network


def parse_address(text: str, what: str = "address") -> IPAddress:
    """An IPv4 address. Raises SpecError."""
    return IPAddress(parse_ipv4(text, what))


def parse_publish(text: str) -> tuple[Publish, ...]:
    """Published ports as `words.parse_publication` takes them. Raises SpecError."""
    return tuple(
        Publish(
            port=each.port,
            protocol=each.protocol,
            host_port=each.host_port,
            host_last=each.host_last,
            host_ip=IPAddress(each.host_ip or "0.0.0.0"),
            everywhere=each.host_ip == "0.0.0.0",
        )
        for each in parse_publication(text)
    )


def encode_value(value: object) -> object:
    """msgspec's enc_hook: addresses as text."""
    if isinstance(value, IPAddress | IPNetwork):
        return str(value)
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def decode_value(kind: type, value: object) -> object:
    """msgspec's dec_hook: text as addresses."""
    if kind is IPAddress:
        return IPAddress(str(value))
    if kind is IPNetwork:
        return IPNetwork(str(value))
    raise TypeError(f"{kind.__name__} has no JSON form")
