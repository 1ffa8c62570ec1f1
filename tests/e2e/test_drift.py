"""What others changed is seen by plan and mended by reconcile; what is theirs is left to them."""

import subprocess

import pytest

from tests.e2e.probes import ask, idle, serve


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


def mended(lab, damage, told, space=None):
    """After the damage plan tells of it; reconcile mends it and says no more."""
    (space or lab.host).sh(damage)
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


def test_a_loopback_inside_is_put_up_again_and_nothing_is_replaced(pair):
    before = pair.inspect("web")["State"]["Pid"]
    inside = f"nsenter --net={pair.state}/netns/{pair.inspect('web')['Id']}"
    mended(pair, f"{inside} ip link set lo down", "~ modify namespace")
    assert pair.inspect("web")["State"]["Pid"] == before
