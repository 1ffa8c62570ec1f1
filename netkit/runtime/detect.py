"""Which OCI runtime works on this host.

crun is quicker and refuses hosts whose cgroups are a mixture of v1 and v2; runc works on all
layouts. conmon holds a container's terminal, log and exit code, and survives the daemon.

    >>> find()
    '/usr/sbin/runc'
"""

import functools
import shutil
from pathlib import Path

from netkit.errors import Unsupported

_UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers")


def layout() -> str:
    """The host's cgroup layout: v2, v1 or hybrid."""
    if _UNIFIED.exists():
        return "v2"
    return "hybrid" if Path("/sys/fs/cgroup/unified/cgroup.controllers").exists() else "v1"


@functools.cache
def find() -> str:
    """The path of the OCI runtime. Raises Unsupported with the package to install."""
    wanted = ("crun", "runc") if layout() == "v2" else ("runc",)
    for name in wanted:
        if path := shutil.which(name):
            return path
    raise Unsupported("no OCI runtime is installed", hint="apt-get install runc")


@functools.cache
def monitor() -> str:
    """The path of conmon. Raises Unsupported."""
    if path := shutil.which("conmon"):
        return path
    raise Unsupported("conmon is not installed", hint="apt-get install conmon")
