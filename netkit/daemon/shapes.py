"""Containers in the words of Docker's API: inspect, list, and the status that people read.

Everything is computed from the intent, the state of the run and the time: pure. Networks are in
`shapes_network`, requests in `shapes_create`, images in `shapes_image`.

    >>> status(State(status="exited", exit_code=1, finished="2026-01-31T12:00:00Z"), now=1769860920.0)
    'Exited (1) 2 minutes ago'
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from netkit.daemon import clock
from netkit.daemon.shapes_network import cidr, mac
from netkit.model import paths
from netkit.model.operation import Operation
from netkit.model.spec import DEFAULT_NETWORK, Container, Endpoint, Intent, Network, Publish

if TYPE_CHECKING:
    from netkit.runtime.containers import State

PortMap = dict[str, list[dict[str, str]] | None]


def operations(items: Iterable[Operation]) -> dict[str, Any]:
    """What `?dry_run=1`, plan, reconcile and teardown answer with."""
    return {"Operations": [_operation(item) for item in items]}


def inspect(container: Container, intent: Intent, state: "State", state_dir: str) -> dict[str, Any]:
    """GET /containers/X/json."""
    words = [*container.entrypoint, *container.command]
    folder = paths.folder(state_dir, container.id)
    return {
        "Id": container.id,
        "Created": container.created,
        "Path": words[0] if words else "",
        "Args": words[1:],
        "State": run_state(state),
        "Image": container.image_id,
        "ResolvConfPath": f"{folder}/resolv.conf",
        "HostnamePath": f"{folder}/hostname",
        "HostsPath": f"{folder}/hosts",
        "LogPath": f"{folder}/log",
        "Name": f"/{container.name}",
        "RestartCount": container.restarts,
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": host_config(container, intent),
        "GraphDriver": {"Name": "overlayfs", "Data": _layers(container, state_dir)},
        "Mounts": [],
        "Config": config(container),
        "NetworkSettings": network_settings(container, intent, state_dir),
    }


def summary(container: Container, intent: Intent, state: "State", now: float) -> dict[str, Any]:
    """An item of GET /containers/json."""
    attached = networks(container, intent)
    return {
        "Id": container.id,
        "Names": [f"/{container.name}", *_link_names(container, intent)],
        "Image": container.image,
        "ImageID": container.image_id,
        "Command": " ".join((*container.entrypoint, *container.command)),
        "Created": int(clock.seconds(container.created)),
        "Ports": _flat_ports(container),
        "Labels": dict(container.labels),
        "State": state.status,
        "Status": status(state, now),
        "HostConfig": {"NetworkMode": network_mode(container)},
        "NetworkSettings": {"Networks": attached},
        "Mounts": [],
    }


def status(state: "State", now: float) -> str:
    """`Up 3 minutes`, `Exited (0) 5 seconds ago`, `Created`."""
    if state.status in {"running", "paused"}:
        up = f"Up {clock.spell(now - clock.seconds(state.started))}"
        return up + " (Paused)" if state.status == "paused" else up
    if state.status == "exited":
        ago = clock.spell(now - clock.seconds(state.finished))
        return f"Exited ({state.exit_code}) {ago} ago"
    if state.status == "restarting":
        return f"Restarting ({state.exit_code}) {clock.spell(now - clock.seconds(state.finished))} ago"
    return state.status.capitalize()


def run_state(state: "State") -> dict[str, Any]:
    """The State of inspect."""
    running = state.status in {"running", "paused", "restarting"}
    return {
        "Status": state.status,
        "Running": running,
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom,
        "Dead": state.status == "dead",
        "Pid": state.pid if running else 0,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started or clock.NEVER,
        "FinishedAt": state.finished or clock.NEVER,
    }


def config(container: Container) -> dict[str, Any]:
    """The Config of inspect: the container's values, after the image's defaults were filled in."""
    return {
        "Hostname": container.hostname,
        "Domainname": container.domainname,
        "User": container.user,
        "AttachStdin": bool(container.raw.get("AttachStdin")),
        "AttachStdout": bool(container.raw.get("AttachStdout")),
        "AttachStderr": bool(container.raw.get("AttachStderr")),
        "ExposedPorts": {f"{port}/{protocol}": {} for port, protocol in container.exposed},
        "Tty": container.terminal,
        "OpenStdin": container.stdin,
        "StdinOnce": container.stdin_once,
        "Env": list(container.env),
        "Cmd": list(container.command) or None,
        "Image": container.image,
        "Volumes": None,
        "WorkingDir": container.workdir,
        "Entrypoint": list(container.entrypoint) or None,
        "OnBuild": None,
        "Labels": dict(container.labels),
        "StopSignal": container.stop_signal or "SIGTERM",
        "StopTimeout": container.stop_timeout_s,
    }


def host_config(container: Container, intent: Intent) -> dict[str, Any]:
    """The HostConfig of inspect: as it was asked for, with what has a value of its own by now."""
    asked = container.raw.get("HostConfig")
    base = dict(asked) if isinstance(asked, Mapping) else {}
    restart = {"Name": container.restart.policy, "MaximumRetryCount": container.restart.attempts}
    links = [f"/{path}" for path in _link_paths(container, intent)]
    return {
        "LogConfig": {"Type": "json-file", "Config": {}},
        "Binds": None,
        **base,
        "NetworkMode": network_mode(container),
        "PortBindings": _bindings(container.publish, unsaid=""),
        "PublishAllPorts": container.publish_all,
        "RestartPolicy": restart,
        "AutoRemove": container.auto_remove,
        "Links": links or None,
        "Memory": container.limits.memory,
        "NanoCpus": container.limits.nano_cpus,
        "PidsLimit": container.limits.pids or None,
        "CapAdd": list(container.cap_add) or None,
        "CapDrop": list(container.cap_drop) or None,
        "Privileged": container.privileged,
        "ReadonlyRootfs": container.read_only,
        "Dns": list(container.dns),
        "DnsSearch": list(container.dns_search),
        "DnsOptions": list(container.dns_options),
        "ExtraHosts": list(container.extra_hosts) or None,
        "Sysctls": dict(container.sysctls),
    }


def network_mode(container: Container) -> str:
    """none, host, container:ID, or the network that the container was created on."""
    if container.mode:
        return container.mode
    asked = container.raw.get("HostConfig")
    word = asked.get("NetworkMode") if isinstance(asked, Mapping) else ""
    return word if word and word != "default" else DEFAULT_NETWORK


def network_settings(container: Container, intent: Intent, state_dir: str) -> dict[str, Any]:
    """NetworkSettings, with the flat fields of old for the default network."""
    attached = networks(container, intent)
    flat = attached.get(DEFAULT_NETWORK, {})
    namespace = paths.namespace(state_dir, container)
    return {
        "Bridge": "",
        "SandboxID": container.id if container.running and namespace else "",
        "SandboxKey": namespace if container.running else "",
        "Ports": ports(container) if container.running else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": flat.get("EndpointID", ""),
        "Gateway": flat.get("Gateway", ""),
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": flat.get("IPAddress", ""),
        "IPPrefixLen": flat.get("IPPrefixLen", 0),
        "IPv6Gateway": "",
        "MacAddress": flat.get("MacAddress", ""),
        "Networks": attached,
    }


def networks(container: Container, intent: Intent) -> dict[str, Any]:
    """NetworkSettings.Networks: endpoints by the name of their network, in the order declared."""
    if container.mode in {"none", "host"}:
        return {container.mode: _bare_endpoint()}
    ends = sorted(container.endpoints.values(), key=lambda end: end.order)
    found = {}
    for end in ends:
        network = intent.networks.get(end.network)
        name = network.name if network else end.name or end.network
        found[name] = _endpoint(container, end, network, intent)
    return found


def ports(container: Container) -> PortMap:
    """NetworkSettings.Ports: published ports with their bindings, exposed ones with null."""
    found: PortMap = {f"{port}/{protocol}": None for port, protocol in container.exposed}
    return {**found, **_bindings(container.published)}


def _operation(item: Operation) -> dict[str, str]:
    return {
        "Verb": item.verb,
        "Kind": item.key.kind,
        "Name": item.key.name,
        "Owner": item.resource.owner,
        "Text": item.describe(),
    }


def _bindings(published: Iterable[Publish], unsaid: str = "0.0.0.0") -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for port in published:
        address = str(port.host_ip) if port.said else unsaid
        binding = {"HostIp": address, "HostPort": port.outside if port.host_port else ""}
        found.setdefault(f"{port.port}/{port.protocol}", []).append(binding)
    return found


def _flat_ports(container: Container) -> list[dict[str, Any]]:
    """Ports as a list has them: one item for each binding, and for each port without one."""
    if not container.running:
        return []
    found: list[dict[str, Any]] = []
    for inside, bindings in ports(container).items():
        port, _, protocol = inside.partition("/")
        item = {"PrivatePort": int(port), "Type": protocol}
        for one in bindings or ():
            found.append({"IP": one["HostIp"], **item, "PublicPort": int(one["HostPort"])})
        if not bindings:
            found.append(item)
    return found


def _bare_endpoint() -> dict[str, Any]:
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "MacAddress": "",
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }


def _endpoint(container: Container, end: Endpoint, network: Network | None, intent: Intent) -> dict[str, Any]:
    names = list(dict.fromkeys([container.name, *end.aliases, container.id[:12]]))
    leased = {
        "EndpointID": end.id,
        "Gateway": str(network.gateway) if network and not network.internal else "",
        "IPAddress": str(end.address),
        "IPPrefixLen": int(cidr(end.address, network).rpartition("/")[2] or 0),
        "MacAddress": mac(end),
    }
    return {
        **_bare_endpoint(),
        "IPAMConfig": {"IPv4Address": str(end.ip)} if end.ip else None,
        "Links": [path.partition(":")[0] for path in _link_paths(container, intent)] or None,
        "Aliases": list(end.aliases) or None,
        "DriverOpts": dict(end.options) or None,
        "GwPriority": end.priority,
        "NetworkID": end.network,
        "MacAddress": end.mac,
        "DNSNames": names,
        **(leased if end.address else {}),
    }


def _link_paths(container: Container, intent: Intent) -> list[str]:
    """`db:/web/database` for each link, as Docker's HostConfig.Links has them."""
    return [
        f"{target.name}:/{container.name}/{link.alias}"
        for link in container.links
        if (target := intent.containers.get(link.target))
    ]


def _link_names(container: Container, intent: Intent) -> list[str]:
    """`/web/database`: the names by which those that link to a container know it."""
    return [
        f"/{parent.name}/{link.alias}"
        for parent in intent.containers.values()
        for link in parent.links
        if link.target == container.id
    ]


def _layers(container: Container, state_dir: str) -> dict[str, str]:
    folder = paths.folder(state_dir, container.id)
    return {
        "LowerDir": ":".join(container.lowers),
        "UpperDir": f"{folder}/upper",
        "MergedDir": paths.rootfs(state_dir, container.id),
    }


def plain(value: Any) -> Any:
    """A struct as JSON with CamelCase names: {"exit_code": 1} is {"ExitCode": 1}."""
    items = msgspec.to_builtins(value)
    return {"".join(part.capitalize() for part in name.split("_")): item for name, item in items.items()}
