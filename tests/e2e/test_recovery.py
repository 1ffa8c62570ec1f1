"""The daemon is killed at every operation of a verb: the next start leaves the verb done or not done."""

import itertools
import re
from pathlib import Path

import pytest

from netkit.client import Client
from netkit.errors import Unreachable
from netkit.runtime.places import Places
from tests.e2e.lab import Lab
from tests.e2e.probes import eventually

SUBNET = ("--subnet", "10.77.0.0/24", "--no-icc", "--opt", "com.docker.network.bridge.name=br7")
WEB = ("run", "-d", "--name", "web", "--network", "n7", "--ip", "10.77.0.9", "--link", "db:d")
# Counters, indexes, and what is chosen anew each time: ids, the names made of them, random MACs.
_CHANCE = re.compile(r"^\d+: |@\S+|\[\d+:\d+\]|link/ether \S+|\bnk[0-9a-f]{10}\b|[0-9a-f]{64}|netns \S+")
_HEADER = re.compile(r"(?m)^#.*\n")


@pytest.fixture
def lab(box_tar):
    """A host with networks n7 (icc off) and n8, container db on n7, and nothing else of anybody's."""
    lab = Lab()
    try:
        lab.start()
        lab.netkit("image", "import", str(box_tar), "box")
        lab.netkit("network", "create", *SUBNET, "n7")
        lab.netkit("network", "create", "--opt", "com.docker.network.bridge.name=br8", "n8")
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
    found += [f"cgroup {path}" for path in sorted(Path("/sys/fs/cgroup").glob(f"**/{_group(places)}/*/"))]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found += sorted(f"mount {line.split()[1]}" for line in mounts if str(lab.folder) in line)
    found += sorted(f"monitor {cid}" for line in lab.processes() for cid in re.findall(r"--cid (\S+)", line))
    return "\n".join(sorted(_CHANCE.sub("", line) for line in found))


def _group(places):
    return f"netkit/{places.runtime_root.parent.name}"


def start(lab, failpoint=""):
    """Start the daemon and hold it to its promise: nothing is left to mend."""
    lab.start(env={"NETKIT_FAILPOINT": failpoint}, wait=False)
    client = Client(f"unix://{lab.socket}", verb="plan")

    def answered():
        assert lab.daemon.poll() is None, lab.log()
        try:
            return client.get("/netkit/plan")
        except Unreachable:
            return None

    plan = eventually(answered, 20)
    assert plan is not None, lab.log()
    assert plan["Operations"] == [], lab.log()


def die_at_each_operation(lab, verb, *, caller="", back=(), done=False):
    """Run `verb` again and again with the daemon dying at its 1st, 2nd … operation; returns how many there are.

    After each death the host must be as it was before the verb, or, where the verb may not be taken
    back once it has begun (`done`), as it is after it; `back` are the verbs that then undo it.
    """
    before = snapshot(lab)
    lab.netkit(*verb)
    after = snapshot(lab)
    for words in back:
        lab.netkit(*words)
    assert snapshot(lab) == before, "the test's own way back"
    for number in itertools.count(1):
        lab.kill()
        start(lab, f"kill:{number}@{caller or verb[0]}")
        now = snapshot(lab)
        assert now == before, f"{' '.join(verb)} that died at operation {number - 1}"
        answer = lab.netkit(*verb, check=False)
        if answer.returncode == 0:
            break
        assert lab.daemon.wait(timeout=20) == -9, answer.stderr
        if done:
            start(lab)
            assert snapshot(lab) == after, f"{' '.join(verb)} that died at operation {number}"
            for words in back:
                lab.netkit(*words)
    assert snapshot(lab) == after
    return number - 1


def test_network_create(lab):
    lab.netkit("network", "create", *SUBNET[:2], "n0", check=False)
    lab.netkit("rm", "-f", "db")
    lab.netkit("network", "rm", "n7")
    verb = ("network", "create", *SUBNET, "n7")
    operations = die_at_each_operation(lab, verb, caller="network create", back=[("network", "rm", "n7")])
    assert operations >= 8


def test_network_connect_and_disconnect(lab):
    verb = ("network", "connect", "n8", "db")
    operations = die_at_each_operation(
        lab, verb, caller="network connect", back=[("network", "disconnect", "n8", "db")]
    )
    assert operations >= 1
