"""`info` and `version` as Docker's clients print them, from facts of the host; pure.

The facts are read by the routes. What netkit lacks (volumes, plug-ins, swarm) is answered with
its empty form, since the clients print it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from netkit import __version__
from netkit.daemon.middleware import API_VERSION, MIN_API_VERSION, spell
from netkit.model.spec import Host


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the machine that only `info` and `version` show; memory in bytes."""

    name: str
    kernel: str
    machine: str
    system: str
    processors: int
    memory: int
    python: str
    runtime: str
    time: str
    settings: Mapping[str, bool] = {}


ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def version(machine: Machine) -> dict[str, Any]:
    """GET /version."""
    architecture = ARCHITECTURES.get(machine.machine, machine.machine)
    details = {
        "ApiVersion": spell(API_VERSION),
        "MinAPIVersion": spell(MIN_API_VERSION),
        "Os": "linux",
        "Arch": architecture,
        "KernelVersion": machine.kernel,
        "GoVersion": f"python{machine.python}",
        "GitCommit": "",
        "BuildTime": "",
        "Experimental": "false",
    }
    engine = {"Name": "Engine", "Version": __version__, "Details": details}
    runtime = {"Name": machine.runtime, "Version": "", "Details": {}}
    return {
        "Platform": {"Name": "netkit"},
        "Components": [engine, runtime],
        "Version": __version__,
        **{name: value for name, value in details.items() if name != "Experimental"},
    }


# What clients look for in /info and what is the same on every host of netkit's.
_SAME: dict[str, Any] = {
    "Driver": "overlayfs",
    "DriverStatus": [],
    "MemoryLimit": True,
    "SwapLimit": False,
    "CpuCfsPeriod": True,
    "CpuCfsQuota": True,
    "CPUShares": False,
    "CPUSet": False,
    "PidsLimit": True,
    "OomKillDisable": False,
    "Debug": False,
    "LoggingDriver": "json-file",
    "CgroupDriver": "cgroupfs",
    "OSType": "linux",
    "IndexServerAddress": "",
    "RegistryConfig": None,
    "Labels": [],
    "ExperimentalBuild": False,
    "ServerVersion": __version__,
    "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False},
    "LiveRestoreEnabled": True,
    "Isolation": "",
    "InitBinary": "",
    "ContainerdCommit": {"ID": ""},
    "RuncCommit": {"ID": ""},
    "InitCommit": {"ID": ""},
    "SecurityOptions": [],
    "FirewallBackend": {"Driver": "iptables"},
}


def info(machine: Machine, host: Host, counts: Mapping[str, int], images: int) -> dict[str, Any]:
    """GET /info. `counts` are containers by status."""
    running, paused = counts.get("running", 0), counts.get("paused", 0)
    total = sum(counts.values())
    return {
        **_SAME,
        "ID": machine.name,
        "Name": machine.name,
        "Containers": total,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": total - running - paused,
        "Images": images,
        "Plugins": _plugins(),
        "IPv4Forwarding": machine.settings.get("net.ipv4.ip_forward", False),
        "BridgeNfIptables": machine.settings.get("net.bridge.bridge-nf-call-iptables", False),
        "BridgeNfIp6tables": machine.settings.get("net.bridge.bridge-nf-call-ip6tables", False),
        "SystemTime": machine.time,
        "KernelVersion": machine.kernel,
        "OperatingSystem": machine.system,
        "Architecture": machine.machine,
        "NCPU": machine.processors,
        "MemTotal": machine.memory,
        "DockerRootDir": host.state_dir,
        "Runtimes": {machine.runtime: {"path": machine.runtime}},
        "DefaultRuntime": machine.runtime,
        "Warnings": _warnings(machine),
        "DefaultAddressPools": [_pool(pool) for pool in host.pools],
    }


def _plugins() -> dict[str, Any]:
    return {"Volume": [], "Network": ["bridge", "host", "null"], "Authorization": None, "Log": ["json-file"]}


def _warnings(machine: Machine) -> list[str]:
    return [f"WARNING: {name} is disabled" for name, on in machine.settings.items() if not on]


def _pool(pool: Any) -> dict[str, Any]:
    """A pool of subnets: (network, prefix length) or a plain network."""
    base, size = pool if isinstance(pool, tuple) else (pool, pool.prefixlen)
    return {"Base": str(base), "Size": int(size)}
