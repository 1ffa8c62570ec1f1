"""Which container programs this host has: an OCI runtime that works here, and the monitor.

crun refuses hosts that mount cgroups v1 and v2 side by side, runc takes both; where only v2 is
mounted the faster crun is preferred. Nothing is started here: a program that is installed and
fits the host's layout is taken at its word.

    >>> tools().name
    'runc'
"""

import functools
import os
import shutil

import msgspec

from netkit.errors import Unsupported

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/libexec/podman:/usr/lib/podman"
_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()  # by number, linux/capability.h


class Tools(msgspec.Struct, frozen=True):
    """The programs in use: the runtime's short name and both paths."""

    name: str
    runtime: str
    monitor: str


def tools() -> Tools:
    """The programs to use, looked for once, and again when they have gone. Raises Unsupported."""
    found = _tools()
    if not (os.access(found.runtime, os.X_OK) and os.access(found.monitor, os.X_OK)):
        _tools.cache_clear()
        found = _tools()
    return found


@functools.cache
def _tools() -> Tools:
    wanted = ("crun", "runc") if only_v2() else ("runc",)
    path = _find(*wanted)
    monitor = _find("conmon")
    return Tools(os.path.basename(path), path, monitor)


def only_v2() -> bool:
    """Whether the host mounts cgroup v2 alone."""
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


@functools.cache
def capabilities() -> frozenset[str]:
    """The capabilities that this process can hand on, as `CAP_CHOWN`."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status if line.startswith("Cap"))
    have = int(fields["CapBnd"], 16) & int(fields["CapPrm"], 16)
    return frozenset(f"CAP_{name}" for bit, name in enumerate(_CAPABILITIES) if have >> bit & 1)


def _find(*names: str) -> str:
    """The first of the programs that is installed."""
    for name in names:
        if path := shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PATH}"):
            return path
    raise Unsupported(f"{names[-1]} is not installed", hint=f"apt-get install {names[-1]}")
