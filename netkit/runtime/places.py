"""Where the runtime keeps what belongs to one container.

    STATE/containers/ID/    config.json · process.json · ctr.log · pidfile · conmon.pid · exit/ID · started
    /run/netkit/HASH/       runc/ (the OCI runtime's own state) · ID/attach (conmon's socket)

The second is outside the state folder because a unix socket's path has at most 107 characters,
and because it must not outlive a reboot.
"""

from pathlib import Path

from netkit.model.names import digest

_RUN = Path("/run/netkit")


class Places:
    """The folders of the daemon whose state folder is `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.containers = state_dir / "containers"
        self.run = _RUN / digest(str(state_dir))
        self.runtime_root = self.run / "runc"

    def folder(self, container_id: str) -> Path:
        return self.containers / container_id

    def exit_file(self, container_id: str) -> Path:
        return self.folder(container_id) / "exit" / container_id

    def runtime_state(self, container_id: str) -> Path:
        """The OCI runtime's folder for a container: there exactly while it knows the container."""
        return self.runtime_root / container_id

    def sockets(self, container_id: str) -> Path:
        return self.run / container_id
