"""What users write for ports, links and addresses, as plain values.

It needs no library: a command line that loads it is there at once. `model.spec` makes values of it
that can be compared and counted with.

    >>> parse_publication("127.0.0.1:8080:80")[0].host_port
    8080
"""

import ipaddress
from typing import NamedTuple

from netkit.errors import SpecError
from netkit.model.names import parse_name

PROTOCOLS = ("tcp", "udp", "sctp")


class Publication(NamedTuple):
    """One published port. `host_ip` "" is every address; `host_port` 0 any port; `host_last` ends a range."""

    port: int
    protocol: str
    host_port: int = 0
    host_last: int = 0
    host_ip: str = ""

    @property
    def outside(self) -> str:
        """The host ports as they are written: `8000`, `8000-8005`, or `0` for any."""
        return f"{self.host_port}-{self.host_last}" if self.host_last else f"{self.host_port}"


def parse_ipv4(text: str, what: str = "address") -> str:
    """An IPv4 address. Raises SpecError."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError as err:
        raise SpecError(f"invalid {what} {text!r}", hint="write it as 192.168.100.7") from err
    if address.version != 4:
        raise SpecError(f"{what} {text!r} is not IPv4", hint="IPv6 is not supported yet")
    return str(address)


def parse_ports(text: str, what: str) -> tuple[int, int]:
    """`80` or `8000-8010` as an inclusive range. Raises SpecError."""
    low, dash, high = text.partition("-")
    high = high if dash else low
    # int() would take blanks, signs, underscores and other scripts' digits.
    if not all(word.isascii() and word.isdigit() for word in (low, high)):
        raise SpecError(f"invalid {what} {text!r}", hint="a number or a range such as 8000-8010")
    first, last = int(low), int(high)
    if not 0 < first <= last < 65536:
        raise SpecError(f"invalid {what} {text!r}", hint="ports go from 1 to 65535, low to high")
    return first, last


def parse_expose(text: str) -> tuple[tuple[int, str], ...]:
    """`80`, `53/udp`, `8000-8010/tcp` as (port, protocol) pairs. Raises SpecError."""
    ports, protocol = _split_protocol(text)
    first, last = parse_ports(ports, "exposed port")
    return tuple((port, protocol) for port in range(first, last + 1))


def parse_publication(text: str) -> tuple[Publication, ...]:
    """`[ip:][host]:container[/protocol]` and `container`, with ranges. Raises SpecError.

    A range of host ports for one container port means: the first of them that is free; 0 is any.
    """
    rest, protocol = _split_protocol(text)
    *front, inside = rest.split(":")
    if len(front) > 2:
        raise SpecError(f"invalid port specification {text!r}", hint="[ip:][host]:container[/udp]")
    first, last = parse_ports(inside, "container port")
    address = parse_ipv4(front[0], "host address") if len(front) == 2 and front[0] else ""
    outside = front[-1] if front else ""
    if outside in {"", "0"}:
        return tuple(Publication(port, protocol, host_ip=address) for port in range(first, last + 1))
    low, high = parse_ports(outside, "host port")
    if first == last and low < high:
        return (Publication(first, protocol, low, high, address),)
    if high - low != last - first:
        raise SpecError(
            f"ranges of different length in {text!r}", hint="as many host ports as container ports"
        )
    return tuple(
        Publication(port, protocol, low + port - first, host_ip=address) for port in range(first, last + 1)
    )


def parse_link(text: str) -> tuple[str, str]:
    """`NAME:ALIAS` or `NAME`, as (container, alias). Raises SpecError."""
    name, _, alias = text.partition(":")
    name = name.removeprefix("/")
    alias = alias.rpartition("/")[2] or name
    if not name or ":" in alias:
        raise SpecError(f"invalid link {text!r}", hint="write NAME:ALIAS, for example db:database")
    return name, parse_name(alias, "alias")


def parse_extra_host(text: str) -> str:
    """`NAME:ADDRESS` (or with `=`) as `NAME:ADDRESS`: IPv4, IPv6 or `host-gateway`. Raises SpecError."""
    name, mark, address = text.partition("=") if "=" in text else text.partition(":")
    if not name or not mark:
        raise SpecError(f"invalid extra host {text!r}", hint="write it as NAME:ADDRESS")
    parse_name(name, "host")
    if address == "host-gateway":
        return f"{name}:{address}"
    try:
        found = ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError as err:
        raise SpecError(f"invalid address {address!r}", hint="write it as 192.168.100.7") from err
    if "%" in address:  # a scope is a link of the host's, and takes any characters
        raise SpecError(f"address {address!r} has a scope", hint="leave it out")
    return f"{name}:{found}"


def parse_mac(text: str) -> str:
    """A unicast MAC address in lower case with colons. Raises SpecError."""
    parts = text.lower().replace("-", ":").split(":")
    hexadecimal = set("0123456789abcdef")
    octets = [int(part, 16) for part in parts if len(part) == 2 and hexadecimal.issuperset(part)]
    if len(parts) != 6 or len(octets) != 6 or octets[0] & 1 or not any(octets):
        raise SpecError(f"invalid MAC address {text!r}", hint="six octets, unicast: 02:42:ac:11:00:02")
    return ":".join(f"{octet:02x}" for octet in octets)


def _split_protocol(text: str) -> tuple[str, str]:
    ports, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise SpecError(f"unknown protocol {protocol!r} in {text!r}", hint="tcp, udp or sctp")
    return ports, protocol
