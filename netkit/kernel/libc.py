"""System calls that Python 3.11 does not offer, each as one small function raising OSError.

A thread that has switched its network namespace never goes on to anything else: `in_namespace` and
`in_namespaces` do their work in a thread that is thrown away.

    >>> in_namespace("/run/netns/h1", socket.socket)
"""

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_FS, CLONE_NEWNS, CLONE_NEWNET = 0x200, 0x20000, 0x40000000
MS_RDONLY = 0x1
MS_BIND = 0x1000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # one number on all machines
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 0x1, 0x4
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_MOUNT_ATTR = struct.Struct("=QQQQ")  # to set, to clear, propagation, user namespace
_HERE = "/proc/thread-self/ns/net"

Result = TypeVar("Result")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError."""
    words = (word.encode() or None for word in (source, target, kind))
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None), target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2). Raises OSError."""
    _check(_libc.umount2(target.encode(), flags), target)


def bind_into(namespace: int, source: str, target: str) -> None:
    """Bind the file `source` in the place of what is mounted on `target` in another mount namespace.

    Whatever is mounted on it there later stays there. Raises OSError; needs Linux 5.12.
    """
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | os.O_CLOEXEC)
    tree = _libc.syscall(_OPEN_TREE, _AT_FDCWD, source.encode(), flags)
    _check(min(tree, 0), source)

    def move() -> None:
        # A thread shares its root with all others until it says otherwise.
        _check(_libc.unshare(CLONE_FS), target)
        _check(_libc.setns(namespace, CLONE_NEWNS), target)
        umount(target, MNT_DETACH)  # on top of a file that was removed nothing can be mounted
        words = (tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
        _check(_libc.syscall(_MOVE_MOUNT, *words), target)

    try:
        private = _MOUNT_ATTR.pack(0, 0, MS_PRIVATE, 0)
        words = (tree, b"", _AT_EMPTY_PATH, private, ctypes.c_size_t(len(private)))
        _check(_libc.syscall(_MOUNT_SETATTR, *words), source)
        with ThreadPoolExecutor(1) as thrown_away:
            thrown_away.submit(move).result()
    finally:
        os.close(tree)


def in_namespace(path: str, function: Callable[[], Result]) -> Result:
    """Call `function` inside the network namespace at `path`."""
    with _away():
        _enter(path)
        return function()


def in_namespaces(paths: Iterable[str], function: Callable[[], Result]) -> dict[str, Result]:
    """Call `function` in one network namespace after the other: what it returned, by path.

    What is no namespace, or has gone, is left out.
    """
    found: dict[str, Result] = {}
    with _away():
        for path in paths:
            try:
                _enter(path)
            except OSError:
                continue
            found[path] = function()
    return found


def new_namespace(path: str, prepare: Callable[[], None] = lambda: None) -> None:
    """Make a network namespace and hold it by a bind mount on the file `path`.

    `prepare` is called inside it, before it can be seen at its path.
    """
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
    with _away():
        _check(_libc.unshare(CLONE_NEWNET), path)
        prepare()
        mount(_HERE, path, flags=MS_BIND)


def socket_in(path: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket that belongs to the network namespace at `path`; empty for one's own."""
    if not path:
        return socket.socket(family, kind, protocol)
    return in_namespace(path, lambda: socket.socket(family, kind, protocol))


@contextlib.contextmanager
def _away() -> Iterator[None]:
    """Within, the calling thread may switch its network namespace; it comes home whatever happens."""
    home = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        if _libc.setns(home, CLONE_NEWNET) != 0:
            os.abort()  # to go on would be to change another host than one's own
        os.close(home)


def _enter(path: str) -> None:
    """Switch the calling thread to a network namespace. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, CLONE_NEWNET), path)
    finally:
        os.close(descriptor)


def _check(result: int, path: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), path)
