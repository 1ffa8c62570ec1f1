"""Where things of a container lie below the daemon's state folder. Text only: nothing is touched.

STATE/netns/ID                 its network namespace
STATE/containers/ID/rootfs     its root, an overlay of …/upper on the image's layers
STATE/containers/ID/hosts      and hostname, resolv.conf: mounted into it
"""

from netkit.model.spec import Container

FILES = ("hostname", "hosts", "resolv.conf")


def folder(state_dir: str, container_id: str) -> str:
    return f"{state_dir}/containers/{container_id}"


def rootfs(state_dir: str, container_id: str) -> str:
    return f"{folder(state_dir, container_id)}/rootfs"


def files(state_dir: str, container_id: str) -> dict[str, str]:
    """What is mounted over the image: path inside → path on the host."""
    return {f"/etc/{name}": f"{folder(state_dir, container_id)}/{name}" for name in FILES}


def namespace(state_dir: str, container: Container) -> str:
    """The network namespace that the container joins; empty for the host's own."""
    if container.mode == "host":
        return ""
    owner = container.mode.removeprefix("container:") if _borrows(container) else container.id
    return f"{state_dir}/netns/{owner}"


def _borrows(container: Container) -> bool:
    return container.mode.startswith("container:")
