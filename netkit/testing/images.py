"""Small images for tests: a root file system of nothing but busybox.

Images(folder).import_tar(open(busybox_tar(tmp / "box.tar"), "rb"), "box")
"""

import io
import os
import tarfile
from pathlib import Path

from netkit.errors import Unsupported

BUSYBOX = "/bin/busybox"
APPLETS = (
    "sh true false cat echo ls sleep id env pwd printf head tail seq stty tty kill ps mount hostname ip ping "
    "nc wget httpd nslookup grep cut wc touch rm mkdir chmod dd test trap yes date uname readlink"
).split()
PASSWD = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/var/www:/bin/sh\n"
GROUP = "root:x:0:\nwww:x:33:\nstaff:x:50:www\nadm:x:4:www\n"
_FOLDERS = ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var", "var/www")


def busybox_tar(path: str | Path) -> str:
    """Write the tar to `path` and give that back. Raises Unsupported without a static busybox."""
    if not os.path.exists(BUSYBOX):
        raise Unsupported("there is no /bin/busybox", hint="apt-get install busybox-static")
    with tarfile.open(path, "w") as tar:
        for name in _FOLDERS:
            _add(tar, name, tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755)
        with open(BUSYBOX, "rb") as program:
            _add(tar, "bin/busybox", tarfile.REGTYPE, data=program.read(), mode=0o755)
        for name in APPLETS:
            _add(tar, f"bin/{name}", tarfile.SYMTYPE, link="busybox", mode=0o777)
        _add(tar, "etc/passwd", tarfile.REGTYPE, data=PASSWD.encode())
        _add(tar, "etc/group", tarfile.REGTYPE, data=GROUP.encode())
        _add(tar, "etc/plain", tarfile.REGTYPE, data=b"not a program\n")
    return str(path)


def _add(
    tar: tarfile.TarFile, name: str, kind: bytes, *, data: bytes = b"", link: str = "", mode: int = 0o644
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode, entry.size = kind, link, mode, len(data)
    tar.addfile(entry, io.BytesIO(data))
