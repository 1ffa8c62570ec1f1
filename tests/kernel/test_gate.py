"""The gate: an init that waits at a fifo is let go, and nobody waits for one that does not."""

import os
import subprocess

import pytest

from netkit.errors import ApplyError
from netkit.runtime.gate import let_go


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "exec.fifo"
    os.mkfifo(path)
    return path


def waits_at(fifo, then):
    """A process that does what a runtime's init does: opens for writing, says a byte, goes on."""
    return subprocess.Popen(["sh", "-c", f"printf 0 > {fifo}; {then}"])


def test_init_goes_on_and_the_fifo_goes(fifo, tmp_path):
    with waits_at(fifo, f"touch {tmp_path}/ran") as init:
        let_go(fifo, init.pid)
        assert init.wait(5) == 0
    assert (tmp_path / "ran").exists()
    assert not fifo.exists()


def test_one_that_runs_to_its_end_at_once_was_let_go(fifo):
    for _ in range(20):
        with waits_at(fifo, "exit 3") as init:
            let_go(fifo, init.pid)
            assert init.wait(5) == 3
        os.mkfifo(fifo)


def test_an_init_that_has_been_killed_is_an_error(fifo):
    with waits_at(fifo, "exit 0") as init:
        init.kill()
        init.wait(5)
        with pytest.raises(ApplyError, match="ended before it was let go"):
            let_go(fifo, init.pid)


def test_nobody_at_the_gate_is_an_error(tmp_path):
    with pytest.raises(ApplyError, match="no created container"):
        let_go(tmp_path / "exec.fifo", os.getpid())


def test_one_that_was_let_go_before_only_loses_its_fifo(fifo):
    with subprocess.Popen(["sleep", "60"]) as init:
        let_go(fifo, init.pid, timeout_s=0.1)
        assert init.poll() is None
        init.kill()
    assert not fifo.exists()
