"""Resources: one thing in the kernel, each as a value. Wanted and observed ones are the same kind.

A resource has a `key` (what it is, for ever), `needs` (keys that must exist before it) and an
`owner` (the network, container, endpoint, publication or link it serves: its mark). Two resources with
the same key and different fields are the same thing in two states. The values hold plain words
and numbers as the kernel has them; whoever decides with addresses does it in netaddr.

    >>> Bridge(name="br0", mtu=1500, owner="network/br0").describe()
    'bridge br0 mtu 1500'
"""

from typing import ClassVar, NamedTuple

import msgspec

from netkit.model.rule import Rule


class Key(NamedTuple):
    """What a resource is: its kind and its name among that kind."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Resource(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag=str.lower):
    """What all resources share.

    `changeable` names the fields that a modify can change in place, `unseen` those that the kernel
    does not keep with the thing and that are therefore not compared. An `external` one is somebody
    else's: it may be needed and brought up, and is never removed.
    """

    owner: str
    changeable: ClassVar[frozenset[str]] = frozenset()
    unseen: ClassVar[frozenset[str]] = frozenset()
    external: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()

    @property
    def key(self) -> Key:
        return Key(self.kind, self.name_of())

    @property
    def needs(self) -> tuple[Key, ...]:
        return ()

    @property
    def falls_with(self) -> tuple[Key, ...]:
        """Those of its needs whose loss the thing does not survive; most are replaced with all."""
        return self.needs

    def name_of(self) -> str:
        """The name among its kind."""
        raise TypeError(f"{type(self).__name__} has no name")  # an abstract kind has no instances

    def describe(self) -> str:
        """The canonical one line, without the owner."""
        return str(self.key)


class Sysctl(Resource, frozen=True):
    """A kernel setting, `name` in dotted form without escapes: `net.ipv4.ip_forward`.

    When it is no longer wanted it gets back the value it had before us (the store remembers it: the
    one thing that cannot be observed). `link` is the bridge whose setting it is, if any.
    """

    name: str
    value: str
    link: str = ""
    changeable = frozenset({"value", "owner"})
    unseen = frozenset({"owner", "link"})

    def name_of(self) -> str:
        return self.name

    @property
    def needs(self) -> tuple[Key, ...]:
        return (Key("bridge", self.link),) if self.link else ()

    def describe(self) -> str:
        return f"sysctl {self.name}={self.value}"


class Namespace(Resource, frozen=True):
    """A network namespace, `held` by a bind mount on `path`; its loopback is `up`."""

    path: str
    held: bool = True
    up: bool = True
    changeable = frozenset({"up", "owner"})
    unseen = frozenset({"owner"})

    def name_of(self) -> str:
        return self.path


class Bridge(Resource, frozen=True):
    """A Linux bridge that we made, up. Its MAC is fixed so that ports coming and going keep it."""

    name: str
    mtu: int
    changeable = frozenset({"mtu", "owner"})

    def name_of(self) -> str:
        return self.name

    def describe(self) -> str:
        return f"bridge {self.name} mtu {self.mtu}"


class Adopted(Resource, frozen=True):
    """A bridge that somebody else made and we may use: made sure to exist and be up, never removed.

    It is observed in place of a Bridge and has its key, so that what needs a bridge need not ask
    which of the two it is.
    """

    name: str
    changeable = frozenset({"owner"})
    unseen = frozenset({"owner"})
    external = True

    @property
    def key(self) -> Key:
        return Key("bridge", self.name)

    def name_of(self) -> str:
        return self.name

    def describe(self) -> str:
        return f"adopted bridge {self.name}"


class Port(Resource, frozen=True):
    """A link of the host (`eth1`) that the user put into a bridge."""

    link: str
    bridge: str
    changeable = frozenset({"bridge", "owner"})

    def name_of(self) -> str:
        return self.link

    @property
    def needs(self) -> tuple[Key, ...]:
        return (Key("bridge", self.bridge),)

    def describe(self) -> str:
        return f"port {self.link} of {self.bridge}"


class Address(Resource, frozen=True):
    """An address in CIDR form on a bridge of the host, with the route to its subnet."""

    link: str
    cidr: str
    routed: bool = True
    changeable = frozenset({"routed", "owner"})
    unseen = frozenset({"owner"})

    def name_of(self) -> str:
        return f"{self.cidr} dev {self.link}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (Key("bridge", self.link),)


class Veth(Resource, frozen=True):
    """A veth pair: `name` on the host in `bridge`; `peer` in `namespace` with its addresses, up.

    The pair, the peer's MAC and the peer's address are one value because they live and die together, and
    because one driver call can then make them with one socket.
    """

    name: str
    bridge: str
    mtu: int
    namespace: str
    peer: str
    mac: str
    cidr: str
    changeable = frozenset({"bridge", "mtu", "owner"})

    def name_of(self) -> str:
        return self.name

    @property
    def needs(self) -> tuple[Key, ...]:
        return Key("bridge", self.bridge), Key("namespace", self.namespace)

    @property
    def falls_with(self) -> tuple[Key, ...]:
        return (Key("namespace", self.namespace),)  # it outlives its bridge, and can be put back

    def describe(self) -> str:
        inside = f"{self.peer} {self.cidr} {self.mac} mtu {self.mtu}"
        return f"veth {self.name} in {self.bridge}, peer {inside} in {self.namespace}"


class Route(Resource, frozen=True):
    """The default route of a container: via `gateway` on the veth whose host end is `veth`."""

    namespace: str
    gateway: str
    veth: str
    link: str
    changeable = frozenset({"owner"})
    unseen = frozenset({"owner", "veth"})

    def name_of(self) -> str:
        return f"default via {self.gateway} dev {self.link} in {self.namespace}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return Key("namespace", self.namespace), Key("veth", self.veth)


class IpSet(Resource, frozen=True):
    """An ipset, `type` as ipset names it (`hash:ip,port,ip`), IPv4, with comments on members."""

    name: str
    type: str
    changeable = frozenset({"owner"})

    def name_of(self) -> str:
        return self.name

    def describe(self) -> str:
        return f"ipset {self.name} {self.type}"


class Member(Resource, frozen=True):
    """A member of an ipset, as `ipset list` prints it: `10.0.0.2,tcp:80,10.0.0.3`."""

    set: str
    entry: str
    changeable = frozenset({"owner"})

    def name_of(self) -> str:
        return f"{self.set} {self.entry}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (Key("ipset", self.set),)


class Chain(Resource, frozen=True):
    """A chain of our own. `rules` come first in it and in this order; Entries come after them.

    `keep` marks the chain that belongs to the user: made when missing, its content never looked
    at, removed only when it is empty.
    """

    table: str
    name: str
    rules: tuple[Rule, ...] = ()
    keep: bool = False
    changeable = frozenset({"rules", "owner"})

    def name_of(self) -> str:
        return f"{self.table} {self.name}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return _needs_of(self.table, self.rules)

    def describe(self) -> str:
        return "\n    ".join((f"chain {self.table} {self.name}", *(r.text() for r in self.rules)))


class Hook(Resource, frozen=True):
    """Our rules at the top of a built-in chain, mostly jumps, in this order."""

    table: str
    chain: str
    rules: tuple[Rule, ...]
    changeable = frozenset({"rules", "owner"})

    def name_of(self) -> str:
        return f"{self.table} {self.chain}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return _needs_of(self.table, self.rules)

    def describe(self) -> str:
        return "\n    ".join((f"hook {self.table} {self.chain}", *(r.text() for r in self.rules)))


class Entry(Resource, frozen=True):
    """One rule in a chain of ours, in no particular order among the entries of that chain.

    It is known by what it matches, so that another target, destination or owner is a change of it.
    `subnet` is whose traffic it decides, where that matters to connections that are tracked already.
    """

    table: str
    chain: str
    rule: Rule
    subnet: str = ""
    changeable = frozenset({"rule", "owner"})
    unseen = frozenset({"subnet"})

    def name_of(self) -> str:
        return f"{self.table} {self.chain} {self.rule.matching()}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return Key("chain", f"{self.table} {self.chain}"), *_needs_of(self.table, (self.rule,))

    def describe(self) -> str:
        return f"rule {self.table} {self.chain} {self.rule.text()}"


class File(Resource, frozen=True):
    """A file under the state folder, bind-mounted into a container: hosts, hostname, resolv.conf.

    It is rewritten in place, never replaced: the container's mount holds the inode. Where somebody
    else replaced it, it is not `shown` to the container until it has been mounted anew.
    """

    path: str
    content: str
    shown: bool = True
    changeable = frozenset({"content", "shown", "owner"})
    unseen = frozenset({"owner"})

    def name_of(self) -> str:
        return self.path

    def describe(self) -> str:
        return f"file {self.path} ({len(self.content)} bytes)"


class Mount(Resource, frozen=True):
    """An overlay on `target`: the read-only `lowers`, first on top, under a writable `upper`."""

    target: str
    lowers: tuple[str, ...]
    upper: str
    work: str
    unseen = frozenset({"owner"})

    def name_of(self) -> str:
        return self.target


class Process(Resource, frozen=True):
    """A container made by the OCI runtime from `config` (the text of its config.json).

    The resource is the created container; starting its process is the runtime's verb, because a
    process that has ended is not a difference to be mended but an event.
    """

    container: str
    config: str
    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False
    namespace: str = ""
    rootfs: str = ""
    files: tuple[str, ...] = ()
    unseen = frozenset({"owner"})

    def name_of(self) -> str:
        return self.container

    @property
    def needs(self) -> tuple[Key, ...]:
        namespace = (Key("namespace", self.namespace),) if self.namespace else ()
        return (*namespace, Key("mount", self.rootfs), *(Key("file", path) for path in self.files))

    @property
    def falls_with(self) -> tuple[Key, ...]:
        # A file that somebody removed is written again; the process is not killed for it.
        return tuple(need for need in self.needs if need.kind != "file")


AnyResource = (
    Sysctl | Namespace | Bridge | Adopted | Port | Address | Veth | Route
    | IpSet | Member | Chain | Hook | Entry | File | Mount | Process
)  # fmt: skip


def _needs_of(table: str, rules: tuple[Rule, ...]) -> tuple[Key, ...]:
    """The sets that rules match on and the chains of ours that they jump to."""
    chains = {Key("chain", f"{table} {r.target}") for r in rules if r.target.startswith("NETKIT-")}
    sets = {Key("ipset", match.name) for r in rules for match in r.sets}
    return (*sorted(chains), *sorted(sets))
