"""icc, links, published ports: what passes, and what changes while containers run."""

import subprocess
import sys

import pytest

from tests.e2e.lab import UPLINK
from tests.e2e.probes import ask, ask_from, eventually, idle, serve


@pytest.fixture(scope="module")
def closed(lab):
    """A network on which nothing passes without a link: db exposes 5432, web is linked to it."""
    lab.netkit("bridge", "add", "br0", "--address", "192.168.100.1/24", "--no-icc")
    serve(lab, "db", "--network", "br0", "--expose", "5432", "-e", "SECRET=s3", port=5432)
    idle(lab, "web", "--network", "br0", "--link", "db:database")
    idle(lab, "stranger", "--network", "br0")
    yield lab
    lab.netkit("rm", "-f", "db", "web", "stranger")
    lab.netkit("bridge", "rm", "br0")


def test_a_link_opens_the_exposed_port_and_nothing_else(closed):
    assert ask(closed, "web", "database", 5432) == "db"
    assert ask(closed, "stranger", closed.address("db", "br0"), 5432, wait=1) is None
    assert ask(closed, "web", closed.address("db", "br0"), 5433, wait=1) is None
    assert ask(closed, "db", closed.address("web", "br0"), 5432, wait=1) is None
    ping = closed.netkit("exec", "web", "ping", "-c1", "-W1", "database", check=False)
    assert ping.returncode != 0


def test_a_link_gives_the_classic_variables(closed):
    env = dict(line.split("=", 1) for line in closed.out("exec", "web", "env").splitlines())
    address = closed.address("db", "br0")
    assert env["DATABASE_NAME"] == "/web/database"
    assert env["DATABASE_PORT"] == f"tcp://{address}:5432"
    assert env["DATABASE_PORT_5432_TCP_ADDR"] == address
    assert env["DATABASE_ENV_SECRET"] == "s3"


def test_a_target_that_restarts_with_another_address_stays_linked(closed):
    before = closed.address("db", "br0")
    closed.netkit("restart", "-t", "0", "db")
    assert closed.address("db", "br0") != before
    assert eventually(lambda: ask(closed, "web", "database", 5432)) == "db"


def test_links_survive_a_restart_of_the_daemon(closed):
    closed.kill()
    closed.restart()
    assert ask(closed, "web", "database", 5432) == "db"
    assert closed.plan() == "nothing to change"


def test_links_come_and_go_while_containers_run(closed):
    closed.netkit("link", "add", "stranger", "db:d")
    assert ask(closed, "stranger", "d", 5432) == "db"
    assert "stranger" in closed.out("link", "ls")
    closed.netkit("link", "rm", "stranger", "d")
    assert ask(closed, "stranger", closed.address("db", "br0"), 5432, wait=1) is None


def test_an_open_connection_ends_with_its_link_and_others_stay(closed):
    closed.netkit("link", "add", "stranger", "db:d")
    closed.netkit("run", "-d", "--name", "chat", "--network", "br0", "--expose", "9", "box",
                  "nc", "-ll", "-p", "9", "-e", "cat")  # fmt: skip
    closed.netkit("link", "add", "stranger", "chat:chat")
    closed.netkit("link", "add", "web", "chat:chat")
    for name in ("stranger", "web"):
        loop = "(for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done) | nc -w 6 chat 9 >/tmp/got"
        closed.netkit("exec", "-d", name, "sh", "-c", loop)
    eventually(lambda: "1" in closed.out("exec", "web", "cat", "/tmp/got"))
    closed.netkit("link", "rm", "stranger", "chat")
    lines = eventually(lambda: closed.out("exec", "web", "cat", "/tmp/got").endswith("8"), 8)
    assert lines
    assert "8" not in closed.out("exec", "stranger", "cat", "/tmp/got")
    closed.netkit("rm", "-f", "chat")
    closed.netkit("link", "rm", "stranger", "d")


def test_what_keeps_containers_apart_is_made_sure_of_with_each_that_comes(closed):
    """Somebody takes away what icc=false relies on: the next container is behind it again."""
    for harm in ("sysctl -qw net.bridge.bridge-nf-call-iptables=0", "iptables -F FORWARD"):
        closed.host.sh(harm)
        idle(closed, "late", "--network", "br0")
        assert ask(closed, "late", closed.address("db", "br0"), 5432, wait=1) is None, harm
        assert closed.plan() == "nothing to change"
        closed.netkit("rm", "-f", "late")


def test_somebody_elses_changes_are_seen_and_mended(closed):
    closed.host.sh("ipset flush NETKIT-LINKS; iptables -F NETKIT-ISOLATE; iptables -t nat -F POSTROUTING")
    plan = closed.plan()
    assert "NETKIT-LINKS" in plan
    assert "NETKIT-ISOLATE" in plan
    closed.netkit("reconcile")
    assert closed.plan() == "nothing to change"
    assert ask(closed, "web", "database", 5432) == "db"
    assert ask(closed, "stranger", closed.address("db", "br0"), 5432, wait=1) is None


def test_links_addresses_and_bridges_come_back(closed):
    closed.host.sh("ip address flush dev br0; ip link set br0 down")
    closed.netkit("reconcile")
    assert "192.168.100.1/24" in closed.host.sh("ip -br address show br0")
    closed.host.sh("ip link del br0")
    closed.netkit("reconcile")
    assert ask(closed, "web", "database", 5432) == "db"
    assert closed.plan() == "nothing to change"


def test_the_users_own_chain_is_first_and_survives(closed):
    serve(closed, "site", "-p", "8085:80")
    assert ask_from(closed.outside, UPLINK, 8085) == "site"
    closed.host.sh(f"iptables -I NETKIT-USER -d {closed.address('site')} -p tcp --dport 80 -j DROP")
    assert ask_from(closed.outside, UPLINK, 8085, wait=1) is None
    closed.netkit("reconcile")
    closed.kill()
    closed.restart()
    assert ask_from(closed.outside, UPLINK, 8085, wait=1) is None
    closed.host.sh("iptables -F NETKIT-USER")
    assert ask_from(closed.outside, UPLINK, 8085) == "site"
    closed.netkit("rm", "-f", "site")


def test_forward_policies_stay_as_they_are(closed):
    closed.host.sh("iptables -P FORWARD DROP")
    serve(closed, "site", "-p", "8086:80")
    assert ask_from(closed.outside, UPLINK, 8086) == "site"
    assert "-P FORWARD DROP" in closed.host.sh("iptables -S FORWARD")
    closed.host.sh("iptables -P FORWARD ACCEPT")
    closed.netkit("rm", "-f", "site")


def test_a_published_port_is_reached_from_everywhere(lab):
    serve(lab, "site", "-p", "8080:80")
    idle(lab, "sibling")
    assert ask_from(lab.outside, UPLINK, 8080) == "site"
    assert ask_from(lab.host, UPLINK, 8080) == "site"
    assert ask_from(lab.host, "127.0.0.1", 8080) == "site"
    assert ask(lab, "sibling", UPLINK, 8080) == "site"
    assert ask(lab, "site", UPLINK, 8080) == "site"
    direct = lab.outside.sh(f"busybox nc -w 1 {lab.address('site')} 80 </dev/null; true", check=False)
    assert direct == ""
    lab.netkit("rm", "-f", "site", "sibling")
    assert ask_from(lab.outside, UPLINK, 8080, wait=1) is None


def test_a_port_bound_to_loopback_is_not_reached_from_outside(lab):
    serve(lab, "private", "-p", "127.0.0.1:8090:80")
    assert ask_from(lab.host, "127.0.0.1", 8090) == "private"
    assert ask_from(lab.outside, UPLINK, 8090, wait=1) is None
    lab.outside.sh(f"ip route add 127.0.0.0/8 via {UPLINK} table 9 2>/dev/null; true")
    lab.netkit("rm", "-f", "private")


def test_a_network_says_where_ports_are_bound_that_name_no_address(lab):
    option = "com.docker.network.bridge.host_binding_ipv4=127.0.0.1"
    lab.netkit("network", "create", "--opt", option, "inner")
    serve(lab, "site", "--network", "inner", "-p", "8091:80", "-p", "0.0.0.0:8092:80", "-p", "0:81")
    assert lab.out("port", "site", "80").splitlines() == ["127.0.0.1:8091", "0.0.0.0:8092"]
    assert lab.out("port", "site", "81").startswith("127.0.0.1:")
    assert ask_from(lab.host, "127.0.0.1", 8091) == "site"
    assert ask_from(lab.outside, UPLINK, 8091, wait=1) is None
    assert ask_from(lab.outside, UPLINK, 8092) == "site"
    lab.netkit("unpublish", "site", "8091", "0.0.0.0:8092:80")
    assert lab.out("port", "site", "80", check=False) == ""
    lab.netkit("rm", "-f", "site")
    lab.netkit("network", "rm", "inner")


def test_ports_are_published_and_taken_back_while_it_runs(lab):
    serve(lab, "site")
    pid = lab.inspect("site")["State"]["Pid"]
    lab.netkit("publish", "site", "8081:80")
    assert ask_from(lab.outside, UPLINK, 8081) == "site"
    assert "8081" in lab.out("port", "site")
    lab.netkit("unpublish", "site", "8081:80")
    assert ask_from(lab.outside, UPLINK, 8081, wait=1) is None
    assert lab.inspect("site")["State"]["Pid"] == pid
    lab.netkit("rm", "-f", "site")


def test_of_two_ways_to_one_port_either_can_go(lab):
    serve(lab, "site", "-p", "8081:80", "--expose", "80")
    idle(lab, "reader", "--link", "site:a")
    lab.netkit("publish", "site", "8082:80")
    lab.netkit("link", "add", "reader", "site:b")
    lab.netkit("unpublish", "site", "8081:80")
    lab.netkit("link", "rm", "reader", "a")
    assert ask_from(lab.outside, UPLINK, 8082) == "site"
    assert ask(lab, "reader", "b", 80) == "site"
    assert lab.plan() == "nothing to change"
    lab.netkit("rm", "-f", "site", "reader")


STREAM = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done"  # the server talks, its client listens


def test_connections_that_still_fit_stay(lab):
    """A client that only listens: what the kernel forgets of it never comes back."""
    lab.netkit("run", "-d", "--name", "talk", "-p", "8083:80", "-p", "8084:80", "box",
               "nc", "-ll", "-p", "80", "-e", "sh", "-c", STREAM)  # fmt: skip
    idle(lab, "reader", "--link", "talk:talk")
    heard = {port: lab.folder / f"heard{port}" for port in (8083, 8084)}
    listeners = [
        subprocess.Popen(lab.outside.argv("sh", "-c", f"exec busybox nc {UPLINK} {port} >{path}"))
        for port, path in heard.items()
    ]
    lab.netkit("exec", "-d", "reader", "sh", "-c", "nc talk 80 >/tmp/heard")

    def lines():
        inside = lab.out("exec", "reader", "cat", "/tmp/heard")
        outside = (path.read_text() for path in heard.values())
        return [len(text.split()) for text in (inside, *outside)]

    try:
        assert eventually(lambda: min(lines()) > 1)
        lab.netkit("rename", "talk", "chat")
        lab.netkit("unpublish", "chat", "8084:80")
        lab.netkit("network", "create", "--subnet", "10.66.0.0/24", "n66")
        lab.netkit("network", "connect", "--gw-priority", "9", "n66", "chat")
        before = lines()
        assert eventually(
            lambda: all(now > was + 5 for now, was in zip(lines()[:2], before[:2], strict=True)), 5
        )
        assert lines()[2] <= before[2] + 1, "what led through the port that was taken back has ended"
    finally:
        for listener in listeners:
            listener.kill()
            listener.wait()
        lab.netkit("rm", "-f", "chat", "talk", "reader", check=False)
        lab.netkit("network", "rm", "n66", check=False)


def test_loopback_is_closed_to_bridges_whatever_the_user_allows(lab):
    """route_localnet is on for published ports; a rule that lets a bridge in must not open 127.0.0.1 to it."""
    lab.host.sh("iptables -I INPUT -i netkit0 -j ACCEPT")
    idle(lab, "guest", "--privileged")
    inside = "sysctl -qw net.ipv4.conf.all.route_localnet=1; ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via {}"
    gateway = lab.json("network", "inspect", "bridge")[0]["IPAM"]["Config"][0]["Gateway"]
    lab.netkit(
        "exec",
        "guest",
        "sh",
        "-c",
        f"echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; {inside.format(gateway)}",
        check=False,
    )
    with lab.host.listening(9999, "secret"):
        assert ask(lab, "guest", gateway, 9999) == "secret"
        assert ask(lab, "guest", "127.0.0.1", 9999, wait=1) is None
    lab.host.sh("iptables -D INPUT -i netkit0 -j ACCEPT")
    lab.netkit("rm", "-f", "guest")


def test_ranges_random_ports_and_all_exposed_ones(lab):
    serve(lab, "many", "-p", "9000-9002:80-82", "-p", "83", "--expose", "84", "-P")
    ports = lab.inspect("many")["NetworkSettings"]["Ports"]
    assert ports["81/tcp"][0]["HostPort"] == "9001"
    assert int(ports["83/tcp"][0]["HostPort"]) > 1023
    assert int(ports["84/tcp"][0]["HostPort"]) > 1023
    assert ask_from(lab.outside, UPLINK, 9000) == "many"
    lab.netkit("rm", "-f", "many")


def test_a_range_of_host_ports_goes_past_those_that_are_taken(lab):
    with lab.host.listening(9100, "mine"):
        serve(lab, "first", "-p", "9100-9102:80")
        assert lab.inspect("first")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] == "9101"
        assert lab.inspect("first")["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"] == "9100-9102"
        assert ask_from(lab.outside, UPLINK, 9101) == "first"
        lab.netkit("publish", "first", "9100-9102:81")
        assert "0.0.0.0:9102" in lab.out("port", "first")
        refused = lab.netkit("publish", "first", "9100-9102:82", check=False).stderr
        assert "ports 9100-9102/tcp on 0.0.0.0 are taken by busybox" in refused
        assert "container first" in refused
    lab.netkit("rm", "-f", "first")


def test_udp_clients_follow_a_port_at_once(lab):
    """A client that keeps its port is not led to a container that is gone."""
    server = (
        "import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('',53))\n"
        "while True: s.sendto(b'{}', s.recvfrom(99)[1])"
    )
    client = (
        "import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        "s.bind(('',40000));s.settimeout(1)\n"
        f"s.sendto(b'q',('{UPLINK}',5300))\n"
        "try: print(s.recv(99).decode().strip())\n"
        "except OSError as e: print('none')"
    )

    def query():
        return lab.outside.sh(f'{sys.executable} -c "{client}"').strip()

    assert query() == "none"
    lab.netkit(
        "run", "-d", "--name", "dns1", "-p", "5300:53/udp", "host", sys.executable, "-c", server.format("one")
    )
    assert eventually(lambda: query() == "one")
    lab.netkit("rm", "-f", "dns1")
    lab.netkit(
        "run", "-d", "--name", "dns2", "-p", "5300:53/udp", "host", sys.executable, "-c", server.format("two")
    )
    assert eventually(lambda: query() == "two")
    lab.netkit("rm", "-f", "dns2")


def test_blame_names_the_verb_the_user_and_the_time(lab):
    serve(lab, "site", "-p", "8082:80")
    rows = lab.json("blame", "8082", "--json")
    assert rows
    assert all(row["User"] and row["Time"] for row in rows)
    assert any("run" in row["Verb"] or "start" in row["Verb"] for row in rows)
    assert lab.json("blame", lab.address("site"), "--json")
    (rule,) = (line for line in lab.host.sh("iptables -t nat -S").splitlines() if "--dport 8082" in line)
    assert lab.json("blame", "8082", "--json")[0] in lab.json("blame", "8082/tcp", "--json")
    for words in ([rule], rule.replace('"', "").split(), ["--", rule]):
        assert lab.json("blame", "--json", *words) == lab.json("blame", "--json", "8082"), words
    lab.netkit("rm", "-f", "site")


def test_blame_names_who_asked_and_not_the_reconcile_that_mended(lab):
    lab.netkit("network", "create", "asked")
    net = lab.json("network", "inspect", "asked")[0]
    bridge = net["Options"]["com.docker.network.bridge.name"]
    before = lab.json("blame", bridge, "--json")
    lab.host.sh(f"ip link del {bridge}; iptables -F NETKIT-ISOLATE; iptables -t nat -F")
    lab.netkit("reconcile")
    assert lab.json("blame", bridge, "--json") == before
    assert {row["Verb"] for row in before} == {"network create asked"}
    lab.netkit("network", "rm", "asked")


def test_dry_run_shows_the_plan_and_changes_nothing(lab):
    def everything():
        shown = lab.host.sh("iptables-save; ip -br link | cut -d' ' -f1; ipset list -t")
        return [line for line in shown.splitlines() if not line.startswith(("#", ":"))]

    before = everything()
    done = lab.out("network", "create", "--dry-run", "--subnet", "10.66.0.0/24", "maybe")
    assert "+ create bridge" in done
    assert "10.66.0.1/24" in done
    assert everything() == before
    assert lab.netkit("network", "inspect", "maybe", check=False).returncode == 4
