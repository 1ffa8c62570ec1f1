"""Where the runtime keeps what belongs to one container.

STATE/containers/ID/        its files: see `folder`
STATE/images/               see `images`
/run/netkit/HASH/runc/ID/   the OCI runtime's own state, which must not outlive a reboot

All of it is closed to other users of the host: a container's files keep the modes they have inside,
so whoever could enter would run its set-uid programs as the host's root, and the files beside them
hold the container's variables. What enters them (mounts, the runtime, users in the container
through a mount that is there already) is root or does not come by these paths.

>>> Places("/var/lib/netkit").folder("4f1c").as_posix()
'/var/lib/netkit/containers/4f1c'
"""

import os
from pathlib import Path

from netkit.model.derived import digest

_RUN = Path("/run/netkit")


class Places:
    """The folders of the daemon whose state folder is `state_dir`."""

    def __init__(self, state_dir: str | Path) -> None:
        self.state_dir = Path(state_dir)
        self.containers = self.state_dir / "containers"
        self.host_image = self.state_dir / "images" / "host"
        self.run = _RUN / digest(str(state_dir))
        self.runtime_root = self.run / "runc"

    def shut(self) -> None:
        """Make the folders, for root alone; also those, and their secrets, that are there already."""
        for folder in (self.state_dir / "netns", self.containers, self.state_dir / "images"):
            private_folder(folder)
        for file in self.containers.glob("*/*.json"):
            file.chmod(0o600)

    def folder(self, container_id: str) -> Path:
        return self.containers / container_id

    def runtime_state(self, container_id: str) -> Path:
        """The OCI runtime's folder for a container: there exactly while it knows the container."""
        return self.runtime_root / container_id


def private_folder(path: Path) -> None:
    """A folder that only its owner may enter, be it new or old."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)


def write_private(path: Path, data: bytes) -> None:
    """A file that only its owner may read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(data)
