"""Visits to other network namespaces: where one is, and that one comes home."""

import os
import socket
import threading

import pytest

from netkit.kernel.libc import MNT_DETACH, in_namespace, in_namespaces, new_namespace, socket_in, umount


def here():
    return os.readlink("/proc/thread-self/ns/net")


@pytest.fixture
def namespaces(tmp_path):
    paths = [str(tmp_path / name) for name in ("one", "two")]
    for path in paths:
        new_namespace(path)
    yield paths
    for path in paths:
        umount(path, MNT_DETACH)


def test_a_visit_is_inside_and_ends_at_home(namespaces):
    home = here()
    seen = [in_namespace(path, here) for path in namespaces]
    assert len({home, *seen}) == 3
    assert list(in_namespaces([*namespaces, "/nowhere"], here).values()) == seen
    assert here() == home


@pytest.mark.parametrize("visit", [in_namespace, lambda path, work: in_namespaces([path], work)])
def test_an_error_inside_leads_home_as_well(namespaces, visit):
    home = here()
    with pytest.raises(ZeroDivisionError):
        visit(namespaces[0], lambda: 1 // 0)
    assert here() == home


def test_a_new_namespace_is_prepared_inside_and_left(tmp_path):
    home, seen, path = here(), [], str(tmp_path / "new")
    new_namespace(path, lambda: seen.append(here()))
    try:
        assert here() == home
        assert seen == [in_namespace(path, here)] != [home]
    finally:
        umount(path, MNT_DETACH)


def test_what_is_no_namespace_is_an_error_at_home(tmp_path):
    home = here()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Invalid argument"):
        in_namespace(str(tmp_path / "file"), here)
    assert here() == home


def test_a_socket_stays_where_it_was_made(namespaces):
    with socket_in(namespaces[0], socket.AF_INET, socket.SOCK_STREAM) as one:
        one.bind(("0.0.0.0", 8080))
        with socket.socket() as other:
            other.bind(("0.0.0.0", 8080))  # no clash: another host


def test_other_threads_stay_where_they_are(namespaces):
    home, others = here(), []

    def look():
        thread = threading.Thread(target=lambda: others.append(here()))
        # A thread is born where its parent is; one that was there before is not taken along.
        waiting.set()
        seen.wait(10)
        thread.start()
        thread.join()

    waiting, seen = threading.Event(), threading.Event()
    bystander = threading.Thread(target=lambda: (waiting.wait(10), others.append(here()), seen.set()))
    bystander.start()
    in_namespace(namespaces[0], look)
    bystander.join()
    assert others[0] == home
