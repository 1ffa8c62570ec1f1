"""Bridges and networks, addresses, several networks per container, isolation."""

import json
import time

import pytest

from tests.e2e.lab import OUTSIDE, UPLINK, Space
from tests.e2e.probes import ask, ask_from, eventually, idle, serve


def test_the_default_bridge_has_a_free_subnet(lab):
    net = lab.json("network", "inspect", "bridge")[0]
    assert net["Options"]["com.docker.network.bridge.name"] == "netkit0"
    assert net["IPAM"]["Config"][0]["Subnet"] == "172.17.0.0/16"
    assert "172.17.0.1/16" in lab.host.sh("ip -br address show netkit0")


def test_a_bridge_is_made_shown_and_removed(lab):
    lab.netkit("bridge", "add", "brx", "--address", "192.168.77.1/24")
    assert "192.168.77.1/24" in lab.host.sh("ip -br address show brx")
    assert "netkit:network/brx" in lab.host.sh("ip link show brx")
    rows = {row["Name"]: row for row in json.loads(lab.out("bridge", "ls", "--json"))}
    assert rows["brx"]["Subnet"] == "192.168.77.0/24"
    lab.netkit("bridge", "rm", "brx")
    assert "brx" not in lab.host.sh("ip -o link")
    assert lab.plan() == "nothing to change"


def test_an_interface_is_put_into_a_bridge_and_taken_out(lab):
    lab.netkit("bridge", "add", "bry")
    lab.host.sh("ip link add nic0 type veth peer name nic1")
    try:
        lab.netkit("bridge", "attach", "bry", "nic0")
        assert "master bry" in lab.host.sh("ip link show nic0")
        lab.netkit("bridge", "detach", "bry", "nic0")
        assert "master" not in lab.host.sh("ip link show nic0")
    finally:
        lab.host.sh("ip link del nic0")
    lab.netkit("bridge", "rm", "bry")


def test_a_container_on_several_networks_and_changed_while_it_runs(lab):
    lab.netkit("network", "create", "--subnet", "10.81.0.0/24", "one")
    lab.netkit("network", "create", "--subnet", "10.82.0.0/24", "--gateway", "10.82.0.9", "two")
    serve(lab, "peer1", "--network", "one")
    serve(lab, "peer2", "--network", "two")
    idle(lab, "both", "--network", "one")
    assert ask(lab, "both", lab.address("peer1", "one")) == "peer1"
    assert ask(lab, "both", lab.address("peer2", "two")) is None
    lab.netkit("network", "connect", "--ip", "10.82.0.77", "two", "both")
    assert lab.address("both", "two") == "10.82.0.77"
    assert ask(lab, "both", lab.address("peer2", "two")) == "peer2"
    assert "10.82.0.77/24" in lab.out("exec", "both", "ip", "address", "show", "eth1")
    lab.netkit("network", "disconnect", "two", "both")
    assert ask(lab, "both", lab.address("peer2", "two")) is None
    assert "eth1" not in lab.out("exec", "both", "ip", "link")
    assert ask(lab, "both", lab.address("peer1", "one")) == "peer1"
    lab.netkit("rm", "-f", "both", "peer1", "peer2")
    lab.netkit("network", "rm", "one", "two")


def test_a_stopped_container_does_not_start_without_a_network_that_has_gone(lab):
    lab.netkit("network", "create", "going")
    lab.netkit("create", "--name", "left", "--network", "going", "box", "sleep", "100000")
    lab.netkit("create", "--name", "gone", "--network", "going", "box", "sleep", "100000")
    lab.netkit("network", "rm", "going")
    failed = lab.netkit("start", "left", check=False)
    assert failed.returncode == 4
    assert "network going of container left no longer exists" in failed.stderr
    assert "netkit network disconnect -f going left" in failed.stderr
    assert list(lab.inspect("left")["NetworkSettings"]["Networks"]) == ["going"]
    assert "left" in lab.out("ps", "-a")
    lab.netkit("network", "prune", "-f")
    lab.netkit("network", "disconnect", "-f", "going", "left")
    lab.netkit("network", "create", "going")
    lab.netkit("network", "connect", "going", "left")
    lab.netkit("network", "connect", "going", "gone")
    lab.netkit("start", "left", "gone")
    assert lab.address("gone", "going")
    lab.netkit("rm", "-f", "left")
    lab.netkit("stop", "-t", "0", "gone")
    lab.netkit("network", "rm", "going")
    lab.kill()
    lab.restart()
    assert lab.plan() == "nothing to change"
    lab.netkit("rm", "gone")


def test_chosen_address_mac_and_interface_name(lab):
    lab.netkit("network", "create", "--subnet", "10.83.0.0/24", "own")
    wish = "name=own,ip=10.83.0.5,mac-address=02:aa:bb:cc:dd:ee,interface=lan0"
    idle(lab, "chosen", "--network", wish)
    shown = lab.out("exec", "chosen", "ip", "address", "show", "lan0")
    assert "10.83.0.5/24" in shown
    assert "02:aa:bb:cc:dd:ee" in shown
    lab.netkit("rm", "-f", "chosen")
    lab.netkit("network", "rm", "own")


def test_macs_follow_addresses(lab):
    idle(lab, "plain")
    octets = [f"{int(octet):02x}" for octet in lab.address("plain").split(".")]
    assert ":".join(["02", "42", *octets]) in lab.out("exec", "plain", "ip", "link", "show", "eth0")
    lab.netkit("rm", "-f", "plain")


def test_the_default_gateway_goes_by_priority(lab):
    for number in (1, 2):
        lab.netkit("network", "create", "--subnet", f"10.9{number}.0.0/24", f"gw{number}")
    idle(lab, "routed", "--network", "gw1", "--network", "name=gw2,gw-priority=5")
    assert "default via 10.92.0.1" in lab.out("exec", "routed", "ip", "route")
    lab.netkit("network", "disconnect", "gw2", "routed")
    assert "default via 10.91.0.1" in lab.out("exec", "routed", "ip", "route")
    lab.netkit("rm", "-f", "routed")
    lab.netkit("network", "rm", "gw1", "gw2")


def test_networks_are_isolated_and_internal_ones_stay_inside(lab):
    lab.netkit("network", "create", "--internal", "inside")
    lab.netkit("network", "create", "other")
    serve(lab, "in1", "--network", "inside")
    idle(lab, "in2", "--network", "inside")
    serve(lab, "out1", "--network", "other")
    assert ask(lab, "in2", lab.address("in1", "inside")) == "in1"
    assert ask(lab, "out1", lab.address("in1", "inside"), wait=1) is None
    assert ask(lab, "in2", lab.address("out1", "other"), wait=1) is None
    with lab.outside.listening(7000, "far"):
        assert ask(lab, "out1", OUTSIDE, 7000) == "far"
        assert ask(lab, "in2", OUTSIDE, 7000, wait=1) is None
    lab.netkit("rm", "-f", "in1", "in2", "out1")
    lab.netkit("network", "rm", "inside", "other")


def test_fixed_cidr_of_the_tutorial(fresh_lab):
    fresh_lab.start("--bip", "10.211.55.1/24", "--fixed-cidr", "10.211.55.64/26")
    fresh_lab.netkit("image", "import", str(fresh_lab.box_tar), "box")
    idle(fresh_lab, "first")
    assert fresh_lab.address("first") == "10.211.55.64"


def test_an_existing_bridge_is_used_and_left(fresh_lab):
    fresh_lab.host.sh(
        "ip link add br0 type bridge; ip address add 192.168.5.1/24 dev br0; ip link set br0 up"
    )
    fresh_lab.start("-b", "br0")
    fresh_lab.netkit("image", "import", str(fresh_lab.box_tar), "box")
    serve(fresh_lab, "web", "-p", "8080:80")
    assert fresh_lab.address("web") == "192.168.5.2"
    assert "netkit0" not in fresh_lab.host.sh("ip -o link")
    fresh_lab.netkit("teardown")
    shown = fresh_lab.host.sh("ip -br address show br0")
    assert "192.168.5.1/24" in shown
    assert fresh_lab.leftovers() == ""


def test_an_existing_bridge_that_loses_its_address_gets_it_back_for_good(fresh_lab):
    fresh_lab.host.sh("ip link add br0 type bridge; ip address add 192.168.5.1/24 dev br0")
    fresh_lab.start("-b", "br0", "--fixed-cidr", "192.168.5.64/26")
    fresh_lab.netkit("image", "import", str(fresh_lab.box_tar), "box")
    serve(fresh_lab, "web", "-p", "8080:80")
    fresh_lab.host.sh("ip address del 192.168.5.1/24 dev br0")
    fresh_lab.netkit("reconcile")
    fresh_lab.kill()
    fresh_lab.restart()
    assert "192.168.5.1/24" in fresh_lab.host.sh("ip -br address show br0")
    assert ask_from(fresh_lab.outside, UPLINK, 8080) == "web"
    assert fresh_lab.plan() == "nothing to change"


def test_the_lans_router_keeps_its_address_and_the_hosts_own_are_leased_to_nobody(fresh_lab):
    router = Space("router")
    try:
        fresh_lab.host.sh(
            "ip link add br0 type bridge; ip address add 192.168.5.2/24 dev br0; ip link set br0 up;"
            f" ip link add nic0 master br0 type veth peer name eth0 netns {router.name}; ip link set nic0 up"
        )
        router.sh(
            "ip link set eth0 up; ip address add 192.168.5.1/24 dev eth0; ip address add 203.0.113.1 dev lo"
        )
        fresh_lab.start("-b", "br0", "--default-gateway", "192.168.5.1")
        fresh_lab.netkit("image", "import", str(fresh_lab.box_tar), "box")
        idle(fresh_lab, "first")
        assert fresh_lab.host.sh("ip -br -4 address show br0").split()[2:] == ["192.168.5.2/24"]
        assert fresh_lab.address("first") == "192.168.5.3"
        with router.listening(7000, "far"):
            assert ask(fresh_lab, "first", "203.0.113.1", 7000) == "far"
        fresh_lab.host.sh("ip address add 192.168.5.4/24 dev br0")
        idle(fresh_lab, "second")
        assert fresh_lab.address("second") == "192.168.5.5"
        assert fresh_lab.plan() == "nothing to change"
    finally:
        router.close()


def test_what_a_daemon_was_told_to_leave_alone_is_no_error_and_an_absent_address_is_told(fresh_lab):
    fresh_lab.host.sh("sysctl -qw net.ipv4.ip_forward=0")
    fresh_lab.start("--ip-forward=false", "--ip", "192.0.2.9")
    assert "no address 192.0.2.9 (--ip)" in fresh_lab.log()
    assert "left alone (--ip-forward=false)" in fresh_lab.out("doctor")
    fresh_lab.netkit("image", "import", str(fresh_lab.box_tar), "box")
    failed = fresh_lab.netkit("run", "-d", "-p", "8080:80", "box", "sleep", "9", check=False)
    assert "this host has no address 192.0.2.9" in failed.stderr
    serve(fresh_lab, "web", "-p", "0.0.0.0:8080:80")
    assert ask_from(fresh_lab.host, UPLINK, 8080) == "web"


def test_prune_takes_what_nobody_uses(lab):
    lab.netkit("network", "create", "lonely")
    idle(lab, "user")
    lab.netkit("network", "prune", "-f")
    names = lab.out("network", "ls", "-q", "--no-trunc").split()
    assert lab.json("network", "inspect", "bridge")[0]["Id"] in names
    assert lab.netkit("network", "inspect", "lonely", check=False).returncode == 4
    lab.netkit("rm", "-f", "user")


@pytest.mark.parametrize("verb", ["network", "bridge"])
def test_listing_says_json_on_demand(lab, verb):
    assert isinstance(json.loads(lab.out(verb, "ls", "--json")), list)


def test_icc_off_turns_the_bridge_filter_on_and_gives_it_back(fresh_lab):
    setting = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    fresh_lab.host.sh(f"echo 0 > {setting}")
    fresh_lab.start()
    assert fresh_lab.host.sh(f"cat {setting}") == "0\n"
    fresh_lab.netkit("network", "create", "--no-icc", "shut")
    assert fresh_lab.host.sh(f"cat {setting}") == "1\n"
    fresh_lab.host.sh(f"echo 0 > {setting}")
    assert "bridge-nf-call-iptables" in fresh_lab.plan()
    fresh_lab.netkit("reconcile")
    assert fresh_lab.host.sh(f"cat {setting}") == "1\n"
    fresh_lab.netkit("network", "rm", "shut")
    assert fresh_lab.host.sh(f"cat {setting}") == "0\n"


def test_the_default_bridge_may_be_one_that_netkit_made_or_none(fresh_lab):
    lab = fresh_lab
    lab.start()
    lab.netkit("image", "import", str(lab.box_tar), "box")
    lab.netkit("bridge", "add", "br0", "--address", "192.168.100.1/24")
    serve(lab, "web", "--network", "br0")
    lab.stop()
    lab.start("-b", "br0")
    idle(lab, "new")
    assert lab.address("new").startswith("192.168.100.")
    assert ask(lab, "new", lab.address("web")) == "web"
    assert "netkit0" not in lab.host.sh("ip -br link")
    assert lab.plan() == "nothing to change"
    lab.netkit("rm", "-f", "new")
    lab.stop()
    lab.start()
    assert lab.out("network", "inspect", "-f", "{{.Name}}", "br0") == "br0"
    assert "netkit0" in lab.host.sh("ip -br link")
    lab.stop()
    lab.start("-b", "none")
    assert "netkit0" not in lab.host.sh("ip -br link")
    assert ask_from(lab.host, lab.address("web", "br0"), 80) == "web"
    assert lab.netkit("run", "--rm", "box", "true", check=False).returncode == 125
    assert lab.plan() == "nothing to change"


def test_an_address_that_the_host_has_on_a_bridge_is_not_leased(lab):
    lab.netkit(
        "network", "create", "--subnet", "10.61.0.0/29", "-o", "com.docker.network.bridge.name=br61", "n61"
    )
    lab.host.sh("ip address add 10.61.0.2/29 dev br61")
    idle(lab, "next", "--network", "n61")
    assert lab.address("next", "n61") == "10.61.0.3"
    for words in (("run", "--rm", "--network", "n61", "--ip", "10.61.0.2", "box", "true"),
                  ("create", "--network", "n61", "--ip", "10.61.0.2", "box", "true")):  # fmt: skip
        assert "10.61.0.2 is in use" in lab.netkit(*words, check=False).stderr
    idle(lab, "other")
    assert lab.netkit("network", "connect", "--ip", "10.61.0.2", "n61", "other", check=False).returncode == 5
    lab.netkit("rm", "-f", "next", "other")
    lab.netkit("network", "rm", "n61")


def test_icc_that_is_switched_off_ends_what_passes(fresh_lab):
    """The daemon comes back with --icc=false: what its containers have been saying to each other ends as well."""
    fresh_lab.start()
    fresh_lab.netkit("image", "import", str(fresh_lab.box_tar), "box")
    fresh_lab.netkit("run", "-d", "--name", "ear", "box", "sh", "-c", "sleep 99 | nc -l -p 9 >/tmp/heard")
    count = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done | nc {} 9"
    fresh_lab.netkit(
        "run", "-d", "--name", "mouth", "box", "sh", "-c", count.format(fresh_lab.address("ear"))
    )

    def heard():
        return len(fresh_lab.out("exec", "ear", "cat", "/tmp/heard").split())

    assert eventually(lambda: heard() > 3)
    fresh_lab.stop()
    fresh_lab.restart("--icc=false")
    before = heard()
    time.sleep(1)
    assert heard() <= before + 1


def test_a_host_whose_iptables_is_the_legacy_one(fresh_lab):
    fresh_lab.start("--iptables-variant", "legacy", "--icc=false")
    fresh_lab.netkit("image", "import", str(fresh_lab.box_tar), "box")
    serve(fresh_lab, "web", "-p", "8080:80")
    idle(fresh_lab, "other")
    assert ask_from(fresh_lab.outside, UPLINK, 8080) == "web"
    assert ask(fresh_lab, "other", fresh_lab.address("web"), wait=1) is None
    assert "NETKIT-FORWARD" in fresh_lab.host.sh("iptables-legacy -S")
    assert "NETKIT" not in fresh_lab.host.sh("iptables -S 2>/dev/null")
    fresh_lab.host.sh("iptables-legacy -F NETKIT-FORWARD")
    fresh_lab.netkit("reconcile")
    assert fresh_lab.plan() == "nothing to change"
    fresh_lab.netkit("teardown")
    assert fresh_lab.leftovers() == ""
