"""The driver for veth pairs: the host end in a bridge, the peer made inside the container.

One message makes both ends, the peer directly in its namespace; the peer's address is set through
a socket made there. Removing a pair costs the kernel 15 to 20 ms, almost all of it waiting: the
pair is taken out of its bridge at once and removed by a thread, and whoever needs the name waits.

    VethDriver(Rtnl.open(), Path("/var/lib/netkit/netns"))
"""

import contextlib
import errno
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from netkit.errors import ApplyError, Conflict
from netkit.kernel import libc, linkinfo
from netkit.kernel import rtnl as wire
from netkit.kernel.attributes import pack, pack_number, pack_text
from netkit.kernel.driver import OneByOne
from netkit.kernel.linkinfo import Link
from netkit.kernel.links import address_message, delete_link, is_routed, reach, set_link
from netkit.kernel.rtnl import Packed, Rtnl, RtnlError, in_each
from netkit.model.names import LINK_GROUP, PROTOCOL, mark
from netkit.model.resource import Resource, Veth


class _Peer(NamedTuple):
    """The end inside: its link, our address on it, and whether the route that came with that stands."""

    link: Link
    cidr: str
    routed: bool


class VethDriver(OneByOne):
    """Veth pairs whose host ends are in the namespace of `rtnl`, opened at `namespace`."""

    kinds = frozenset({"veth"})

    def __init__(self, rtnl: Rtnl, folder: Path, namespace: str = "") -> None:
        self._rtnl = rtnl
        self._folder = folder
        self._namespace = namespace
        self._removals = _Removals(namespace)

    def drain(self) -> None:
        """Wait until every pair that was given up has gone."""
        self._removals.drain()

    def close(self) -> None:
        self._removals.close()

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        if scope is None:
            self.drain()
            return self._everything()
        return self._observed([resource for resource in scope if isinstance(resource, Veth)])

    def create(self, wanted: Resource) -> None:
        if not isinstance(wanted, Veth):
            raise TypeError(f"not a veth: {wanted!r}")
        self._removals.wait(wanted.name)
        self._make_pair(wanted)
        try:
            self._dress(wanted)
        except BaseException:
            self.delete(wanted)  # half a pair is none
            raise

    def modify(self, observed: Resource, wanted: Resource) -> None:
        if not isinstance(wanted, Veth):
            raise TypeError(f"not a veth: {wanted!r}")
        link = self._find(wanted.name)
        bridge = self._bridge(wanted)
        # Two messages: the port's own settings are its bridge's to take.
        self._rtnl.do(
            set_link(link.index, up=True, mtu=wanted.mtu, master=bridge.index),
            set_link(link.index, group=LINK_GROUP, alias=mark(wanted.owner), hairpin=True),
        )
        with Rtnl.open(wanted.namespace) as inside:
            if peer := linkinfo.find(inside, wanted.peer):
                inside.do(set_link(peer.index, mtu=wanted.mtu))
                reach(inside, peer.index, wanted.cidr)

    def delete(self, observed: Resource) -> None:
        if not isinstance(observed, Veth):
            raise TypeError(f"not a veth: {observed!r}")
        if observed.name in self._removals:
            return
        link = linkinfo.find(self._rtnl, observed.name)
        if link is None:
            return
        try:
            self._rtnl.do(set_link(link.index, master=0))
        except RtnlError as err:
            if err.errno != errno.ENODEV:
                raise
        self._removals.add(observed.name, link.index)

    def _make_pair(self, wanted: Veth) -> None:
        bridge = self._bridge(wanted)
        try:
            descriptor = os.open(wanted.namespace, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as err:
            raise ApplyError(f"the namespace {wanted.namespace} has gone") from err
        try:
            self._rtnl.do(_pair(wanted, bridge.index, descriptor))
        except RtnlError as err:
            raise self._explained(wanted, err) from err
        finally:
            os.close(descriptor)

    def _dress(self, wanted: Veth) -> None:
        """Give the new pair its mark in words and put it up, and give its peer an address."""
        self._without_ipv6(wanted.name)
        link = self._find(wanted.name)
        # Hairpin: a container that calls its own published port is led back to where it came from.
        self._rtnl.do(set_link(link.index, up=True, alias=mark(wanted.owner), hairpin=True))
        with Rtnl.open(wanted.namespace) as inside:
            peer = linkinfo.find(inside, wanted.peer)
            if peer is None:
                raise ApplyError(f"the peer {wanted.peer} of {wanted.name} has vanished")
            try:
                inside.do(
                    address_message(wire.RTM_NEWADDR, wire.REPLACE, peer.index, wanted.cidr),
                    set_link(peer.index, up=True),
                )
            except RtnlError as err:
                raise ApplyError(f"{wanted.describe()}: {err.strerror}") from err

    def _without_ipv6(self, name: str) -> None:
        """Switch IPv6 off on a host end: a port of a bridge has no use for it (docs/decisions/0010)."""
        setting = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")

        def write() -> None:
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                setting.write_text("1")

        libc.in_namespace(self._namespace, write) if self._namespace else write()

    def _explained(self, wanted: Veth, err: RtnlError) -> ApplyError | Conflict:
        if err.errno == errno.EEXIST:
            if linkinfo.find(self._rtnl, wanted.name):
                return Conflict(
                    f"an interface named {wanted.name} exists already",
                    hint=f"remove it: ip link del {wanted.name}",
                )
            return Conflict(
                f"the container has an interface named {wanted.peer} already",
                hint="choose another interface name",
            )
        return ApplyError(f"{wanted.describe()}: {err.strerror}", hint="is the MTU too large?")

    def _observed(self, scope: Sequence[Veth]) -> Iterator[Veth]:
        # Who is given up is asked first: what is removed while we look would be found all the same.
        kept = [wanted for wanted in scope if wanted.name not in self._removals]
        links = {wanted.name: linkinfo.find(self._rtnl, wanted.name) for wanted in kept}
        insides = in_each({wanted.namespace for wanted in kept if links[wanted.name]}, _peers)
        for wanted in kept:
            link = links[wanted.name]
            if link is None or not link.ours:
                continue
            bridge = linkinfo.find(self._rtnl, wanted.bridge)
            in_place = bridge is not None and link.master == bridge.index
            peers = insides.get(wanted.namespace)
            found = (p for p in peers or () if (p.link.index, p.link.name) == (link.peer, wanted.peer))
            namespace = "" if peers is None else wanted.namespace
            yield _veth(wanted.bridge if in_place else "", link, namespace, next(found, None))

    def _everything(self) -> Iterator[Veth]:
        links = {link.index: link for link in linkinfo.links(self._rtnl)}
        ours = {i: link for i, link in links.items() if link.ours and link.kind == "veth"}
        seen: set[int] = set()
        insides = in_each(sorted(map(str, self._folder.iterdir())), _peers) if ours else {}
        for namespace, peers in insides.items():
            for peer in peers:
                link = ours.get(peer.link.peer)
                if link is None or link.peer != peer.link.index or link.index in seen:
                    continue
                seen.add(link.index)
                master = links.get(link.master)
                yield _veth(master.name if master else "", link, namespace, peer)
        for index, link in ours.items():
            if index not in seen:
                yield _veth("", link, "", None)

    def _find(self, name: str) -> Link:
        link = linkinfo.find(self._rtnl, name)
        if link is None:
            raise ApplyError(f"the link {name} has vanished", hint="somebody has removed it")
        return link

    def _bridge(self, wanted: Veth) -> Link:
        bridge = linkinfo.find(self._rtnl, wanted.bridge)
        if bridge is None:
            raise ApplyError(
                f"there is no bridge named {wanted.bridge}", hint="`netkit reconcile` makes it again"
            )
        return bridge


class _Removals:
    """A thread that removes links which have been given up, one after the other."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._queue: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        self._pending: dict[str, threading.Event] = {}
        self._thread: threading.Thread | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._pending

    def add(self, name: str, index: int) -> None:
        self._pending[name] = threading.Event()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="veth-removal", daemon=True)
            self._thread.start()
        self._queue.put((name, index))

    def wait(self, name: str) -> None:
        if event := self._pending.get(name):
            event.wait()

    def drain(self) -> None:
        for event in tuple(self._pending.values()):
            event.wait()

    def close(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        with Rtnl.open(self._namespace) as rtnl:
            while (item := self._queue.get()) is not None:
                name, index = item
                try:
                    rtnl.do(delete_link(index))
                except OSError:
                    # Gone with its namespace, or it is still there and the next reconcile sees it.
                    pass
                finally:
                    self._pending.pop(name).set()


def _pair(wanted: Veth, bridge: int, namespace: int) -> Packed:
    """The one message that makes both ends. The peer cannot be up yet: it has no other end."""
    mtu = pack_number(linkinfo.IFLA_MTU, wanted.mtu)
    peer = linkinfo.head() + pack_text(linkinfo.IFLA_IFNAME, wanted.peer) + mtu
    peer += pack(linkinfo.IFLA_ADDRESS, bytes.fromhex(wanted.mac.replace(":", "")))
    peer += pack_number(linkinfo.IFLA_NET_NS_FD, namespace)
    kind = pack_text(linkinfo.IFLA_INFO_KIND, "veth")
    data = pack(linkinfo.IFLA_INFO_DATA, pack(linkinfo.VETH_INFO_PEER, peer))
    body = linkinfo.head() + pack_text(linkinfo.IFLA_IFNAME, wanted.name) + mtu
    body += pack_number(linkinfo.IFLA_GROUP, LINK_GROUP) + pack_number(linkinfo.IFLA_MASTER, bridge)
    return Packed(wire.RTM_NEWLINK, wire.CREATE, body + pack(linkinfo.IFLA_LINKINFO, kind + data))


def _peers(inside: Rtnl) -> list[_Peer]:
    """The veths inside a namespace, each with our address; those added besides are the user's."""
    peers = linkinfo.links(inside, "veth")
    if not peers:
        return []
    ours = [each for each in linkinfo.addresses(inside) if each.protocol == PROTOCOL]
    cidrs = {each.index: each.cidr for each in reversed(ours)}
    reached = linkinfo.on_link(inside)
    return [
        _Peer(link, cidr := cidrs.get(link.index, ""), not cidr or is_routed(link.index, cidr, reached))
        for link in peers
    ]


def _veth(bridge: str, link: Link, namespace: str, peer: _Peer | None) -> Veth:
    """What is seen of a pair; a part that is missing or down shows as empty, and so differs.

    What is amiss and can be mended in place shows as a pair that is in no bridge, or without its MTU.
    """
    alive = peer is not None and peer.link.up
    in_order = link.up and link.hairpin and (peer is None or peer.routed)
    return Veth(
        name=link.name,
        bridge=bridge if in_order else "",
        mtu=link.mtu if peer is None or peer.link.mtu == link.mtu else 0,
        namespace=namespace,
        peer=peer.link.name if peer is not None and alive else "",
        mac=peer.link.mac if peer is not None else "",
        cidr=peer.cidr if peer is not None else "",
        owner=link.marked,
    )
