"""What all tests share."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import settings

# A machine that is busy is no reason for a property to fail.
settings.register_profile("netkit", deadline=None, print_blob=True)
settings.load_profile("netkit")


MADE: list[str] = []
"""Folders and namespaces that tests have made: after all of them, nothing of these may be left."""


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left():
    """After the last test: no namespace, mount, process, cgroup or folder of any test."""
    yield
    mounts = Path("/proc/self/mounts").read_text()
    commands = "\n".join(_commands())
    left = [name for name in MADE if name in mounts or name in commands or Path(name).exists()]
    assert not left, f"tests left behind: {left}"


def _commands():
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
