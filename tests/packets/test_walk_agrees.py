"""The walk's verdict equals what arrived: random hosts, random packets, on the real kernel."""

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

from tests.packets.scenario import FAR, NEIGHBOUR, UPLINK, UPLINK_CIDR, WIRE, WIRED

pytestmark = [
    pytest.mark.packets,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

CASES = 80
# Fixed seeds make a run comparable with the last one; the last seed is new each time, and printed.
SEEDS = [(seed, "nft") for seed in range(1, 8)] + [(8, "legacy"), (9, "legacy")]
SEEDS.append((random.SystemRandom().randrange(10_000, 10_000_000), "nft"))
ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def namespaces():
    """A host with an uplink to a machine outside, on which a far address is as well, and a NIC for a
    bridge with a machine behind it.
    """
    host, outside, wire = (f"nkt-{name}-{uuid.uuid4().hex[:8]}" for name in ("walk", "far", "wire"))
    lines = [
        f"ip netns add {host}",
        f"ip netns add {outside}",
        f"ip netns add {wire}",
        f"ip link add {WIRE} netns {host} type veth peer name eth0 netns {wire}",
        f"ip -n {wire} link set lo up",
        f"ip -n {wire} link set eth0 up",
        f"ip -n {wire} address add {WIRED}/24 dev eth0",
        f"ip -n {host} link set lo up",
        f"ip -n {outside} link set lo up",
        f"ip -n {host} link add {UPLINK} type veth peer name eth0 netns {outside}",
        f"ip -n {host} link set {UPLINK} up",
        f"ip -n {outside} link set eth0 up",
        f"ip -n {host} address add {UPLINK_CIDR} dev {UPLINK}",
        f"ip -n {outside} address add {NEIGHBOUR}/24 dev eth0",
        f"ip -n {outside} address add {FAR}/32 dev lo",
        f"ip -n {host} route add default via {NEIGHBOUR}",
        f"ip -n {outside} route add default via {UPLINK_CIDR[:-3]}",
    ]
    try:
        for line in lines:
            subprocess.run(line.split(), check=True)
        yield host, outside, wire
    finally:
        for name in (host, outside, wire):
            subprocess.run(["ip", "netns", "del", name], check=False)


def played(seed, variant, *rest):
    with namespaces() as (host, outside, wire), tempfile.TemporaryDirectory(prefix="nkt-") as folder:
        argv = [str(seed), str(CASES), variant, f"/run/netns/{outside}", f"/run/netns/{wire}", folder, *rest]
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{host}", sys.executable, "-m", "tests.packets.scenario", *argv],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("seed", "variant"), SEEDS)
def test_the_walk_and_the_kernel_never_disagree(seed, variant):
    print(f"seed {seed}, iptables {variant}")
    result = played(seed, variant)
    assert result["cases"] == CASES
    told = "\n\n".join(f"{w['packet']}\n{w['walk']}\nkernel: {w['kernel']}" for w in result["wrong"])
    foreign = "\n".join(result["foreign"])
    assert not result["wrong"], f"seed {seed} ({variant}):\n{foreign}\n{told}"


def test_at_least_five_hundred_cases_are_compared():
    assert CASES * len(SEEDS) >= 500


def test_a_kernel_that_does_otherwise_is_noticed():
    assert played(1, "nft", "DROP")["wrong"]
