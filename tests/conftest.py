"""What all tests share."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

from netkit.model.derived import digest

# A machine that is busy is no reason for a property to fail.
settings.register_profile("netkit", deadline=None, print_blob=True)
settings.load_profile("netkit")


MADE: list[str] = []
"""Folders and namespaces that tests have made: after all of them, nothing of these may be left."""

# Whatever carries our mark in the machine's own network, which no test may touch.
_MARKED = (
    "ip -o link show group 28267",
    "ip -o link | grep netkit:",
    "iptables-save | grep -i netkit",
    "iptables-legacy-save | grep -i netkit",
    "ipset list -n | grep NETKIT",
)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left():
    """After the last test: no namespace, mount, process or folder of any test, and no mark on this machine."""
    before = _marks()
    yield
    assert not (marks := _marks() - before), f"tests marked this machine: {sorted(marks)}"
    mounts = Path("/proc/self/mounts").read_text()
    commands = "\n".join(_commands())
    left = [name for name in MADE if name in mounts or name in commands or Path(name).exists()]
    left += [str(path) for name in MADE for path in _cgroups(f"{name}/state")]
    assert not left, f"tests left behind: {left}"


def _cgroups(state_dir):
    """What the containers of a state folder had, on hosts of either layout; others' are not looked at."""
    group = f"netkit/{digest(state_dir)}"
    return [path for depth in ("", "*/") for path in Path("/sys/fs/cgroup").glob(f"{depth}{group}")]


def _marks():
    if "@netkit-daemon" in Path("/proc/net/unix").read_text():
        return set()  # a daemon serves this machine: what is marked is its own
    lines = [
        line
        for command in _MARKED if os.geteuid() == 0
        for line in subprocess.run(["sh", "-c", command], capture_output=True, text=True).stdout.splitlines()
    ]  # fmt: skip
    return set(lines)


def _commands():
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
