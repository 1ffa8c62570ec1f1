"""What a host must have for netkit, and what `doctor` finds besides.

The daemon refuses to start over an error here; `doctor` lists everything, each with its mend.
Nothing is changed.

    >>> [finding.what for finding in requirements() if finding.severity == "error"]
    []
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from netkit.errors import NetkitError, Unsupported
from netkit.kernel.ipset import IpSets
from netkit.runtime import detect

if TYPE_CHECKING:
    from netkit.daemon.service import Service

_FORWARD = "net.ipv4.ip_forward"
Severity = Literal["ok", "warn", "error"]


class Finding(msgspec.Struct, frozen=True, rename="pascal"):
    """One thing noticed, and its mend ("" where all is well)."""

    severity: Severity
    what: str
    mend: str = ""


def demand() -> None:
    """Raise Unsupported with the mend for the first thing that is missing."""
    for finding in requirements():
        if finding.severity == "error":
            raise Unsupported(finding.what, hint=finding.mend)


def requirements() -> Iterator[Finding]:
    """Whether the daemon can work at all: root, programs, kernel."""
    if os.geteuid() != 0:
        yield Finding("error", "the daemon needs root", "start it with sudo")
        return
    yield Finding("ok", "running as root")
    yield _program("iptables")
    yield _tools()
    yield _ipset()
    yield _overlay()


def findings(service: "Service") -> Iterator[Finding]:
    """Everything that `doctor` looks at. Call it on the engine's thread."""
    yield from requirements()
    intent = service.intent
    yield _forwarding(needed=bool(intent.networks), ours=service.host().ip_forward)
    closed = [network.name for network in intent.networks.values() if not network.icc]
    yield _setting(
        "net.bridge.bridge-nf-call-iptables",
        needed=bool(closed),
        why=f"icc=false does not hold on {', '.join(closed)}",
    )
    yield _drift(service)


def _forwarding(*, needed: bool, ours: bool) -> Finding:
    """Whether containers reach other networks, where the daemon was not told to leave that alone."""
    found = _setting(_FORWARD, needed=needed, why="containers reach no other network")
    if found.severity == "error" and not ours:
        return Finding("ok", f"{_FORWARD} is left alone (--ip-forward=false); it is off")
    return found


def _program(name: str) -> Finding:
    if path := shutil.which(name):
        return Finding("ok", f"{name} is installed: {path}")
    return Finding("error", f"{name} is not installed", f"apt-get install {name}")


def _tools() -> Finding:
    try:
        found = detect.tools()
    except NetkitError as err:
        return Finding("error", err.message, err.hint)
    return Finding("ok", f"containers run on {found.runtime} under {found.monitor}")


def _ipset() -> Finding:
    try:
        with IpSets():
            return Finding("ok", "the kernel has ipset")
    except NetkitError as err:
        return Finding("error", err.message, err.hint or "modprobe ip_set")


def _overlay() -> Finding:
    if "\toverlay\n" in Path("/proc/filesystems").read_text():
        return Finding("ok", "the kernel has overlayfs")
    return Finding("error", "the kernel has no overlayfs", "modprobe overlay")


def _setting(name: str, *, needed: bool, why: str) -> Finding:
    path = Path("/proc/sys", *name.split("."))
    try:
        value = path.read_text().strip()
    except OSError:
        value = "missing"
    if value == "1":
        return Finding("ok", f"{name} is 1")
    if needed:
        return Finding("error", f"{name} is {value}: {why}", f"sysctl -w {name}=1, or netkit reconcile")
    return Finding("ok", f"{name} is {value}, and nothing needs it")


def _drift(service: "Service") -> Finding:
    operations = service.plan()
    if not operations:
        return Finding("ok", "the kernel is as netkit made it")
    first = operations[0].describe()
    return Finding(
        "warn", f"{len(operations)} things differ from what netkit made, first: {first}", "netkit reconcile"
    )
