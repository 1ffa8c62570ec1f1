"""Several commands at once on a host without a daemon: one is started, and all are answered."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.e2e.lab import NETKIT, Lab
from tests.e2e.probes import eventually


def test_commands_that_start_a_daemon_at_the_same_moment_are_all_answered():
    lab = Lab()
    try:
        # On the lab's own namespace, socket and folder: never on this machine's.
        environment = lab.environment(NETKIT_AUTOSTART="1")
        started = [
            subprocess.Popen(
                lab.host.argv(NETKIT, "network", "ls", "-q"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for _ in range(3)
        ]
        said = [command.communicate(timeout=60) for command in started]
        assert [command.returncode for command in started] == [0, 0, 0], said
        assert len({out for out, _ in said}) == 1
        assert said[0][0].strip()
        lab.netkit("teardown")
    finally:
        _end_daemon(lab)
        lab.host.close()
        lab.outside.close()
        shutil.rmtree(lab.folder)


def _end_daemon(lab):
    file = lab.state / "daemon.pid"
    if file.exists():
        pid = int(file.read_text())
        os.kill(pid, signal.SIGTERM)
        assert eventually(lambda: not file.exists() or not Path(f"/proc/{pid}").exists(), 10)
