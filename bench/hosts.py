"""Hosts to measure on: a network namespace each, with netkit's daemon or Docker's in it.

Both daemons get the same image from the same tar. Peers that are programs (CNI's bridge plugin,
netavark) are run in a namespace of their own. What is started here is ended here, by its pid.
"""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from netkit.testing.images import busybox_tar

NETKIT = str(Path(sys.executable).parent / "netkit")


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class Space:
    """A network namespace of the benchmark's own."""

    def __init__(self, name):
        self.name = f"nkb-{name}-{uuid.uuid4().hex[:6]}"
        self.path = f"/run/netns/{self.name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *argv, **options):
        return subprocess.run(self.argv(*argv), check=True, capture_output=True, text=True, **options)

    def argv(self, *argv):
        return ["nsenter", f"--net={self.path}", *argv]

    def close(self):
        subprocess.run(["ip", "netns", "del", self.name], check=True)


class Daemon:
    """A daemon that speaks Docker's API, in a host of its own; `client` is its command line."""

    name = ""
    client: tuple[str, ...] = ()

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="nkb-"))
        self.space = Space(self.name)
        self.socket = str(self.folder / "s.sock")
        self.environment = {**os.environ, "NETKIT_AUTOSTART": "0", "NETKIT_HOST": f"unix://{self.socket}"}
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                self.space.argv(*self.command()), stdout=log, stderr=log, env=self.environment
            )
        self._await()
        busybox_tar(self.folder / "box.tar")
        self.call(
            "POST", "/images/create?fromSrc=-&repo=box&tag=latest", (self.folder / "box.tar").read_bytes()
        )

    def command(self):
        raise NotImplementedError

    def call(self, method, path, body=None):
        """One request; the answer's JSON, or None."""
        connection = Connection(self.socket)
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body)
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        try:
            connection.request(method, path, data, {"Content-Type": kind})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise RuntimeError(f"{self.name}: {method} {path}: {response.status} {answer[:300]!r}")
        is_json = response.headers.get_content_type() == "application/json"
        return json.loads(answer) if answer.strip() and is_json else None

    def idle(self, name, **more):
        """A running container that does nothing."""
        body = {"Image": "box", "Cmd": ["sleep", "1000000"], **more}
        made = self.call("POST", f"/containers/create?name={name}", body)["Id"]
        self.call("POST", f"/containers/{made}/start")
        return made

    def cli(self, *words):
        """The wall time of one whole command, in seconds."""
        began = time.perf_counter()
        done = subprocess.run(
            self.space.argv(*self.client, *words), env=self.environment, capture_output=True, text=True
        )
        took = time.perf_counter() - began
        if done.returncode != 0:
            raise RuntimeError(f"{self.name} {words}: {done.stderr[-500:]}")
        return took

    def memory_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024

    def clear(self):
        """Remove the containers."""

    def close(self):
        with contextlib.suppress(RuntimeError):
            self.clear()
        self.process.terminate()
        self.process.wait(60)
        self.space.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _await(self):
        for _ in range(600):
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            with contextlib.suppress(OSError, RuntimeError):
                self.call("GET", "/_ping")
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not answer: {(self.folder / 'log').read_text()[-2000:]}")


class Netkit(Daemon):
    name = "netkit"
    client = (NETKIT,)

    def command(self):
        return [NETKIT, "daemon", "-H", f"unix://{self.socket}", "--state-dir", str(self.folder / "state")]

    def clear(self):
        self.call("POST", "/netkit/teardown")


class Docker(Daemon):
    name = "docker"

    @property
    def client(self):
        return ("docker", "-H", f"unix://{self.socket}")

    def command(self):
        argv = ["dockerd", "-H", f"unix://{self.socket}", "--data-root", str(self.folder / "data")]
        return [*argv, "--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "pid")]

    def clear(self):
        for container in self.call("GET", "/containers/json?all=1"):
            self.call("DELETE", f"/containers/{container['Id']}?force=1")


@contextlib.contextmanager
def both():
    """netkit's daemon and Docker's, side by side."""
    with contextlib.closing(Netkit()) as netkit, contextlib.closing(Docker()) as docker:
        yield netkit, docker
