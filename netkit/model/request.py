"""Requests: what one call asks for, parsed, before it is held against the intent.

A request is well formed by itself; whether it fits what is there (`br0` exists, the address is
free) is for `core.admit` to say. Containers and networks are named by `ref`: a name, an id or
an unambiguous prefix of one.

    >>> NetworkRequest(name="br0").driver
    'bridge'
"""

from collections.abc import Mapping
from typing import Any

from netaddr import IPAddress, IPNetwork

from netkit.model.spec import Limits, Publish, Restart, Spec


class NetworkRequest(Spec, frozen=True):
    """`network create` and `bridge add`. What is None or empty is chosen by netkit.

    `bridge` is the name of the link; `adopt` says that it exists and is somebody else's.
    `subnet` may carry host bits, which then name the gateway (192.168.100.1/24). The gateway is the
    bridge itself; `router` is somebody else on its LAN, where the containers' default route is to go.
    """

    name: str
    driver: str = "bridge"
    bridge: str = ""
    adopt: bool = False
    subnet: IPNetwork | None = None
    ip_range: IPNetwork | None = None
    gateway: IPAddress | None = None
    router: IPAddress | None = None
    auxiliary: Mapping[str, IPAddress] = {}
    internal: bool = False
    attachable: bool = True
    icc: bool | None = None
    masquerade: bool | None = None
    host_binding: IPAddress | None = None
    mtu: int = 0
    options: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}


class EndpointRequest(Spec, frozen=True):
    """One attachment to network `network` (a ref), with what is wished for it.

    `links` are (container ref, alias) pairs, `priority` chooses the default route: the highest wins.
    """

    network: str
    ip: IPAddress | None = None
    mac: str = ""
    interface: str = ""
    aliases: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    priority: int = 0
    options: Mapping[str, str] = {}


class ContainerRequest(Spec, frozen=True):
    """`create` and `run`: a container as asked for, its image already resolved.

    What it does not say itself (variables, command, entry point and the like) has the image's defaults;
    `mode` is "default", "none", "host", "container:REF" or a network's ref, as Docker's NetworkMode.
    """

    image: str
    image_id: str
    lowers: tuple[str, ...]
    name: str = ""
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
    mode: str = "default"
    exposed: tuple[tuple[int, str], ...] = ()
    publish: tuple[Publish, ...] = ()
    publish_all: bool = False
    links: tuple[tuple[str, str], ...] = ()
    endpoints: tuple[EndpointRequest, ...] = ()
    raw: Mapping[str, Any] = {}


class Caller(Spec, frozen=True):
    """Who asks (a login name) and in which words ("network connect br0 web"), for `blame`."""

    user: str
    verb: str
