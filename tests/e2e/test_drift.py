"""What others changed is seen by plan and mended by reconcile; what is theirs is left to them."""

import subprocess

import pytest

from tests.e2e.probes import ask, idle, serve

VETH = "$(ip -o link show master br7 | cut -d' ' -f2 | cut -d@ -f1 | head -1)"


@pytest.fixture(scope="module")
def pair(lab):
    """Two containers on a network of their own, one linked to the other."""
    lab.netkit(
        "network",
        "create",
        "--subnet",
        "10.77.0.0/24",
        "--no-icc",
        "--opt",
        "com.docker.network.bridge.name=br7",
        "n7",
    )
    serve(lab, "db", "--network", "n7", "--ip", "10.77.0.8", "--expose", "80")
    idle(lab, "web", "--network", "n7", "--ip", "10.77.0.9", "--link", "db:d")
    return lab


def mended(lab, damage, told):
    """After the damage plan tells of it; reconcile mends it and says no more."""
    lab.host.sh(damage)
    try:
        assert told in lab.plan()
    finally:
        lab.netkit("reconcile")
    assert lab.plan() == "nothing to change"
    assert ask(lab, "web", "10.77.0.8") == "db"


@pytest.mark.parametrize("words", ["hash:ip,port,ip", "hash:ip,port,ip comment timeout 9"])
def test_a_set_of_another_shape_is_replaced_with_the_rules_that_use_it(pair, words):
    swap = f"ipset create swapped {words}; ipset swap swapped NETKIT-LINKS; ipset destroy swapped"
    mended(pair, swap, "- delete ipset NETKIT-LINKS")


def test_a_set_of_the_users_is_left_whatever_its_name(pair):
    pair.host.sh("ipset create NETKIT-BLOCK hash:ip; ipset add NETKIT-BLOCK 192.0.2.1")
    try:
        pair.host.sh("iptables -A NETKIT-USER -m set --match-set NETKIT-BLOCK src -j DROP")
        assert pair.plan() == "nothing to change"
        pair.netkit("reconcile")
        assert "192.0.2.1" in pair.host.sh("ipset list NETKIT-BLOCK")
    finally:
        pair.host.sh("iptables -F NETKIT-USER; ipset destroy NETKIT-BLOCK")


def test_a_namespace_that_nothing_holds_any_more_is_replaced_with_all_in_it(pair):
    idle(pair, "lone", "--network", "n7", "--restart", "always")
    ident = pair.inspect("lone")["Id"]
    subprocess.run(["umount", pair.state / "netns" / ident], check=True)
    left = pair.plan()
    assert f"- delete namespace {pair.state}/netns/{ident}" in left
    assert f"+ create process {ident}" in left
    pair.netkit("reconcile")
    assert pair.plan() == "nothing to change"
    pair.netkit("rm", "-f", "lone")
    assert pair.plan() == "nothing to change"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("ip link set br7 group 0", "~ modify bridge br7"),
        (f"ip link set {VETH} group 0", "~ modify veth"),
        ("ip route del 10.77.0.0/24 dev br7", "~ modify address 10.77.0.1/24 dev br7"),
        ("{inside} ip link set eth0 mtu 1200", "~ modify veth"),
        ("{inside} ip route del 10.77.0.0/24 dev eth0", "~ modify veth"),
        ("{inside} ip link set lo down", "~ modify namespace"),
    ],
)
def test_what_drifted_is_mended_in_place(pair, damage, told):
    inside = f"nsenter --net={pair.state}/netns/{pair.inspect('web')['Id']}"
    before = [pair.inspect(name)["State"]["Pid"] for name in ("web", "db")]
    links = pair.host.sh("ip -o link show group 28267 | cut -d: -f1")
    mended(pair, damage.format(inside=inside), told)
    assert before == [pair.inspect(name)["State"]["Pid"] for name in ("web", "db")]
    assert pair.host.sh("ip -o link show group 28267 | cut -d: -f1") == links


def test_an_address_put_back_by_hand_is_no_difference(pair):
    pair.host.sh("ip addr del 10.77.0.1/24 dev br7; ip addr add 10.77.0.1/24 dev br7")
    assert pair.plan() == "nothing to change"
    pair.netkit("reconcile")


def test_a_bridge_keeps_the_mtu_of_the_uplink_when_its_last_container_has_gone(lab):
    lab.host.sh("ip link set up0 mtu 1400; ip route add default via 198.51.100.2")
    try:
        lab.netkit("network", "create", "small")
        lab.netkit("run", "--rm", "--network", "small", "box", "true")
        assert lab.plan() == "nothing to change"
    finally:
        lab.host.sh("ip route del default; ip link set up0 mtu 1500")
        lab.netkit("network", "rm", "small")


@pytest.mark.parametrize("damage", ["rm hosts", "rm hosts; mkdir hosts", "sed -i s/localhost/lost/ hosts"])
def test_a_hosts_file_that_was_replaced_is_mended_inside_as_well(pair, damage):
    folder = pair.state / "containers" / pair.inspect("web")["Id"]
    before = pair.inspect("web")["State"]["Pid"]
    mended(pair, f"cd {folder}; {damage}", f" file {folder}/hosts")
    pair.netkit("link", "add", "web", "db:later")
    assert "later" in pair.out("exec", "web", "cat", "/etc/hosts")
    pair.netkit("link", "rm", "web", "later")
    assert "later" not in pair.out("exec", "web", "cat", "/etc/hosts")
    assert pair.inspect("web")["State"]["Pid"] == before


def test_a_folder_in_a_files_place_stops_no_removal(pair):
    idle(pair, "odd", "--network", "n7")
    pair.host.sh(f"cd {pair.state}/containers/{pair.inspect('odd')['Id']}; rm hosts; mkdir -p hosts/full")
    pair.netkit("rm", "-f", "odd")
    assert pair.plan() == "nothing to change"
