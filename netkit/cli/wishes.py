"""What users wish for, from words of the command line to bodies of Docker's API. Pure.

>>> network_wish("name=br0,ip=10.0.0.5")["ip"]
'10.0.0.5'
"""

import json
from collections.abc import Iterable
from typing import Any

from netkit.errors import SpecError
from netkit.model.names import nearest
from netkit.model.words import parse_ipv4, parse_link, parse_mac

_IFNAME = "com.docker.network.endpoint.ifname"
_WISHES = ("name", "alias", "ip", "mac-address", "gw-priority", "interface", "driver-opt")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def filter_words(filters: Iterable[str]) -> str:
    """`key=value` words as the API's JSON; empty for none."""
    found: dict[str, dict[str, bool]] = {}
    for word in filters:
        key, separator, value = word.partition("=")
        if not separator:
            raise SpecError(f"invalid filter {word!r}", hint="write it as KEY=VALUE")
        found.setdefault(key, {})[value] = True
    return json.dumps(found) if found else ""


def endpoint_body(
    *,
    ip: str = "",
    mac: str = "",
    interface: str = "",
    aliases: Iterable[str] = (),
    priority: int = 0,
    links: Iterable[str] = (),
) -> dict[str, Any]:
    """An EndpointSettings body of Docker's API, with what is wished for and no more."""
    body: dict[str, Any] = {}
    if ip:
        body["IPAMConfig"] = {"IPv4Address": ip}
    if mac:
        body["MacAddress"] = mac
    if interface:
        body["DriverOpts"] = {_IFNAME: interface}
    if words := list(aliases):
        body["Aliases"] = words
    if priority:
        body["GwPriority"] = priority
    if pairs := [":".join(parse_link(link)) for link in links]:
        body["Links"] = pairs
    return body


def network_wish(text: str) -> dict[str, Any]:
    """`NAME` or `name=NAME,ip=…,alias=…,…` as a mapping. Raises SpecError."""
    if "=" not in text:
        return {"name": text}
    wish: dict[str, Any] = {"aliases": []}
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key not in _WISHES:
            raise SpecError(f"unknown network option {key!r}", hint=nearest(key, _WISHES))
        if key == "alias":
            wish["aliases"].append(value)
        elif key == "driver-opt":
            option, _, setting = value.partition("=")
            if option != _IFNAME:
                raise SpecError(f"unknown driver option {option!r}", hint=f"known: {_IFNAME}")
            wish["interface"] = setting
        else:
            wish[key] = value
    if not wish.get("name"):
        raise SpecError(f"no name in {text!r}", hint="name=NETWORK,…")
    return wish


def wish_body(wish: dict[str, Any]) -> dict[str, Any]:
    """The endpoint body of one `--network`."""
    priority = str(wish.get("gw-priority", "0"))
    try:
        number = int(priority)
    except ValueError as err:
        raise SpecError(f"invalid gw-priority {priority!r}", hint="a whole number") from err
    return endpoint_body(
        ip=parse_ipv4(wish["ip"]) if wish.get("ip") else "",
        mac=parse_mac(wish["mac-address"]) if wish.get("mac-address") else "",
        interface=wish.get("interface", ""),
        aliases=wish.get("aliases", ()),
        priority=number,
        links=wish.get("links", ()),
    )


def parse_bytes(text: str) -> int:
    """`64m`, `1g`, `1048576` in bytes. Raises SpecError."""
    word = text.lower().removesuffix("ib").rstrip("b") if text.lower() != "b" else text
    word = "" if set(word) & set(" _") else word  # which float() would take
    number, unit = (word[:-1], word[-1]) if word and word[-1].isalpha() else (word, "")
    try:
        size = int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError) as err:
        raise SpecError(f"invalid size {text!r}", hint="for example 64m or 1g") from err
    if size < 0:
        raise SpecError(f"invalid size {text!r}", hint="it cannot be negative")
    return size
