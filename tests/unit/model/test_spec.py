"""What users write, as values: tables of what is taken and what is refused."""

import pytest

from netkit.errors import SpecError
from netkit.model.spec import parse_address, parse_publish, parse_subnet
from netkit.model.words import parse_expose, parse_extra_host, parse_link, parse_mac, parse_ports


def refused(parse, *words):
    with pytest.raises(SpecError) as told:
        parse(*words)
    assert told.value.hint
    return told.value.message


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80", ["0.0.0.0:0->80/tcp"]),
        ("80/udp", ["0.0.0.0:0->80/udp"]),
        ("8080:80", ["0.0.0.0:8080->80/tcp"]),
        ("8080:80/TCP", ["0.0.0.0:8080->80/tcp"]),
        ("127.0.0.1:8080:80", ["127.0.0.1:8080->80/tcp"]),
        ("127.0.0.1::80", ["127.0.0.1:0->80/tcp"]),
        (":80", ["0.0.0.0:0->80/tcp"]),
        ("0:80", ["0.0.0.0:0->80/tcp"]),
        ("127.0.0.1:0:80", ["127.0.0.1:0->80/tcp"]),
        ("8000-8001:80-81/udp", ["0.0.0.0:8000->80/udp", "0.0.0.0:8001->81/udp"]),
        ("80-81", ["0.0.0.0:0->80/tcp", "0.0.0.0:0->81/tcp"]),
        ("8000-8005:80", ["0.0.0.0:8000-8005->80/tcp"]),
        ("127.0.0.1:8000-8001:80/udp", ["127.0.0.1:8000-8001->80/udp"]),
        ("8000-8000:80", ["0.0.0.0:8000->80/tcp"]),
        ("65535:1", ["0.0.0.0:65535->1/tcp"]),
        ("132:9/sctp", ["0.0.0.0:132->9/sctp"]),
    ],
)
def test_published_ports(text, found):
    assert [port.describe() for port in parse_publish(text)] == found


@pytest.mark.parametrize(
    "text",
    ["", ":", "x", "80:x", "x:80", "0-1:80", "80:0", "65536:80", "80:65536", "-1:80", "1:2:3:4", "80/icmp", "80/",
     "8000-8002:80-81", "82-80:80-82", "1.2.3:80:80", "1.2.3.4.5:80:80", "::1:80:80", "80:80:80:", "80 :80", "8_0:80",
     "٨٠:80", "+80:80"],
)  # fmt: skip
def test_what_is_no_published_port(text):
    if text == "80/":  # no protocol after the stroke: the usual one
        assert parse_publish(text)[0].protocol == "tcp"
        return
    refused(parse_publish, text)


def test_exposed_ports():
    assert parse_expose("80") == ((80, "tcp"),)
    assert parse_expose("53-54/udp") == ((53, "udp"), (54, "udp"))
    for text in ("", "x", "0", "70000", "9-8", "80/http", "1:2"):
        refused(parse_expose, text)


def test_ranges():
    assert parse_ports("80", "port") == (80, 80)
    assert parse_ports("1-65535", "port") == (1, 65535)
    for text in ("", "-", "1-", "-1", "0-1", "2-1", "1-65536", "1-2-3"):
        assert "port" in refused(parse_ports, text, "port")


@pytest.mark.parametrize(
    ("text", "pair"),
    [("db", ("db", "db")), ("db:database", ("db", "database")), ("/db:d", ("db", "d")), ("db:", ("db", "db")),
     ("/db:/web/d", ("db", "d"))],
)  # fmt: skip
def test_links(text, pair):
    assert parse_link(text) == pair


@pytest.mark.parametrize(
    "text", ["", ":", ":x", "/", "a:b:c", "db:a b", "db:-x", "db:x\n6.6.6.6 bank.example #", "db:x\n"]
)
def test_what_is_no_link(text):
    refused(parse_link, text)


@pytest.mark.parametrize(
    ("text", "found"),
    [("nas:10.0.0.9", "nas:10.0.0.9"), ("nas=10.0.0.9", "nas:10.0.0.9"), ("h.lan:host-gateway", "h.lan:host-gateway"),
     ("six:fd00::1", "six:fd00::1"), ("six=fd00:0::1", "six:fd00::1"), ("six:[::1]", "six:::1")],
)  # fmt: skip
def test_extra_hosts(text, found):
    assert parse_extra_host(text) == found


@pytest.mark.parametrize(
    "text",
    ["", "nas", ":10.0.0.9", "nas:", "nas:ten", "a b:10.0.0.9", "-a:10.0.0.9", "a\nb:10.0.0.9", "a:10.0.0.9\n",
     "a:10.0.0.9 x", "a:fe80::1%x\ny", "a=b=10.0.0.9"],
)  # fmt: skip
def test_what_is_no_extra_host(text):
    refused(parse_extra_host, text)


def test_addresses():
    assert str(parse_address("10.0.0.1")) == "10.0.0.1"
    for text in (
        "",
        "ten",
        "10.0.0",
        "10.0.0.256",
        "10.0.0.1/24",
        "::1",
        "10.0.0.1 ",
        "0x0a000001",
        "167772161",
    ):
        assert "gateway" in refused(parse_address, text, "gateway")


def test_subnets_keep_their_host_bits():
    subnet = parse_subnet("192.168.100.1/24")
    assert (str(subnet.ip), str(subnet.cidr)) == ("192.168.100.1", "192.168.100.0/24")
    for text in ("", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/x", "fe80::/64", "10/8", "a/24"):
        assert "range" in refused(parse_subnet, text, "range")


def test_macs():
    assert parse_mac("02:42:AC:11:00:02") == "02:42:ac:11:00:02"
    assert parse_mac("02-42-ac-11-00-02") == "02:42:ac:11:00:02"
    for text in ("", "zz", "01:00:00:00:00:01", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "02:42:ac:11:0:2",
                 "02:42:ac:11:00:+2", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:42:ac:11:00: 2"):  # fmt: skip
        refused(parse_mac, text)
