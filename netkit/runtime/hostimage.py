"""The image named `host`: the host's own root file system, of which a container writes a copy.

The state folder mostly lies on the root file system, and an overlay whose upper layer lies below
its lower one is refused by some kernels and shows the container its own insides on others. So the
root is mounted once more, read-only, as an overlay that hides the state folder behind an empty
one; containers are overlays on that. Other file systems of the host (/home on its own disk, /proc)
are not seen, and /etc, /tmp and the like are: the image is for work on one's own machine.

    IMAGES/host/top    a small tmpfs with the empty folder     IMAGES/host/root    the overlay

    prepare("/var/lib/netkit/images/host", hidden="/var/lib/netkit")
"""

import errno
import os

from netkit.errors import Unsupported
from netkit.kernel import libc

_OPAQUE = "trusted.overlay.opaque"  # Documentation/filesystems/overlayfs.rst
_TOP_OPTIONS = "size=64k,mode=755"


def root(host: str) -> str:
    """The mount that is the image's one layer."""
    return f"{host}/root"


def is_mounted(host: str) -> bool:
    return os.path.ismount(root(host))


def prepare(host: str, hidden: str) -> None:
    """Mount it where it is not yet. Raises Unsupported."""
    if is_mounted(host):
        return
    top = f"{host}/top"
    for folder in (top, root(host)):
        os.makedirs(folder, exist_ok=True)
    try:
        if not os.path.ismount(top):
            libc.mount("tmpfs", top, "tmpfs", 0, _TOP_OPTIONS)
        _hide(top, hidden)
        _mount(top, root(host))
    except OSError as err:
        drop(host)
        raise Unsupported(f"the image host cannot be mounted: {err}", hint="import an image instead") from err


def drop(host: str) -> None:
    """Unmount it."""
    for folder in (root(host), f"{host}/top"):
        unmount(folder)


def unmount(target: str) -> None:
    """Unmount everything on a folder, now or, where somebody is still in it, when he leaves."""
    while os.path.ismount(target):
        try:
            libc.umount(target)
        except OSError as err:
            if err.errno != errno.EBUSY:
                raise
            libc.umount(target, libc.MNT_DETACH)


def _hide(top: str, hidden: str) -> None:
    """Put an opaque folder over `hidden`, and folders like the root's own above it."""
    at = ""
    for name in hidden.strip("/").split("/"):
        at = f"{at}/{name}"
        os.makedirs(top + at, exist_ok=True)
        state = os.stat(at)
        os.chown(top + at, state.st_uid, state.st_gid)
        os.chmod(top + at, state.st_mode & 0o7777)
    os.setxattr(top + at, _OPAQUE, b"y")
    state = os.stat("/")
    os.chmod(top, state.st_mode & 0o7777)


def _mount(top: str, target: str) -> None:
    options = f"lowerdir={escape(top)}:/"
    try:
        libc.mount("overlay", target, "overlay", libc.MS_RDONLY, options)
    except OSError as err:
        if err.errno != errno.EINVAL:
            raise
        # The root is an overlay already, and overlays lie at most two deep: it is used as it is.
        libc.mount("/", target, flags=libc.MS_BIND)


def escape(path: str) -> str:
    """A path as mount(2) takes it among an overlay's options."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
