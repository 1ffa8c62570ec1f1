"""Traffic: what rules and sets cost a packet. Throughput by iperf3, new connections by a loop."""

import contextlib
import itertools
import json
import subprocess
import sys
import time

from bench.hosts import Netkit, both

# The client resets instead of saying goodbye: else waiting sockets use its ports up.
_RESET = "setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))"
_ACCEPT = """
import socket, struct
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 81)); s.listen(1024)
while True:
    c = s.accept()[0]
    try: c.recv(1)
    except ConnectionResetError: pass
    c.close()
"""
_CONNECT = f"""
import socket, struct, sys, time
end, count = time.monotonic() + 2, 0
while time.monotonic() < end:
    c = socket.create_connection((sys.argv[1], int(sys.argv[2]))); c.{_RESET}; c.close(); count += 1
print(count / 2)
"""


def inside(daemon, name):
    """The network namespace of a container, as nsenter takes it."""
    pid = daemon.call("GET", f"/containers/{name}/json")["State"]["Pid"]
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


@contextlib.contextmanager
def servers(place):
    """iperf3 on port 80 and a program that accepts on port 81, in a namespace."""
    argvs = (["iperf3", "-s", "-p", "80"], [sys.executable, "-c", _ACCEPT])
    programs = [subprocess.Popen([*place, *argv], stdout=subprocess.DEVNULL) for argv in argvs]
    time.sleep(0.5)
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def throughput(place, address, port):
    """Bits per second over one TCP stream for two seconds."""
    argv = [*place, "iperf3", "-c", address, "-p", str(port), "-t", "2", "-J"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]


def connections(place, address, port):
    """New TCP connections per second."""
    argv = [*place, sys.executable, "-c", _CONNECT, address, str(port)]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def links(rounds, wanted):
    """Two linked containers, while theirs is the only link and while there are a thousand.

    The same two all along: two hosts that are alike in all differ by some hundredths.
    """
    names = [f"c{number}" for number in range(next(n for n in itertools.count(2) if n * (n - 1) >= wanted))]
    first, *others = sorted(itertools.permutations(names, 2), key=lambda pair: pair != ("c1", "c0"))[:wanted]
    found = {"throughput": {"1 link": [], "netkit": []}, "connections": {"1 link": [], "netkit": []}}
    with contextlib.closing(Netkit()) as daemon:
        apart(daemon, names)
        link(daemon, [first])
        shown = daemon.call("GET", "/containers/c0/json")["NetworkSettings"]["Networks"]
        address, place = shown["net1"]["IPAddress"], inside(daemon, "c1")
        with servers(inside(daemon, "c0")):
            for _ in range(rounds):
                for who, change in (("1 link", unlink), ("netkit", link)):
                    change(daemon, others)
                    for _ in range(2):
                        found["throughput"][who].append(throughput(place, address, 80))
                        found["connections"][who].append(connections(place, address, 81))
    title = f"with {wanted} links among {len(names)} containers / with one"
    return [
        (f"throughput {title}", "bit/s", found["throughput"], 0.95),
        (f"new connections {title}", "1/s", found["connections"], 0.95),
    ]


def apart(daemon, names):
    """Containers on a network with icc off, each with two ports exposed."""
    options = {"com.docker.network.bridge.enable_icc": "false"}
    daemon.call("POST", "/networks/create", {"Name": "net1", "Options": options})
    for name in names:
        exposed = {"80/tcp": {}, "81/tcp": {}}
        daemon.idle(name, HostConfig={"NetworkMode": "net1"}, ExposedPorts=exposed)


def link(daemon, pairs):
    """A link from the first to the second of each pair."""
    for parent, target in pairs:
        daemon.call("POST", "/netkit/links", {"Parent": parent, "Target": target, "Alias": target})
    if not all(each["Open"] for each in daemon.call("GET", "/netkit/links")):
        raise RuntimeError("a link is not open")


def unlink(daemon, pairs):
    """Take those away that stand."""
    for each in daemon.call("GET", "/netkit/links"):
        if (each["Parent"], each["Target"]) in pairs:
            daemon.call("DELETE", f"/netkit/links?parent={each['Parent']}&alias={each['Alias']}")


def published(rounds):
    """A published port, called from the host by its own address, against dockerd's."""
    found = {"throughput": {"netkit": [], "docker": []}, "connections": {"netkit": [], "docker": []}}
    with both() as daemons, contextlib.ExitStack() as stack:
        for daemon in daemons:
            daemon.space.run("ip", "address", "add", "198.51.100.1/32", "dev", "lo")
            bindings = {f"{port}/tcp": [{"HostPort": str(8000 + port)}] for port in (80, 81)}
            exposed = {f"{port}/tcp": {} for port in (80, 81)}
            daemon.idle("web", HostConfig={"PortBindings": bindings}, ExposedPorts=exposed)
            stack.enter_context(servers(inside(daemon, "web")))
        for _ in range(rounds):
            for daemon in daemons:
                place = daemon.space.argv()
                found["throughput"][daemon.name].append(throughput(place, "198.51.100.1", 8080))
                found["connections"][daemon.name].append(connections(place, "198.51.100.1", 8081))
    return [
        ("throughput of a published port", "bit/s", found["throughput"], None),
        ("new connections to a published port", "1/s", found["connections"], None),
    ]
