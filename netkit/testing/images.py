"""A small image made from this machine's own busybox: no download.

    busybox_tar(Path("box.tar"))        # then: netkit image import box.tar box
"""

import io
import shutil
import tarfile
from pathlib import Path

from netkit.errors import Unsupported
from netkit.kernel.command import run

_FOLDERS = ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var")
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
_GROUP = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"


def busybox_tar(path: Path) -> None:
    """Write a root file system with a static busybox and links for all its applets."""
    program = shutil.which("busybox")
    if program is None:
        raise Unsupported("busybox is not installed", hint="apt-get install busybox-static")
    applets = run([program, "--list"]).stdout.split()
    with tarfile.open(path, "w") as tar:
        for name in _FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        tar.add(program, "bin/busybox")
        for applet in applets:
            if applet == "busybox":
                continue
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname, link.mode = tarfile.SYMTYPE, "busybox", 0o777
            tar.addfile(link)
        for name, text in (("etc/passwd", _PASSWD), ("etc/group", _GROUP)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
