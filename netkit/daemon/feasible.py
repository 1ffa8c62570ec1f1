"""What of a container's wishes this host or its image can be known not to have, before it is made.

The OCI runtime would refuse it too, but only at the start, once everything else is made, and in
words of its own. Reads files; what can be known from the request alone is in `shapes_create`.

    check(request)     # SpecError: range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available
"""

import os
from pathlib import Path, PurePosixPath

from netkit.errors import SpecError
from netkit.model.request import ContainerRequest
from netkit.runtime.rootpath import inside

_LEAST_NANO_CPUS = 10_000_000
_BY_INTERFACE = ("conf", "neigh")


def check(request: ContainerRequest) -> None:
    """Raise SpecError for the first wish that cannot come true."""
    _check_cpus(request.limits.nano_cpus, os.cpu_count() or 1)
    for name in request.sysctls:
        _check_sysctl(name)
    _check_workdir(request.lowers, request.workdir)


def _check_cpus(nano_cpus: int, processors: int) -> None:
    """In Docker's words; less than a hundredth is too little for the kernel."""
    if nano_cpus and not _LEAST_NANO_CPUS <= nano_cpus <= processors * 1_000_000_000:
        there = f"{processors} CPU{'s' if processors > 1 else ''}"
        raise SpecError(
            f"range of CPUs is from 0.01 to {processors:.2f}, as there are only {there} available",
            hint=f"{nano_cpus / 1e9:g} was asked for",
        )


def _check_sysctl(name: str) -> None:
    """A setting of the network that this kernel has; those of an interface come with it."""
    words = name.split(".")
    if words[0] != "net":
        return  # what is the container's own is checked where it is admitted
    if len(words) > 4 and words[2] in _BY_INTERFACE:
        words[3:-1] = ["default"]
    if not Path("/proc/sys", *filter(None, words)).is_file():
        raise SpecError(f"this host has no sysctl {name}", hint=f"see sysctl -a, ls /proc/sys/{words[0]}")


def _check_workdir(lowers: tuple[str, ...], workdir: str) -> None:
    """A folder that the image has, or that can be made in it."""
    path = PurePosixPath(workdir)
    for part in reversed((path, *path.parents)):
        found = next((at for at in (inside(lower, str(part)) for lower in lowers) if at.exists()), None)
        if found is None:
            return
        if not found.is_dir():
            raise SpecError(
                f"the working folder {workdir} cannot be: {part} is a file", hint="name a folder with -w"
            )
