"""Networks between Docker's words and ours, both ways; pure.

`host` and `none` are no networks of ours: they are the two words for a container without one,
and are listed as Docker's clients expect them, but cannot be made, joined or removed.

    >>> request(decode(NetworkBody, b'{"Name": "br0", "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]}}'))
    NetworkRequest(name='br0', …)
"""

from collections.abc import Mapping
from typing import Any

from netaddr import IPAddress

from netkit.core.ipam import mac_of
from netkit.daemon.bodies import BridgeBody, NetworkBody, PoolBody
from netkit.errors import Forbidden, NotFound, SpecError, Unsupported
from netkit.model.derived import digest
from netkit.model.names import nearest, parse_name
from netkit.model.request import NetworkRequest
from netkit.model.spec import Container, Endpoint, Intent, Network, parse_address, parse_subnet

BRIDGE_OPTION = "com.docker.network.bridge.name"
ICC_OPTION = "com.docker.network.bridge.enable_icc"
MASQUERADE_OPTION = "com.docker.network.bridge.enable_ip_masquerade"
BINDING_OPTION = "com.docker.network.bridge.host_binding_ipv4"
DEFAULT_OPTION = "com.docker.network.bridge.default_bridge"
MTU_OPTION = "com.docker.network.driver.mtu"
OPTIONS = (BRIDGE_OPTION, ICC_OPTION, MASQUERADE_OPTION, BINDING_OPTION, DEFAULT_OPTION, MTU_OPTION)
ROUTER = "DefaultGatewayIPv4"  # the auxiliary address that Docker's default route goes to
PREDEFINED = {"host": "host", "none": "null"}  # name → driver
_DRIVERS = ("bridge",)
_TRUE, _FALSE = ("true", "1", "t", "T", "TRUE", "True"), ("false", "0", "f", "F", "FALSE", "False")


def request(body: NetworkBody) -> NetworkRequest:
    """POST /networks/create as a value. Raises SpecError, NotFound, Forbidden, Unsupported."""
    _check(body)
    pool = body.ipam.config[0] if body.ipam.config else PoolBody()
    for option in body.options:
        if option not in OPTIONS:
            raise SpecError(f"unknown network option {option!r}", hint=nearest(option, OPTIONS))
    auxiliary = {
        name: parse_address(text, "auxiliary address") for name, text in pool.auxiliary_addresses.items()
    }
    binding = body.options.get(BINDING_OPTION, "")
    return NetworkRequest(
        name=parse_name(body.name, "network"),
        bridge=body.options.get(BRIDGE_OPTION, ""),
        subnet=parse_subnet(pool.subnet) if pool.subnet else None,
        ip_range=parse_subnet(pool.ip_range, "address range") if pool.ip_range else None,
        gateway=parse_address(pool.gateway, "gateway") if pool.gateway else None,
        router=auxiliary.pop(ROUTER, None),
        auxiliary=auxiliary,
        internal=body.internal,
        attachable=body.attachable,
        icc=_switch(body.options, ICC_OPTION),
        masquerade=_switch(body.options, MASQUERADE_OPTION),
        host_binding=parse_address(binding, BINDING_OPTION) if binding else None,
        mtu=_mtu(body.options),
        options=body.options,
        labels=body.labels,
    )


def bridge_request(body: BridgeBody) -> NetworkRequest:
    """POST /netkit/bridges: a network and a bridge of the same name. Raises SpecError."""
    return NetworkRequest(
        name=parse_name(body.name, "network"),
        bridge=body.name,
        adopt=body.adopt,
        subnet=parse_subnet(body.address, "bridge address") if body.address else None,
        ip_range=parse_subnet(body.fixed_cidr, "fixed-cidr") if body.fixed_cidr else None,
        internal=body.internal,
        icc=body.icc,
        masquerade=body.ip_masq,
        mtu=body.mtu,
        options={BRIDGE_OPTION: body.name},
        labels=body.labels,
    )


def inspect(network: Network, intent: Intent) -> dict[str, Any]:
    """GET /networks/X."""
    return {**summary(network), "Containers": _members(network, intent)}


def summary(network: Network) -> dict[str, Any]:
    """An item of GET /networks: without its containers, as Docker lists them."""
    pool: dict[str, Any] = {"Subnet": str(network.subnet.cidr), "Gateway": str(network.own)}
    if network.ip_range != network.subnet.cidr:
        pool["IPRange"] = str(network.ip_range)
    auxiliary = dict(network.auxiliary)
    if network.address:
        auxiliary[ROUTER] = network.gateway
    if auxiliary:
        pool["AuxiliaryAddresses"] = {name: str(ip) for name, ip in auxiliary.items()}
    return {
        **_frame(network.name, network.id, "bridge"),
        "Created": network.created,
        "IPAM": {"Driver": "default", "Options": {}, "Config": [pool]},
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Options": _options(network),
        "Labels": dict(network.labels),
    }


def predefined(name: str, created: str) -> dict[str, Any]:
    """`host` and `none` as the networks that Docker shows them to be."""
    return {**_frame(name, predefined_id(name), PREDEFINED[name]), "Created": created}


def predefined_id(name: str) -> str:
    """The fixed id of `host` or `none`."""
    return digest("netkit", "predefined", name, length=64)


def find_predefined(ref: str) -> str:
    """Which of the two is meant by a name, an id or a prefix of at least four; else ""."""
    for name in PREDEFINED:
        if ref == name or (len(ref) >= 4 and predefined_id(name).startswith(ref)):
            return name
    return ""


def refuse_predefined(ref: str, deed: str) -> None:
    """Raise Forbidden where the two that are no networks are to be changed."""
    if name := find_predefined(ref):
        raise Forbidden(f"network {name} is predefined and cannot be {deed}", hint="name another network")


def bridge(network: Network, intent: Intent) -> dict[str, Any]:
    """An item of GET /netkit/bridges."""
    return {
        "Name": network.bridge,
        "Network": network.name,
        "Address": f"{network.own}/{network.subnet.prefixlen}",
        "Subnet": str(network.subnet.cidr),
        "IPRange": str(network.ip_range),
        "Mtu": network.mtu,
        "Icc": network.icc,
        "Masquerade": network.masquerade,
        "Internal": network.internal,
        "Adopted": network.adopted,
        "Ports": list(network.ports),
        "Containers": len(_members(network, intent)),
        "Labels": dict(network.labels),
    }


def cidr(address: IPAddress | None, network: Network | None) -> str:
    """`10.0.0.2/24`, or "" where there is no address now."""
    return f"{address}/{network.subnet.prefixlen}" if address and network else ""


def mac(end: Endpoint) -> str:
    """The MAC of an endpoint: the one wished for, else the one that follows from its address."""
    return end.mac or (mac_of(end.address) if end.address else "")


def _frame(name: str, network_id: str, driver: str) -> dict[str, Any]:
    """What all networks have, with the values of one that has nothing."""
    return {
        "Name": name,
        "Id": network_id,
        "Created": "",
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": None},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }


def _members(network: Network, intent: Intent) -> dict[str, Any]:
    """The running containers on a network, by id."""
    return {
        container.id: _member(container, container.endpoints[network.id], network)
        for container in intent.containers.values()
        if container.running and network.id in container.endpoints
    }


def _member(container: Container, end: Endpoint, network: Network) -> dict[str, Any]:
    return {
        "Name": container.name,
        "EndpointID": end.id,
        "MacAddress": mac(end),
        "IPv4Address": cidr(end.address, network),
        "IPv6Address": "",
    }


def _options(network: Network) -> dict[str, str]:
    """The options as asked for, and those that say what was chosen."""
    told = {BRIDGE_OPTION: network.bridge, MTU_OPTION: str(network.mtu)}
    told |= {ICC_OPTION: str(network.icc).lower(), MASQUERADE_OPTION: str(network.masquerade).lower()}
    if network.default:
        told[DEFAULT_OPTION] = "true"
    return {**network.options, **told}


def _check(body: NetworkBody) -> None:
    if body.driver in PREDEFINED.values():
        raise Forbidden(
            f'only one instance of "{body.driver}" network is allowed', hint="use the bridge driver"
        )
    if body.driver not in _DRIVERS:
        raise NotFound(f"no network driver named {body.driver!r}", hint=nearest(body.driver, _DRIVERS))
    if body.ipam.driver not in {"default", ""}:
        raise NotFound(f"no IPAM driver named {body.ipam.driver!r}", hint="did you mean 'default'?")
    if not body.enable_ipv4:
        raise Unsupported("networks without IPv4 are not supported", hint="leave --ipv4=false out")
    if len(body.ipam.config) > 1:
        raise Unsupported("a network has one subnet", hint="make a second network for the second subnet")


def _switch(options: Mapping[str, str], name: str) -> bool | None:
    text = options.get(name)
    if text is None:
        return None
    if text not in _TRUE + _FALSE:
        raise SpecError(f"invalid value {text!r} of option {name}", hint="true or false")
    return text in _TRUE


def _mtu(options: Mapping[str, str]) -> int:
    text = options.get(MTU_OPTION, "0")
    if not text.isdigit():
        raise SpecError(f"invalid value {text!r} of option {MTU_OPTION}", hint="a number such as 1450")
    return int(text)
