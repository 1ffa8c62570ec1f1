"""The measurements. Each returns rows (name, unit, samples by who, aim); what is compared is interleaved."""

import contextlib
import time

from bench.hosts import Netkit, both
from bench.plugins import Cni, Netavark

PAUSE_S = 0.05  # lets the kernel finish what a removal put off, so that it is not charged to the next


def timed(function, *arguments):
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def attach(rounds):
    """Attach and detach of a running container against dockerd, CNI's bridge and netavark."""
    samples = {verb: {"netkit": [], "docker": [], "cni": [], "netavark": []} for verb in ("attach", "detach")}
    with both() as daemons, contextlib.closing(Cni()) as cni, contextlib.closing(Netavark()) as netavark:
        for daemon in daemons:
            daemon.idle("box1")
            daemon.call("POST", "/networks/create", {"Name": "net1"})
        for number in range(rounds + 2):
            kept = number >= 2  # the first two warm up
            for verb, path in (("attach", "connect"), ("detach", "disconnect")):
                for daemon in daemons:
                    took = timed(daemon.call, "POST", f"/networks/net1/{path}", {"Container": "box1"})
                    samples[verb][daemon.name] += [took] * kept
                for plugin in (cni, netavark):
                    samples[verb][plugin.name] += [getattr(plugin, verb)()] * kept
                time.sleep(PAUSE_S)
    return [(verb, "s", found, 0.25) for verb, found in samples.items()]


def run(rounds):
    """`run --rm IMAGE true` without and with a published port; `ps` on an empty daemon."""
    words = {
        "run --rm": (("run", "--rm", "box", "true"), 0.5),
        "run --rm -p": (("run", "--rm", "-p", "80", "box", "true"), 0.35),
        "ps": (("ps",), None),
    }
    samples = {name: {"netkit": [], "docker": []} for name in words}
    with both() as daemons:
        for number in range(rounds + 1):
            for name, (argv, _) in words.items():
                for daemon in daemons:
                    samples[name][daemon.name] += [daemon.cli(*argv)] * (number > 0)
                time.sleep(PAUSE_S)
    return [(name, "s", found, words[name][1]) for name, found in samples.items()]


def scale(rounds, endpoints):
    """The first against the last attach on one network with icc off and as many links as endpoints.

    Containers share two processes' worth of memory each; a link goes from each to the first one.
    """
    with contextlib.closing(Netkit()) as daemon:
        body = {"Name": "big", "IPAM": {"Config": [{"Subnet": "10.50.0.0/16"}]}}
        body["Options"] = {"com.docker.network.bridge.enable_icc": "false"}
        daemon.call("POST", "/networks/create", body)
        daemon.idle("probe")
        first = _attaches(daemon, rounds)
        few = daemon.memory_bytes()
        for number in range(endpoints):
            config = {"NetworkMode": "big"} | ({"Links": ["c0:first"]} if number else {})
            daemon.idle(f"c{number}", HostConfig=config, ExposedPorts={"80/tcp": {}})
        last = _attaches(daemon, rounds)
        plan = [timed(daemon.call, "GET", "/netkit/plan") for _ in range(5)]
        reconcile = [timed(daemon.call, "POST", "/netkit/reconcile") for _ in range(5)]
        memory = daemon.memory_bytes()
    return [
        (f"attach number {endpoints} / first", "s", {"netkit": last, "first": first}, 1.3),
        (f"plan at {endpoints} endpoints", "s", {"netkit": plan}, None),
        (f"reconcile at {endpoints} endpoints, nothing changed", "s", {"netkit": reconcile}, None),
        (f"daemon memory at {endpoints} endpoints", "bytes", {"netkit": [memory], "at start": [few]}, None),
    ]


def _attaches(daemon, rounds):
    samples = []
    for number in range(rounds + 2):
        took = timed(daemon.call, "POST", "/networks/big/connect", {"Container": "probe"})
        daemon.call("POST", "/networks/big/disconnect", {"Container": "probe"})
        time.sleep(PAUSE_S)
        samples += [took] * (number >= 2)
    return samples
