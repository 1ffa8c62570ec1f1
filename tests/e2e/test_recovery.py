"""The daemon is killed at every operation of a verb: the next start leaves the verb done or not done."""

import ctypes
import difflib
import http.client
import itertools
import json
import logging
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from netkit.daemon.main import serve
from netkit.daemon.options import Options
from netkit.kernel import libc
from netkit.runtime.places import Places
from tests.e2e.lab import Lab
from tests.e2e.probes import eventually

SUBNET = ("--subnet", "10.77.0.0/24", "--no-icc", "--opt", "com.docker.network.bridge.name=br7")
WEB = (
    "run",
    "-d",
    "--name",
    "web",
    "--network",
    "n7",
    "--ip",
    "10.77.0.9",
    "--link",
    "db:d",
    "-p",
    "8080:80",
)
# Counters, indexes, whether a carrier has been noticed yet; ids, names made of them, random MACs.
_CHANCE = re.compile(
    r"^\d+: |@\S+|\[\d+:\d+\]|NO-CARRIER,?|,?LOWER_UP|linkdown ?|state \S+|,?M-DOWN"
    r"|link/ether \S+|\bnk[0-9a-f]{10}\b|[0-9a-f]{64}|netns \S+|initval \S+|qdisc \S+|link-netnsid \d+"
)
_HEADER = re.compile(r"(?m)^#.*\n")


@pytest.fixture
def lab(box_tar):
    """A host with networks n7 (icc off) and n8, container db on n7, and nothing else of anybody's."""
    lab = Lab()
    try:
        start(lab)
        lab.netkit("image", "import", str(box_tar), "box")
        lab.netkit("network", "create", *SUBNET, "n7")
        lab.netkit(
            "network",
            "create",
            "--opt",
            "com.docker.network.bridge.name=br8",
            "--subnet",
            "10.78.0.0/24",
            "n8",
        )
        idle(lab, "db", "--network", "n7", "--ip", "10.77.0.8", "--expose", "5432")
        yield lab
    finally:
        lab.close()


def idle(lab, name, *options):
    lab.netkit("run", "-d", "--name", name, *options, "box", "sleep", "100000")


def snapshot(lab):
    """All that a verb could leave behind, as text: the host's network, and what hangs on the state folder."""
    shown = lab.host.sh(
        "iptables-save; ipset save | sort; ip -o link show; ip -o -4 address; ip route;"
        " sysctl net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables"
    )
    places = Places(lab.state)
    found = _HEADER.sub("", shown).splitlines()
    found += [f"namespace {path.name}" for path in sorted((lab.state / "netns").iterdir())]
    found += [f"container {path.name}" for path in sorted((lab.state / "containers").iterdir())]
    found += [f"copy {path.name}" for path in sorted((lab.state / "specs").iterdir())]
    found += [f"runtime {path.name}" for path in sorted(places.runtime_root.glob("*"))]
    cgroups = Path("/sys/fs/cgroup")
    found += [f"cgroup {at}" for depth in ("", "*/") for at in cgroups.glob(f"{depth}{_group(places)}/*/")]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found += sorted(f"mount {line.split()[1]}" for line in mounts if str(lab.folder) in line)
    found += sorted(f"monitor {cid}" for line in lab.processes() for cid in re.findall(r"--cid (\S+)", line))
    return "\n".join(sorted(_CHANCE.sub("", line) for line in found))


def difference(lab, wanted):
    """What differs from a snapshot, once what may be put off has been done; "" where nothing does."""

    def found():
        return list(difflib.unified_diff(wanted.splitlines(), snapshot(lab).splitlines(), lineterm="", n=0))

    return "" if eventually(lambda: not found(), 3) else "\n".join(found())


def _group(places):
    return f"netkit/{places.runtime_root.parent.name}"


class Fork:
    """The daemon as a fork of this process, which has read its modules: it is there six times as soon."""

    def __init__(self, lab, failpoint):
        self.returncode = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os._exit(_serve(lab, failpoint))
            finally:
                os._exit(99)

    def poll(self):
        return self.wait(0)

    def wait(self, timeout=30):
        eventually(self._ended, timeout)
        return self.returncode

    def send_signal(self, number):
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def _ended(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode is not None


def _serve(lab, failpoint):
    log = os.open(lab.folder / "daemon.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in (1, 2):
        os.dup2(log, number)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    logging.root.handlers.clear()
    with open(lab.host.path) as space:
        assert ctypes.CDLL(None).setns(space.fileno(), libc.CLONE_NEWNET) == 0
    os.environ["NETKIT_FAILPOINT"] = failpoint
    return serve(Options(state_dir=str(lab.state), hosts=(f"unix://{lab.socket}",)))


def start(lab, failpoint=""):
    """Start the daemon and hold it to its promise: nothing is left to mend."""
    lab.daemon = Fork(lab, failpoint)

    def plan():
        assert lab.daemon.poll() is None, lab.log()
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(lab.socket))
            connection.request("GET", "/netkit/plan")
            with connection.getresponse() as response:
                return json.load(response)
        except (ConnectionError, FileNotFoundError):
            return None
        finally:
            connection.close()

    answer = eventually(plan, 20)
    assert answer is not None, lab.log()
    assert answer["Operations"] == [], lab.log()


def die_at_each_operation(lab, verb, *, caller="", back=(), again=(), done=False):
    """Let the daemon die at the 1st, 2nd … operation of `verb`, until it lives; returns how many there are.

    After each death the next start must leave the host as it was before the verb, or, where what it
    does cannot be taken back (`done`), as it is after it. `back` are the verbs that undo it, `again`
    those that are needed after a death before it can be said again.
    """
    caller = caller or verb[0]
    before, after = snapshot(lab), _after(lab, verb, back)
    lab.kill()
    start(lab, f"kill:1@{caller}")
    for number in itertools.count(1):
        answer = lab.netkit(*verb, check=False)
        if answer.returncode == 0 and lab.daemon.poll() is None:
            break
        assert lab.daemon.wait(20) == -signal.SIGKILL, answer.stderr
        start(lab, f"kill:{number + 1}@{caller}")
        if done:
            assert difference(lab, after) == "", f"{caller} died at operation {number}"
        for words in back if done else again:
            lab.netkit(*words)
        assert difference(lab, before) == "", f"{caller} died at operation {number}"
    lab.kill()
    start(lab)
    assert difference(lab, after) == "", f"{caller} that nothing interrupts"
    return number - 1


def _after(lab, verb, back):
    """The host after the verb; then the way back, which must lead where it came from."""
    before = snapshot(lab)
    lab.netkit(*verb)
    lab.kill()
    start(lab)
    after = snapshot(lab)
    assert after != before
    for words in back:
        lab.netkit(*words)
    assert difference(lab, before) == "", "the way back"
    return after


def test_network_create_and_rm(lab):
    lab.netkit("rm", "-f", "db")
    lab.netkit("network", "rm", "n7")
    create, remove = ("network", "create", *SUBNET, "n7"), ("network", "rm", "n7")
    assert die_at_each_operation(lab, create, caller="network create", back=[remove]) >= 8
    assert die_at_each_operation(lab, remove, caller="network rm", back=[create]) >= 8


def test_network_connect_and_disconnect(lab):
    connect = ("network", "connect", "--ip", "10.78.0.5", "n8", "db")
    disconnect = ("network", "disconnect", "n8", "db")
    assert die_at_each_operation(lab, connect, caller="network connect", back=[disconnect]) >= 2
    assert die_at_each_operation(lab, disconnect, caller="network disconnect", back=[connect]) >= 2


def test_publish_and_link_add(lab):
    publish, unpublish = ("publish", "db", "8080:80"), ("unpublish", "db", "8080:80")
    assert die_at_each_operation(lab, publish, back=[unpublish]) >= 2
    assert die_at_each_operation(lab, unpublish, back=[publish]) >= 2
    idle(lab, "web", "--network", "n7", "--ip", "10.77.0.9")
    add, remove = ("link", "add", "web", "db:d"), ("link", "rm", "web", "d")
    assert die_at_each_operation(lab, add, caller="link add", back=[remove]) >= 2
    assert die_at_each_operation(lab, remove, caller="link rm", back=[add]) >= 2


def test_start_stop_and_end(lab):
    """Of `run` only its start has operations; a process that has ended has ended, whatever befalls us."""
    lab.netkit("create", *WEB[2:], "box", "sleep", "100000")
    start_it, stop = ("start", "web"), ("stop", "-t", "0", "web")
    for words in (start_it, stop):
        lab.netkit(*words)
    assert die_at_each_operation(lab, start_it, back=[stop]) >= 9
    assert die_at_each_operation(lab, stop, caller="stop", back=[start_it], done=True) >= 9


def test_what_is_saved_is_gone_on_with(lab):
    """Nobody was told that it is done, and a process that was made has not been let go yet."""
    lab.netkit("create", *WEB[2:], "box", "sleep", "100000")
    connect = ("network", "connect", "--ip", "10.78.0.5", "n8", "db")
    for verb, back, proof in (
        (("start", "web"), ("stop", "-t", "0", "web"), ("exec", "web", "true")),
        (connect, ("network", "disconnect", "n8", "db"), ("exec", "db", "ip", "link", "show", "eth1")),
        (("publish", "db", "8081:80"), ("unpublish", "db", "8081:80"), ("port", "db", "80")),
    ):
        for words in (verb, back):
            lab.netkit(*words)  # a run leaves a log
        after = _after(lab, verb, [back])
        lab.kill()
        start(lab, f"kill:saved@{verb[0]}")
        lab.netkit(*verb, check=False)
        assert lab.daemon.wait(20) == -signal.SIGKILL
        start(lab)
        assert difference(lab, after) == "", f"{verb} died when it was saved"
        lab.netkit(*proof)
        lab.netkit(*back)


def test_run_and_rm(lab):
    run, remove = (*WEB, "box", "sleep", "100000"), ("rm", "-f", "web")
    assert die_at_each_operation(lab, run, back=[remove], again=[remove]) >= 10
    assert die_at_each_operation(lab, remove, caller="rm", back=[run], done=True) >= 9


def test_teardown(lab):
    """The default network comes back with the daemon, so that it is there afterwards too."""
    lab.netkit("rm", "-f", "db")
    lab.netkit("network", "rm", "n7")
    lab.netkit("network", "rm", "n8")
    run = ("run", "-d", "--name", "web", "-p", "8080:80", "box", "sleep", "100000")
    lab.netkit(*run)
    assert die_at_each_operation(lab, ("teardown",), back=[run], done=True) >= 20
    lab.netkit("teardown")
    assert lab.leftovers() == ""
