"""Netlink attributes, taken apart and put together: what every attachment asks and sends.

The library's general codec takes most of a millisecond for one link of sixty attributes, of which
ten are wanted, and half a one for a message. What is rare is left to it.

     0                   16                  32
     +-------------------+-------------------+----------------------------+
     | length with head  | type (15 bits)    | payload, padded to 4 bytes |
     +-------------------+-------------------+----------------------------+

Source: linux/netlink.h, linux/if_link.h, linux/if_addr.h.
"""

import struct

_HEAD = struct.Struct("=HH")
_NUMBER = struct.Struct("=I")
_TYPE_MASK = 0x3FFF  # less NLA_F_NESTED and NLA_F_NET_BYTEORDER


def split(data: bytes) -> dict[int, bytes]:
    """The attributes in `data` by type; of two with one type the later."""
    found: dict[int, bytes] = {}
    offset, end = 0, len(data) - _HEAD.size
    while offset <= end:
        length, kind = _HEAD.unpack_from(data, offset)
        if length < _HEAD.size:
            break
        found[kind & _TYPE_MASK] = data[offset + _HEAD.size : offset + length]
        offset += (length + 3) & ~3
    return found


def pack(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    return _HEAD.pack(_HEAD.size + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def pack_number(kind: int, value: int) -> bytes:
    """An attribute that is a number of 32 bits."""
    return pack(kind, _NUMBER.pack(value))


def pack_text(kind: int, value: str) -> bytes:
    """An attribute that is a string with its closing zero."""
    return pack(kind, value.encode() + b"\0")


def number(found: dict[int, bytes], kind: int) -> int:
    """An unsigned number of 32 bits (or 8), 0 where there is none."""
    data = found.get(kind, b"")
    return _NUMBER.unpack(data)[0] if len(data) == _NUMBER.size else data[0] if data else 0


def text(found: dict[int, bytes], kind: int) -> str:
    """A string, empty where there is none."""
    return found.get(kind, b"").rstrip(b"\0").decode(errors="replace")
