"""The parsers of `model.spec`, loaded when the first of them is called.

They bring the address library along, which most commands have no word for.

    >>> parse_address("10.0.0.5")
    IPAddress('10.0.0.5')
"""

from typing import Any


def parse_address(text: str, what: str = "address") -> Any:
    """An IPv4 address; see `model.spec`. Raises SpecError."""
    from netkit.model import spec

    return spec.parse_address(text, what)


def parse_expose(text: str) -> tuple[tuple[int, str], ...]:
    """Exposed ports; see `model.spec`. Raises SpecError."""
    from netkit.model import spec

    return spec.parse_expose(text)


def parse_link(text: str) -> tuple[str, str]:
    """A container and its alias; see `model.spec`. Raises SpecError."""
    from netkit.model import spec

    return spec.parse_link(text)


def parse_mac(text: str) -> str:
    """A MAC address; see `model.spec`. Raises SpecError."""
    from netkit.model import spec

    return spec.parse_mac(text)


def parse_publish(text: str) -> Any:
    """Published ports; see `model.spec`. Raises SpecError."""
    from netkit.model import spec

    return spec.parse_publish(text)
