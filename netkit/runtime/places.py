"""Where the runtime keeps what belongs to one container.

STATE/containers/ID/        its files: see `folder`
STATE/images/               see `images`
/run/netkit/HASH/runc/ID/   the OCI runtime's own state, which must not outlive a reboot

>>> Places("/var/lib/netkit").folder("4f1c").as_posix()
'/var/lib/netkit/containers/4f1c'
"""

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

    def folder(self, container_id: str) -> Path:
        return self.containers / container_id

    def runtime_state(self, container_id: str) -> Path:
        """The OCI runtime's folder for a container: there exactly while it knows the container."""
        return self.runtime_root / container_id
