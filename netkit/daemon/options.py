"""The daemon's options as the command line gives them: plain words and numbers.

What they mean is decided in `recovery`; what is malformed is refused there with a hint.

    >>> Options().state_dir
    '/var/lib/netkit'
"""

from typing import Literal

import msgspec

DEFAULT_STATE_DIR = "/var/lib/netkit"
DEFAULT_SOCKET = "unix:///run/netkit/netkit.sock"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One daemon: where it keeps and answers, and how its default network is to be.

    `pools` are `base=…,size=…` texts, `mtu` 0 is the uplink's, `variant` of iptables auto, nft or
    legacy, `bridge` an existing one to use or `none`.
    """

    state_dir: str = DEFAULT_STATE_DIR
    hosts: tuple[str, ...] = (DEFAULT_SOCKET,)
    bridge: str = ""
    bip: str = ""
    fixed_cidr: str = ""
    default_gateway: str = ""
    icc: bool = True
    iptables: bool = True
    ip_forward: bool = True
    ip_masq: bool = True
    ip: str = ""
    mtu: int = 0
    pools: tuple[str, ...] = ()
    log_level: str = "info"
    variant: Literal["auto", "nft", "legacy"] = "auto"
