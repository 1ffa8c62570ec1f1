"""Which tables of nf_tables are somebody else's and have a say in IPv4 packets."""

import pytest

from netkit.kernel.command import run
from netkit.kernel.libc import MNT_DETACH, new_namespace, umount
from netkit.kernel.nftables import foreign_tables


@pytest.fixture
def namespace(tmp_path):
    path = tmp_path / "netns"
    new_namespace(str(path))
    yield str(path)
    umount(str(path), MNT_DETACH)


def test_tables_of_others_that_decide_are_named(namespace):
    def write(line):
        run(["nsenter", f"--net={namespace}", *line.split()])

    for line in (
        "iptables-nft -P FORWARD DROP",
        "iptables-nft -t nat -A OUTPUT",
        "ip6tables-nft -A INPUT -j DROP",
    ):
        write(line)
    assert foreign_tables(namespace) == []
    write("ebtables-nft -A FORWARD -j DROP")
    assert foreign_tables(namespace) == ["bridge filter"]
    write("ebtables-nft -F FORWARD")
    assert foreign_tables(namespace) == []
    write("ebtables-nft -P FORWARD DROP")
    assert foreign_tables(namespace) == ["bridge filter"]
