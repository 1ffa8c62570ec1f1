"""Listeners and their programs, in a namespace of their own."""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from netkit.kernel.command import run
from netkit.kernel.libc import MNT_DETACH, in_namespace, new_namespace, socket_in, umount
from netkit.kernel.listeners import asked, listeners, parse_sctp, port_range, printed

ME = f"{Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})"


@pytest.fixture
def namespace(tmp_path):
    path = str(tmp_path / "net")
    new_namespace(path)
    yield path
    umount(path, MNT_DETACH)


def bound(namespace, family, kind, address, port):
    """A socket on a port of the namespace; one of TCP listens."""
    found = socket_in(namespace, family, kind)
    found.bind((address, port))
    if kind == socket.SOCK_STREAM:
        found.listen()
    return found


@pytest.mark.parametrize(
    ("family", "kind", "address", "expected"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", ("tcp", "0.0.0.0", 8080)),
        (socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0", ("udp", "0.0.0.0", 8080)),
        (socket.AF_INET6, socket.SOCK_STREAM, "::", ("tcp", "::", 8080)),
        (socket.AF_INET6, socket.SOCK_STREAM, "::ffff:0.0.0.0", ("tcp", "0.0.0.0", 8080)),
        (socket.AF_INET6, socket.SOCK_DGRAM, "::", ("udp", "::", 8080)),
    ],
)
def test_a_listener_is_found_with_its_program(namespace, family, kind, address, expected):
    asked = {(expected[0], 8080), ("tcp", 9)}
    with bound(namespace, family, kind, address, 8080):
        assert in_namespace(namespace, lambda: listeners(asked)) == {expected: ME}
    assert in_namespace(namespace, lambda: listeners(asked)) == {}


def test_the_kernel_answers_what_it_prints(namespace):
    """A host whose kernel cannot be asked is read by what it prints: both must say the same."""
    places = [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")]
    with contextlib.ExitStack() as stack:
        for number, (family, address) in enumerate(places):
            stack.enter_context(bound(namespace, family, socket.SOCK_STREAM, address, 8080 + number))
        answered = in_namespace(namespace, lambda: set(asked("tcp", socket.IPPROTO_TCP)))
        assert answered == in_namespace(namespace, lambda: set(printed("tcp")))
        assert {(each.ip, each.port) for each in answered} >= {("0.0.0.0", 8080)}


def test_listening_endpoints_of_sctp_are_read_with_every_address_they_have():
    """As net/sctp/proc.c prints them: style 2 and 1 listen (state 10), the last one does not."""
    text = """ ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS
00000000a1b2c3d4 00000000d4c3b2a1 2   10  29   11165   200 299689 10.0.0.102 10.0.0.70
00000000a1b2c3d5 00000000d4c3b2a2 1   10  30   36412     0 27320 0000:0000:0000:0000:0000:0000:0000:0000
00000000a1b2c3d6 00000000d4c3b2a3 2   7   31   11167   200 27321 0.0.0.0
"""
    found = [(each.protocol, each.ip, each.port, each.inode) for each in parse_sctp(text)]
    assert found == [
        ("sctp", "10.0.0.102", 11165, 299689),
        ("sctp", "10.0.0.70", 11165, 299689),
        ("sctp", "::", 36412, 27320),
    ]


def test_only_the_ports_asked_for_are_told(namespace):
    with (
        bound(namespace, socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", 80),
        bound(namespace, socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", 81),
    ):
        found = in_namespace(namespace, lambda: listeners({("tcp", 81), ("udp", 80)}))
        assert found == {("tcp", "0.0.0.0", 81): ME}


def test_without_ports_all_are_told_and_no_program(namespace):
    with bound(namespace, socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", 80):
        assert in_namespace(namespace, listeners) == {("tcp", "0.0.0.0", 80): ""}


def test_another_namespace_is_not_looked_at(namespace):
    with bound(namespace, socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", 64123):
        assert listeners({("tcp", 64123)}) == {}


def test_a_connected_socket_is_no_listener(namespace):
    with bound(namespace, socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0", 5000) as sock:
        assert len(in_namespace(namespace, listeners)) == 1
        with bound(namespace, socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0", 5001):
            run(["nsenter", f"--net={namespace}", "ip", "link", "set", "lo", "up"])
            sock.connect(("127.0.0.1", 5001))
            assert {port for _, _, port in in_namespace(namespace, listeners)} == {5001}


@pytest.mark.parametrize(
    ("text", "expected"), [("40000\t40100\n", (40000, 40100)), ("32768\t60999\n", (32768, 60999))]
)
def test_the_range_is_that_of_the_namespace(namespace, text, expected):
    def set_and_read():
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(text)
        return port_range()

    before = port_range()
    assert in_namespace(namespace, set_and_read) == expected
    assert port_range() == before
