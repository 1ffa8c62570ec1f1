"""From Docker's create and connect bodies to requests: pure translation, no look at the host.

What the image says fills what the request leaves open, as `docker run` does it: its command and
entrypoint, variables, user, folder, labels, ports and stop signal.

    >>> container(decode(CreateBody, b'{"Image": "box", "Cmd": ["ls"]}'), image, {}).command
    ('ls',)
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from netkit.daemon.bodies import CreateBody, EndpointBody, HostBody, PortBinding
from netkit.daemon.signals import signal_number
from netkit.errors import SpecError, Unsupported
from netkit.model.names import nearest, parse_interface
from netkit.model.request import ContainerRequest, EndpointRequest
from netkit.model.spec import DEFAULT_NETWORK, Limits, Publish, Restart, parse_address
from netkit.model.words import parse_expose, parse_extra_host, parse_link, parse_mac, parse_ports

if TYPE_CHECKING:
    from netkit.runtime.images import Image

IFNAME_OPTION = "com.docker.network.endpoint.ifname"
_UNNETWORKED = ("none", "host")
_MOST_PIDS = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h


def container(body: CreateBody, image: "Image", raw: Mapping[str, Any], name: str = "") -> ContainerRequest:
    """The request for a container. Raises SpecError, Unsupported."""
    host = body.host_config
    command, entrypoint = _command(body, image)
    mode, endpoints = _attachments(body)
    return ContainerRequest(
        image=body.image,
        image_id=image.id,
        lowers=tuple(image.lowers),
        name=name,
        command=command,
        entrypoint=entrypoint,
        env=_env(body.env, image.env),
        workdir=body.working_dir or image.workdir,
        user=body.user or image.user,
        hostname=body.hostname,
        domainname=body.domainname,
        labels={**image.labels, **body.labels},
        terminal=body.tty,
        stdin=body.open_stdin,
        stdin_once=body.stdin_once,
        stop_signal=_signal(body.stop_signal or image.stop_signal),
        stop_timeout_s=body.stop_timeout,
        limits=_limits(host),
        cap_add=tuple(host.cap_add),
        cap_drop=tuple(host.cap_drop),
        privileged=host.privileged,
        read_only=host.readonly_rootfs,
        sysctls=host.sysctls,
        extra_hosts=tuple(parse_extra_host(item) for item in host.extra_hosts),
        dns=tuple(str(parse_address(item, "DNS server")) for item in host.dns),
        dns_search=tuple(host.dns_search),
        dns_options=tuple(host.dns_options),
        auto_remove=host.auto_remove,
        restart=_restart(host),
        mode=mode,
        exposed=_exposed(body.exposed_ports, image),
        publish=publications(host.port_bindings),
        publish_all=host.publish_all_ports,
        links=tuple(parse_link(item) for item in host.links),
        endpoints=endpoints,
        raw=raw,
    )


def endpoint(network: str, body: EndpointBody) -> EndpointRequest:
    """One attachment as asked for. Raises SpecError."""
    options = dict(body.driver_opts)
    interface = options.pop(IFNAME_OPTION, "")
    if options:
        unknown = min(options)
        raise SpecError(f"unknown endpoint option {unknown!r}", hint=nearest(unknown, [IFNAME_OPTION]))
    wished = body.ipam_config.ipv4_address
    return EndpointRequest(
        network=network,
        ip=parse_address(wished) if wished else None,
        mac=parse_mac(body.mac_address) if body.mac_address else "",
        interface=parse_interface(interface) if interface else "",
        aliases=tuple(body.aliases),
        links=tuple(parse_link(item) for item in body.links),
        priority=body.gw_priority,
        options=body.driver_opts,
    )


def publications(bindings: Mapping[str, list[PortBinding] | None]) -> tuple[Publish, ...]:
    """HostConfig.PortBindings as values; an empty list of bindings means a random port."""
    found: list[Publish] = []
    for inside, wanted in bindings.items():
        for port, protocol in parse_expose(inside):
            for binding in wanted or [PortBinding()]:
                first, last = _host_ports(str(binding.host_port))
                found.append(
                    Publish(
                        port=port,
                        protocol=protocol,
                        host_port=first,
                        host_last=last if last > first else 0,
                        host_ip=(at := parse_address(binding.host_ip or "0.0.0.0", "host address")),
                        everywhere=bool(binding.host_ip) and not int(at),
                    )
                )
    return tuple(found)


def words(value: list[str] | str) -> tuple[str, ...]:
    """A command as Docker takes it, a list or one word."""
    return (value,) if isinstance(value, str) else tuple(value)


def _host_ports(text: str) -> tuple[int, int]:
    """The first and the last of the host ports that would do; 0 for "choose one"."""
    return (0, 0) if text in {"", "0"} else parse_ports(text, "host port")


def _command(body: CreateBody, image: "Image") -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Command and entrypoint: an own entrypoint, even an empty one, takes the image's away."""
    command, own = words(body.cmd), body.entrypoint
    entrypoint = tuple(image.entrypoint) if own is None else words(own)
    if not command and not (own and words(own)):
        command = tuple(image.command)
    return command, () if entrypoint == ("",) else entrypoint


def _env(own: Iterable[str], image: Iterable[str]) -> tuple[str, ...]:
    """The request's variables, then the image's that it does not set; a bare NAME unsets one."""
    own = list(own)
    named = {item.partition("=")[0] for item in own}
    kept = [item for item in own if "=" in item]
    if bad := [item for item in own if item.startswith("=") or not item]:
        raise SpecError(f"invalid environment variable {bad[0]!r}", hint="write it as NAME=value")
    return (*kept, *(item for item in image if item.partition("=")[0] not in named))


def _exposed(ports: Iterable[str], image: "Image") -> tuple[tuple[int, str], ...]:
    own = (pair for text in ports for pair in parse_expose(text))
    return tuple(sorted({*own, *image.exposed}))


def _limits(host: HostBody) -> Limits:
    """cgroup limits; -1 is none for processes and, as Docker has it, for memory."""
    for name, value in (("memory", host.memory), ("pids", host.pids_limit)):
        if value < -1:
            raise SpecError(f"invalid {name} limit {value}", hint="0 is none")
    if host.pids_limit > _MOST_PIDS:
        raise SpecError(f"invalid pids limit {host.pids_limit}", hint=f"at most {_MOST_PIDS}, or 0 for none")
    if host.nano_cpus < 0:
        raise SpecError(f"invalid cpu limit {host.nano_cpus / 1e9:g}", hint="0 is none")
    return Limits(memory=max(host.memory, 0), nano_cpus=host.nano_cpus, pids=max(host.pids_limit, 0))


def _signal(name: str) -> str:
    if name:
        signal_number(name)
    return name


def _restart(host: HostBody) -> Restart:
    policy, attempts = host.restart_policy.name or "no", host.restart_policy.maximum_retry_count
    if attempts < 0 or (attempts and policy != "on-failure"):
        raise SpecError(f"restart policy {policy!r} takes no retry count {attempts}", hint="use on-failure:N")
    return Restart(policy=policy, attempts=attempts)


def _attachments(body: CreateBody) -> tuple[str, tuple[EndpointRequest, ...]]:
    """The network mode and the endpoints, the mode's own first and named the same way."""
    mode = body.host_config.network_mode or "default"
    wished = body.networking_config.endpoints_config
    if mode in _UNNETWORKED or mode.startswith("container:"):
        _check_alone(mode, wished)
        return mode, ()
    mode = _network_name(mode)
    found = [endpoint(_network_name(name), settings) for name, settings in wished.items()]
    if body.mac_address and all(item.network != mode for item in found):
        found.insert(0, endpoint(mode, EndpointBody(mac_address=body.mac_address)))
    return mode, tuple(found)


def _network_name(name: str) -> str:
    return DEFAULT_NETWORK if name in {"default", ""} else name


def _check_alone(mode: str, wished: Mapping[str, EndpointBody]) -> None:
    """Clients name `none` and `host` in EndpointsConfig too; more than the name is refused."""
    for name, settings in wished.items():
        if name != mode:
            raise SpecError(f"network mode {mode} excludes network {name}", hint="leave one of them out")
        if settings != EndpointBody():
            raise Unsupported(
                f"addresses, names and options mean nothing in network mode {mode}", hint="leave them out"
            )
