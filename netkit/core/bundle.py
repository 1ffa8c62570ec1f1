"""The OCI config of a container: a pure function from its spec to the text of config.json.

The text is part of the wanted state, so whatever may change while the container runs (name,
links, published ports, networks) stays out of it. Source: the OCI runtime specification 1.0.

    >>> json.loads(config(container, host))["process"]["args"]
    ['sh']
"""

from typing import Any

import msgspec

from netkit.errors import SpecError
from netkit.model import derived, names, paths
from netkit.model.spec import Container, Host

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What a container's root may do unless told otherwise: the set that Docker's users know.
_CAPABILITIES = frozenset(
    {
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    }
)
_ALL = _CAPABILITIES | {
    f"CAP_{name}"
    for name in (
        "AUDIT_CONTROL AUDIT_READ BLOCK_SUSPEND BPF CHECKPOINT_RESTORE DAC_READ_SEARCH IPC_LOCK IPC_OWNER "
        "LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE NET_ADMIN NET_BROADCAST PERFMON SYSLOG SYS_ADMIN "
        "SYS_BOOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME "
        "SYS_TTY_CONFIG WAKE_ALARM"
    ).split()
}
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_SAFE = ("nosuid", "noexec")
Mount = tuple[str, str, str, tuple[str, ...]]
"""Destination, type, source, options."""
_MOUNTS: tuple[Mount, ...] = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    ("/dev/pts", "devpts", "devpts", (*_SAFE, "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
)  # fmt: skip
_CPU_PERIOD_US = 100_000


def config(container: Container, host: Host) -> str:
    """The config as text, the same every time for the same container."""
    text = msgspec.json.encode(
        {
            "ociVersion": "1.0.2",
            "process": _process(container),
            "root": {"path": "rootfs", "readonly": container.read_only},
            "hostname": container.hostname or container.id[:12],
            "mounts": _mounts(container, host),
            "linux": _linux(container, host),
        },
        order="sorted",
    )
    return text.decode()


def cgroup(state_dir: str, container_id: str) -> str:
    """The container's cgroup: one parent for each state folder, so that daemons do not clash."""
    return f"/netkit/{derived.digest(state_dir)}/{container_id}"


def capabilities(container: Container) -> list[str]:
    """The container's capabilities by name. Raises SpecError for one nobody knows."""
    if container.privileged:
        return sorted(_ALL)
    added, dropped = (_named(each) for each in (container.cap_add, container.cap_drop))
    base = frozenset() if dropped == _ALL else _CAPABILITIES
    return sorted((base | added) - (dropped if dropped != _ALL else frozenset()))


def _named(words: tuple[str, ...]) -> frozenset[str]:
    found: set[str] = set()
    for word in words:
        name = "CAP_" + word.upper().removeprefix("CAP_")
        if name == "CAP_ALL":
            return _ALL
        if name not in _ALL:
            raise SpecError(f"unknown capability {word!r}", hint=names.nearest(name, _ALL))
        found.add(name)
    return frozenset(found)


def _process(container: Container) -> dict[str, Any]:
    sets = capabilities(container)
    # A user who is not root gets capabilities only from programs that carry them.
    held = sets if container.uid == 0 else []
    return {
        "terminal": container.terminal,
        "user": {"uid": container.uid, "gid": container.gid, "additionalGids": list(container.groups)},
        "args": [*container.entrypoint, *container.command],
        "env": environment(container),
        "cwd": container.workdir or "/",
        "noNewPrivileges": False,
        "capabilities": {
            "bounding": sets,
            "permitted": held,
            "effective": held,
            "inheritable": [],
            "ambient": [],
        },
    }


def environment(container: Container) -> list[str]:
    """The variables: defaults, links', the user's; a later one of the same name wins."""
    name = container.hostname or container.id[:12]
    words = [_PATH, f"HOSTNAME={name}", f"HOME={container.home}"]
    words += ["TERM=xterm"] if container.terminal else []
    words += [*container.link_env, *container.env]
    return [f"{key}={value}" for key, value in dict(w.split("=", 1) for w in words if "=" in w).items()]


def _mounts(container: Container, host: Host) -> list[dict[str, Any]]:
    access = "rw" if container.privileged else "ro"
    system: Mount = ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", access))
    if container.mode == "host":
        # sysfs shows the network namespace that mounts it; the host's own is bound instead.
        system = ("/sys", "none", "/sys", ("rbind", "nosuid", "noexec", "nodev", access))
    groups = ("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", "relatime", access))
    files = paths.files(host.state_dir, container.id).items()
    bound = [(inside, "bind", outside, ("rbind", "rprivate")) for inside, outside in files]
    every = (*_MOUNTS, system, groups, *bound)
    return [
        {"destination": to, "type": kind, "source": source, "options": list(options)}
        for to, kind, source, options in every
    ]


def _linux(container: Container, host: Host) -> dict[str, Any]:
    namespaces: list[dict[str, str]] = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "cgroup")]
    if namespace := paths.namespace(host.state_dir, container):
        namespaces.append({"type": "network", "path": namespace})
    return {
        "namespaces": namespaces,
        "cgroupsPath": cgroup(host.state_dir, container.id),
        "resources": _resources(container),
        "sysctl": dict(container.sysctls),
        "maskedPaths": [] if container.privileged else list(_MASKED),
        "readonlyPaths": [] if container.privileged else list(_READ_ONLY),
    }


def _resources(container: Container) -> dict[str, Any]:
    limits = container.limits
    found: dict[str, Any] = {"devices": _devices(container)}
    if limits.memory:
        found["memory"] = {"limit": limits.memory}
    if limits.nano_cpus:
        quota = limits.nano_cpus * _CPU_PERIOD_US // 1_000_000_000
        found["cpu"] = {"quota": quota, "period": _CPU_PERIOD_US}
    if limits.pids:
        found["pids"] = {"limit": limits.pids}
    return found


def _devices(container: Container) -> list[dict[str, Any]]:
    """Which device nodes may be opened: all for a privileged one, else only those runtimes make."""
    if container.privileged:
        return [{"allow": True, "access": "rwm"}]
    may_make = [{"allow": True, "type": kind, "access": "m"} for kind in ("c", "b")]
    return [{"allow": False, "access": "rwm"}, *may_make]
