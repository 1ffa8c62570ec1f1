"""The ipset driver against the kernel."""

import time

import pytest

from netkit.errors import ApplyError, Conflict, Unsupported
from netkit.kernel.command import run
from netkit.kernel.ipset import IpSets
from netkit.kernel.libc import MNT_DETACH, in_namespace, new_namespace, umount
from netkit.model.operation import Operation
from netkit.model.resource import IpSet, Member

SETS = {
    "NETKIT-BRIDGES": "hash:net,iface",
    "NETKIT-PORTS": "hash:ip,port",
    "NETKIT-LINKS": "hash:ip,port,ip",
    "NETKIT-HOSTS": "hash:ip",
    "NETKIT-NETS": "hash:net",
}
MEMBERS = [
    ("NETKIT-BRIDGES", "0.0.0.0/0,br0"),
    ("NETKIT-BRIDGES", "10.0.0.0/8,br-0123456789ab"),
    ("NETKIT-BRIDGES", "10.0.0.2,br0"),
    ("NETKIT-PORTS", "10.0.0.2,tcp:80"),
    ("NETKIT-PORTS", "10.0.0.2,udp:65535"),
    ("NETKIT-PORTS", "10.0.0.2,sctp:1"),
    ("NETKIT-LINKS", "10.0.0.2,tcp:80,10.0.0.3"),
    ("NETKIT-HOSTS", "10.0.0.2"),
    ("NETKIT-NETS", "10.0.0.0/24"),
    ("NETKIT-NETS", "10.1.0.2"),
]


@pytest.fixture
def namespace(tmp_path):
    path = str(tmp_path / "net")
    new_namespace(path)
    yield path
    umount(path, MNT_DETACH)


@pytest.fixture
def driver(namespace):
    with IpSets(namespace, SETS) as found:
        yield found


def ipset(namespace, *words):
    """What the `ipset` program says there."""
    return run(["nsenter", f"--net={namespace}", "--", "ipset", *words]).stdout


def a_set(name="NETKIT-PORTS"):
    return IpSet(owner="host", name=name, type=SETS[name])


def member(entry, name="NETKIT-PORTS", owner="publish/web/br0"):
    return Member(owner=owner, set=name, entry=entry)


def create(driver, *resources):
    return list(driver.execute([Operation(None, resource) for resource in resources]))


def delete(driver, *resources):
    return list(driver.execute([Operation(resource, None) for resource in resources]))


ALL = [a_set(name) for name in SETS] + [member(entry, name) for name, entry in MEMBERS]


def test_all_types_are_made_and_read_back(driver, namespace):
    done = create(driver, *ALL)
    assert [operation.wanted for operation in done] == ALL
    assert set(driver.observe(None)) == set(ALL)
    assert list(driver.observe(ALL)) == ALL
    assert 'comment "netkit:publish/web/br0"' in ipset(namespace, "save", "NETKIT-LINKS")


@pytest.mark.parametrize(("name", "entry"), MEMBERS)
def test_a_member_is_what_the_program_prints(driver, namespace, name, entry):
    create(driver, a_set(name), member(entry, name))
    assert f"\n{entry} comment" in ipset(namespace, "list", name)
    assert ipset(namespace, "test", name, entry) == ""  # it says so on stderr and exits with 0


def test_there_is_room_for_a_million(driver, namespace):
    create(driver, a_set())
    assert "maxelem 1048576" in ipset(namespace, "list", "NETKIT-PORTS")


def test_twice_is_once(driver):
    create(driver, *ALL, *ALL)
    assert list(driver.observe(ALL)) == ALL
    delete(driver, *reversed(ALL))
    delete(driver, *reversed(ALL))
    assert list(driver.observe(None)) == []
    assert list(driver.observe(ALL)) == []


def test_a_member_changes_hands(driver):
    ours, theirs = member("10.0.0.2,tcp:80"), member("10.0.0.2,tcp:80", owner="link/db")
    create(driver, a_set(), ours)
    list(driver.execute([Operation(ours, theirs)]))
    assert theirs in list(driver.observe(None))


def test_the_owner_is_echoed_in_a_scope(driver):
    create(driver, a_set(), member("10.0.0.2,tcp:80"))
    asked = member("10.0.0.2,tcp:80", owner="somebody")
    assert list(driver.observe([asked])) == [asked]


def test_a_host_in_a_network_of_the_set_is_no_member(driver):
    inside = member("10.0.0.7", "NETKIT-NETS")
    create(driver, a_set("NETKIT-NETS"), member("10.0.0.0/24", "NETKIT-NETS"))
    assert list(driver.observe([inside])) == []
    create(driver, inside)
    assert list(driver.observe([inside])) == [inside]


def test_what_others_put_there_is_neither_told_nor_taken(driver, namespace):
    create(driver, a_set(), member("10.0.0.2,tcp:80"))
    ipset(namespace, "add", "NETKIT-PORTS", "10.9.9.9,tcp:9")
    ipset(namespace, "add", "NETKIT-PORTS", "10.9.9.8,tcp:9", "comment", "mine")
    for name in ("elsewhere", "NETKIT-MYSET"):
        ipset(namespace, "create", name, "hash:ip", "comment")
        ipset(namespace, "add", name, "10.9.9.9", "comment", "netkit:host")
    assert set(driver.observe(None)) == {a_set(), member("10.0.0.2,tcp:80")}
    delete(driver, member("10.0.0.2,tcp:80"))
    assert "10.9.9.9,tcp:9" in ipset(namespace, "list", "NETKIT-PORTS")


def test_a_flush_is_seen_and_mended(driver, namespace):
    create(driver, *ALL)
    ipset(namespace, "flush", "NETKIT-LINKS")
    lost = [resource for resource in ALL if resource not in list(driver.observe(ALL))]
    assert lost == [member("10.0.0.2,tcp:80,10.0.0.3", "NETKIT-LINKS")]
    create(driver, *lost)
    assert list(driver.observe(ALL)) == ALL


def test_one_failure_hides_no_success(driver):
    create(driver, a_set())
    good, lost = member("10.0.0.2,tcp:80"), member("10.0.0.2", "NETKIT-HOSTS")
    with pytest.raises(ApplyError, match="there is no such set"):
        create(driver, good, lost)
    operations = driver.execute([Operation(None, good), Operation(None, lost)])
    assert next(operations).wanted == good
    assert list(driver.observe([good, lost])) == [good]


def test_a_set_of_another_type_is_a_conflict(driver):
    create(driver, a_set("NETKIT-HOSTS"))
    with pytest.raises(Conflict, match="another type"):
        create(driver, IpSet(owner="host", name="NETKIT-HOSTS", type="hash:net"))


@pytest.mark.parametrize(
    "words",
    [
        "hash:ip,port",
        "hash:ip,port comment timeout 5",
        "hash:ip,port comment family inet6",
        "hash:ip comment",
        "hash:ip,port,ip comment",
        "hash:net,iface comment",
        "bitmap:port range 1-9 comment",
        "list:set",
    ],
)
def test_a_set_of_another_shape_is_seen_and_replaced(driver, namespace, words):
    ours, inside = a_set(), member("10.0.0.2,tcp:80")
    ipset(namespace, "create", ours.name, *words.split())
    (seen,) = driver.observe(None)
    assert list(driver.observe([ours, inside])) == [seen]
    assert seen.type != ours.type
    delete(driver, inside, seen)
    create(driver, ours, inside)
    assert list(driver.observe([ours, inside])) == [ours, inside]


def test_a_set_in_use_is_a_conflict(driver, namespace):
    create(driver, a_set("NETKIT-HOSTS"))
    rule = ["FORWARD", "-m", "set", "--match-set", "NETKIT-HOSTS", "src", "-j", "DROP"]
    run(["nsenter", f"--net={namespace}", "iptables", "-A", *rule])
    with pytest.raises(Conflict, match="uses the set"):
        delete(driver, a_set("NETKIT-HOSTS"))
    run(["nsenter", f"--net={namespace}", "iptables", "-D", *rule])
    delete(driver, a_set("NETKIT-HOSTS"))
    assert list(driver.observe(None)) == []


def test_a_type_that_the_kernel_lacks(driver):
    with pytest.raises(Unsupported, match="lacks this type") as caught:
        create(driver, IpSet(owner="host", name="NETKIT-X", type="hash:nothing"))
    assert "modprobe" in caught.value.hint


def test_without_a_namespace_it_is_that_of_the_thread(namespace):
    def work():
        with IpSets(names=SETS) as driver:
            create(driver, *ALL)
            return list(driver.observe(None))

    assert set(in_namespace(namespace, work)) == set(ALL)
    assert "NETKIT-PORTS" in ipset(namespace, "list", "-n")


def test_a_thousand_members_in_one_call(driver):
    crowd = [member(f"10.1.{i // 250}.{i % 250},tcp:80") for i in range(1000)]
    create(driver, a_set())
    began = time.perf_counter()
    create(driver, *crowd)
    assert time.perf_counter() - began < 1.0  # 0.03 s on an idle machine
    assert list(driver.observe(crowd)) == crowd
    assert len(list(driver.observe(None))) == 1001
    delete(driver, *crowd)
    assert list(driver.observe(None)) == [a_set()]


def test_the_socket_is_closed(namespace):
    with IpSets(namespace, SETS) as driver:
        create(driver, a_set())
    with pytest.raises(OSError, match="Bad file descriptor"):
        create(driver, a_set())
