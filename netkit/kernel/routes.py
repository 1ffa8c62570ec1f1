"""The driver for containers' default routes.

A route is ours by its protocol number; one that somebody else made in the container stays, and
makes the creation of ours a conflict only where it is the default route as well.

    RouteDriver(Path("/var/lib/netkit/netns")).observe(None)
"""

import errno
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netkit.errors import ApplyError
from netkit.kernel import linkinfo
from netkit.kernel import rtnl as wire
from netkit.kernel.driver import OneByOne
from netkit.kernel.rtnl import Rtnl, RtnlError, in_each, message
from netkit.model.names import PROTOCOL
from netkit.model.resource import Resource, Route


class RouteDriver(OneByOne):
    """Default routes in the namespaces held in `folder`."""

    kinds = frozenset({"route"})

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        if scope is None:
            return self._everything()
        wanted = [resource for resource in scope if isinstance(resource, Route)]
        found = in_each({route.namespace for route in wanted}, _defaults)
        return [r for r in wanted if (r.gateway, r.link) in found.get(r.namespace, ())]

    def create(self, wanted: Resource) -> None:
        if not isinstance(wanted, Route):
            raise TypeError(f"not a route: {wanted!r}")
        try:
            with Rtnl.open(wanted.namespace) as inside:
                link = linkinfo.find(inside, wanted.link)
                if link is None:
                    raise ApplyError(f"there is no {wanted.link} in {wanted.namespace}")
                # Replace: a container that was cut off for a moment may have kept a dead one.
                inside.do(_default(wire.RTM_NEWROUTE, wire.REPLACE, wanted.gateway, link.index))
        except RtnlError as err:
            raise ApplyError(f"{wanted.describe()}: {err.strerror}") from err

    def modify(self, observed: Resource, wanted: Resource) -> None:
        self.create(wanted)

    def delete(self, observed: Resource) -> None:
        if not isinstance(observed, Route):
            raise TypeError(f"not a route: {observed!r}")
        try:
            inside = Rtnl.open(observed.namespace)
        except OSError:
            return  # gone with its namespace
        with inside:
            link = linkinfo.find(inside, observed.link)
            if link is None:
                return
            try:
                inside.do(_default(wire.RTM_DELROUTE, wire.ACK, observed.gateway, link.index))
            except RtnlError as err:
                if err.errno != errno.ESRCH:
                    raise

    def _everything(self) -> Iterator[Route]:
        """Our default routes; whose they are and over which veth is not kept by the kernel."""
        for namespace, found in in_each(sorted(map(str, self._folder.iterdir())), _defaults).items():
            for gateway, link in found:
                yield Route(namespace=namespace, gateway=gateway, veth="", link=link, owner="")


def _defaults(inside: Rtnl) -> list[tuple[str, str]]:
    """Our default routes in a namespace, as (gateway, name of the link)."""
    ours = [each for each in linkinfo.routes(inside, PROTOCOL) if each.destination == "0.0.0.0/0"]
    names = {link.index: link.name for link in linkinfo.links(inside)} if ours else {}
    return [(route.gateway, names.get(route.index, "")) for route in ours]


def _default(kind: int, flags: int, gateway: str, index: int) -> Any:
    attributes = [("RTA_GATEWAY", gateway), ("RTA_OIF", index)]
    return message(
        rtmsg,
        kind,
        flags,
        attributes,
        family=2,
        dst_len=0,
        table=254,
        proto=PROTOCOL,
        scope=0,
        type=1,
    )
