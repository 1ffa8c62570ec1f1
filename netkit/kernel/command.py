"""The only function that starts short-lived programs.

`run` takes an argument list, never a shell line, fixes the locale and puts argv, exit code and
stderr into the error. It does not decide anything, and it keeps no program running.

    >>> run(["iptables", "--version"]).stdout
    'iptables v1.8.9 (nf_tables)\\n'
"""

import os
import subprocess
from collections.abc import Mapping, Sequence

import msgspec

from netkit.errors import ApplyError, Unsupported

# Debian's package for a program that may be missing, where the names differ.
_PACKAGES = {
    "iptables-save": "iptables",
    "iptables-restore": "iptables",
    "iptables-legacy": "iptables",
    "iptables-legacy-save": "iptables",
    "iptables-legacy-restore": "iptables",
    "modprobe": "kmod",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "ps": "procps",
}


class Completed(msgspec.Struct, frozen=True):
    """How a program ended: its exit code and what it printed."""

    code: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    input: str = "",
    timeout_s: float = 30,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a program to its end.

    Raises Unsupported when it is not installed, ApplyError when it takes longer than `timeout_s`
    or, with `check`, when it exits with anything but 0.
    """
    surroundings = {**os.environ, "LC_ALL": "C", **(env or {})}
    try:
        done = subprocess.run(
            list(argv),
            input=input,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=surroundings,
            pass_fds=tuple(pass_fds),
            check=False,
        )
    except FileNotFoundError as err:
        package = _PACKAGES.get(argv[0], argv[0])
        raise Unsupported(f"{argv[0]} is not installed", hint=f"apt-get install {package}") from err
    except subprocess.TimeoutExpired as err:
        raise ApplyError(
            f"{' '.join(argv)} took longer than {timeout_s:g} s", hint="see the daemon's log"
        ) from err
    if check and done.returncode != 0:
        reason = done.stderr.strip() or done.stdout.strip() or "it said nothing"
        raise ApplyError(
            f"{' '.join(argv)} exited with {done.returncode}: {reason}", hint="see the daemon's log"
        )
    return Completed(done.returncode, done.stdout, done.stderr)
