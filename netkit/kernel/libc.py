"""System calls that Python 3.11 does not offer, each as one small function raising OSError.

A thread that has switched its network namespace never goes on to anything else: `in_namespace` and
`in_namespaces` do their work in a thread that is thrown away.

    >>> in_namespace("/run/netns/h1", socket.socket)
"""

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNET = 0x40000000
MS_RDONLY = 0x1
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

Result = TypeVar("Result")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError."""
    words = (word.encode() or None for word in (source, target, kind))
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None), target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2). Raises OSError."""
    _check(_libc.umount2(target.encode(), flags), target)


def in_namespace(path: str, function: Callable[[], Result]) -> Result:
    """Call `function` in a throwaway thread inside the network namespace at `path`."""

    def enter_and_call() -> Result:
        _enter(path)
        return function()

    return _in_thread(enter_and_call)


def in_namespaces(paths: Iterable[str], function: Callable[[], Result]) -> dict[str, Result]:
    """Call `function` in one network namespace after the other: what it returned, by path.

    What is no namespace, or has gone, is left out. One thread goes round them all: to make one
    costs more than to look around in a namespace.
    """

    def go_round() -> dict[str, Result]:
        found: dict[str, Result] = {}
        for path in paths:
            try:
                _enter(path)
            except OSError:
                continue
            found[path] = function()
        return found

    return _in_thread(go_round)


def new_namespace(path: str, prepare: Callable[[], None] = lambda: None) -> None:
    """Make a network namespace and hold it by a bind mount on the file `path`.

    `prepare` is called inside it, before it can be seen at its path.
    """

    def make() -> None:
        _check(_libc.unshare(CLONE_NEWNET), path)
        prepare()
        mount(f"/proc/self/task/{threading.get_native_id()}/ns/net", path, flags=MS_BIND)

    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
    _in_thread(make)


def socket_in(path: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket that belongs to the network namespace at `path`; empty for one's own."""
    if not path:
        return socket.socket(family, kind, protocol)
    return in_namespace(path, lambda: socket.socket(family, kind, protocol))


def _enter(path: str) -> None:
    """Switch the calling thread to a network namespace. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, CLONE_NEWNET), path)
    finally:
        os.close(descriptor)


def _in_thread(function: Callable[[], Result]) -> Result:
    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as err:  # noqa: BLE001 - handed to the caller's thread, which raises it
            errors.append(err)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _check(result: int, path: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), path)
