"""A host for end-to-end tests: a network namespace with an uplink, a daemon in it, a CLI for it.

The daemon is a process of its own, started with `nsenter --net`, so that its "host" is the
namespace. A second namespace, `outside`, is a machine at the other end of the uplink.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from tests.conftest import MADE

NETKIT = str(Path(sys.executable).parent / "netkit")
UPLINK, OUTSIDE = "198.51.100.1", "198.51.100.2"


class Space:
    """A network namespace of the test's own."""

    def __init__(self, name):
        self.name = f"nkt-{name}-{uuid.uuid4().hex[:8]}"
        self.path = f"/run/netns/{self.name}"
        MADE.append(self.path)
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.sh("ip link set lo up")

    def argv(self, *argv):
        return ["nsenter", f"--net={self.path}", *argv]

    def sh(self, line, check=True, **options):
        done = subprocess.run(
            self.argv("sh", "-c", line), capture_output=True, text=True, timeout=60, **options
        )
        assert not check or done.returncode == 0, f"{line}: {done.stderr or done.stdout}"
        return done.stdout

    @contextlib.contextmanager
    def listening(self, port, word):
        """A program that answers TCP connections with a word."""
        argv = self.argv("busybox", "nc", "-ll", "-p", str(port), "-e", "echo", word)
        program = subprocess.Popen(argv)
        time.sleep(0.2)
        try:
            yield program.pid
        finally:
            program.kill()
            program.wait()

    def close(self):
        subprocess.run(["ip", "netns", "del", self.name], check=True)


class Lab:
    """One host with its daemon; `netkit(...)` runs the CLI on it."""

    def __init__(self, folder=None):
        # A unix socket's path has 108 bytes: pytest's own folders are too deep for it.
        self.folder = Path(folder or tempfile.mkdtemp(prefix="nkt-"))
        MADE.append(str(self.folder))
        self.host, self.outside = Space("host"), Space("out")
        self.host.sh(
            f"ip link add up0 type veth peer name eth0 netns {self.outside.name} && ip link set up0 up"
            f" && ip address add {UPLINK}/24 dev up0"
        )
        self.outside.sh(
            f"ip link set eth0 up && ip address add {OUTSIDE}/24 dev eth0"
            f" && ip route add default via {UPLINK}"
        )
        self.state, self.socket = self.folder / "state", self.folder / "s.sock"
        self.daemon = None
        self.options = ()

    def environment(self, **more):
        return {
            **os.environ,
            "NETKIT_HOST": f"unix://{self.socket}",
            "NETKIT_STATE_DIR": str(self.state),
            "NETKIT_AUTOSTART": "0",
            **more,
        }

    def start(self, *options, env=None, wait=True):
        self.options = options
        argv = ["daemon", "-H", f"unix://{self.socket}", "--state-dir", str(self.state), *options]
        log = (self.folder / "daemon.log").open("ab")
        self.daemon = subprocess.Popen(
            self.host.argv(NETKIT, *argv), stdout=log, stderr=log, env=self.environment(**(env or {}))
        )
        log.close()
        return self.ready() if wait else None

    def ready(self):
        """Wait until the daemon answers; its log is in the message where it does not."""
        for _ in range(300):
            if self.daemon.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.daemon.returncode}:\n{self.log()}")
            if self.netkit("version", check=False).returncode == 0:
                return self
            time.sleep(0.05)
        raise AssertionError(f"the daemon does not answer:\n{self.log()}")

    def log(self):
        path = self.folder / "daemon.log"
        return path.read_text(errors="replace")[-6000:] if path.exists() else ""

    def kill(self):
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()

    def stop(self):
        self.daemon.terminate()
        assert self.daemon.wait(timeout=30) == 0, self.log()

    def restart(self, *options):
        self.start(*(options or self.options))

    def netkit(self, *argv, check=True, input=None, timeout=60, env=None):
        done = subprocess.run(
            self.host.argv(NETKIT, *argv),
            capture_output=True,
            text=True,
            errors="replace",
            input=input,
            timeout=timeout,
            env=self.environment(**(env or {})),
        )
        if check and done.returncode != 0:
            words = " ".join(argv)
            raise AssertionError(
                f"netkit {words}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}"
            )
        return done

    def out(self, *argv, **options):
        return self.netkit(*argv, **options).stdout.strip()

    def json(self, *argv):
        return json.loads(self.out(*argv))

    def inspect(self, name):
        return self.json("inspect", name)[0]

    def address(self, name, network="bridge"):
        return self.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"]

    def plan(self):
        return self.out("plan")

    def leftovers(self):
        """Whatever carries our mark, or lies below the state folder, after a teardown."""
        links = self.host.sh("ip -o link show group 28267")
        tables = "".join(
            self.host.sh(f"{variant}-save", check=False) for variant in ("iptables", "iptables-legacy")
        )
        rules = "\n".join(line for line in tables.splitlines() if "NETKIT" in line or "netkit" in line)
        sets = self.host.sh("ipset list -n")
        mounts = "\n".join(
            line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.folder) in line
        )
        processes = "\n".join(self.processes())
        return "\n".join(filter(None, (links, rules, sets, mounts, processes)))

    def processes(self):
        """Programs, other than the daemon, that have to do with this lab's state folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                ours = str(self.state) in line and int(entry.name) != (self.daemon and self.daemon.pid)
                if ours:
                    found.append(f"{entry.name} {line}")
        return found

    def close(self):
        """Take everything down, whatever state it is in."""
        try:
            if self.daemon is not None:
                if self.daemon.poll() is not None:
                    self.restart()
                self.netkit("teardown")
                self.stop()
        finally:
            if self.daemon is not None and self.daemon.poll() is None:
                self.kill()
            self.host.close()
            self.outside.close()
            shutil.rmtree(self.folder, ignore_errors=True)
