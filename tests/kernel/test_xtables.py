"""The iptables driver against the kernel, on both variants, in fresh namespaces."""

import fcntl
import sys
import threading
import time

import pytest
from msgspec import structs

from netkit.errors import ApplyError, Unsupported
from netkit.kernel.command import run
from netkit.kernel.libc import MNT_DETACH, in_namespace, new_namespace, umount
from netkit.kernel.xtables import XTables, detect, mixed
from netkit.kernel.xtables_nft import Programs
from netkit.model.operation import Operation
from netkit.model.resource import Chain, Entry, Hook
from netkit.model.rule import parse_rule

HOST = '-m comment --comment "netkit:host"'
USER = Chain(owner="host", table="filter", name="NETKIT-USER", keep=True)
ISOLATE = Chain(
    owner="host",
    table="filter",
    name="NETKIT-ISOLATE",
    rules=(parse_rule(f"-m set --match-set NETKIT-BR dst,dst {HOST} -j DROP"),),
)
FORWARD = Chain(
    owner="host",
    table="filter",
    name="NETKIT-FORWARD",
    rules=(
        parse_rule(f"-m conntrack --ctstate RELATED,ESTABLISHED {HOST} -j ACCEPT"),
        parse_rule(f"-m set --match-set NETKIT-BR src,src {HOST} -j NETKIT-ISOLATE"),
    ),
)
PUBLISH = Chain(owner="host", table="nat", name="NETKIT-PUBLISH")
MASQ = Chain(owner="host", table="nat", name="NETKIT-MASQ")
HOOKS = [
    Hook(
        owner="host",
        table="filter",
        chain="FORWARD",
        rules=(parse_rule(f"{HOST} -j NETKIT-USER"), parse_rule(f"{HOST} -j NETKIT-FORWARD")),
    ),
    Hook(
        owner="host",
        table="nat",
        chain="PREROUTING",
        rules=(parse_rule(f"-m addrtype --dst-type LOCAL {HOST} -j NETKIT-PUBLISH"),),
    ),
    Hook(
        owner="host",
        table="nat",
        chain="POSTROUTING",
        rules=(parse_rule(f"{HOST} -j NETKIT-MASQ"),),
    ),
]
CHAINS = [USER, ISOLATE, FORWARD, PUBLISH, MASQ]


def entry(chain, text, owner="network/br0"):
    """One of our rules in a chain; `@` stands where the comment goes."""
    rule = structs.replace(parse_rule(text.replace("@ ", "")), owner=owner)
    return Entry(owner=owner, table=chain.table, chain=chain.name, rule=rule)


def redirect(port):
    text = f"-p tcp -m tcp --dport {port} @ -j DNAT --to-destination 10.0.0.2:80"
    return entry(PUBLISH, text, f"publish/web/{port}")


ENTRIES = [
    entry(FORWARD, "-i br0 -o br0 @ -j ACCEPT"),
    redirect(8080),
    entry(MASQ, "-s 10.0.0.0/24 ! -o br0 @ -j MASQUERADE"),
]
ALL = [*CHAINS, *HOOKS, *ENTRIES]


@pytest.fixture
def namespace(tmp_path):
    path = str(tmp_path / "net")
    new_namespace(path)
    run(["nsenter", f"--net={path}", "ipset", "create", "NETKIT-BR", "hash:net,iface", "comment"])
    run(["nsenter", f"--net={path}", "ipset", "create", "NETKIT-LINKS", "hash:ip,port,ip", "comment"])
    yield path
    umount(path, MNT_DETACH)


@pytest.fixture(params=["nft", "legacy"])
def variant(request):
    return request.param


@pytest.fixture
def driver(namespace, variant):
    return XTables(namespace, variant)


@pytest.fixture
def iptables(namespace, variant):
    """A person at the command line: words of iptables, its output back."""

    def call(*words, program=f"iptables-{variant}"):
        return run(["nsenter", f"--net={namespace}", "--", program, *words]).stdout

    return call


def create(driver, *resources):
    return list(driver.execute([Operation(None, resource) for resource in resources]))


def delete(driver, *resources):
    return list(driver.execute([Operation(resource, None) for resource in resources]))


FEATURES = [
    ("filter", "-i br0 -o br0 @ -j DROP"),
    ("filter", "! -i br0 -o br0 @ -j DROP"),
    ("filter", "-s 10.0.0.2/32 ! -d 10.0.0.0/24 -i br+ ! -o br0 @ -j ACCEPT"),
    ("filter", "-p icmp @ -j ACCEPT"),
    ("filter", "! -p tcp @ -j ACCEPT"),
    ("filter", "-p gre @ -j ACCEPT"),
    ("filter", "-p tcp -m tcp --dport 80 @ -j ACCEPT"),
    ("filter", "-p tcp -m tcp --dport 0 @ -j ACCEPT"),
    ("filter", "-p udp -m udp ! --dport 80:90 @ -j ACCEPT"),
    ("filter", "-p sctp -m sctp --dport 80:90 @ -j ACCEPT"),
    ("filter", "-m conntrack --ctstate RELATED,ESTABLISHED @ -j ACCEPT"),
    ("filter", "-m conntrack --ctstate INVALID,NEW,UNTRACKED @ -j DROP"),
    ("filter", "-m conntrack --ctstate DNAT @ -j RETURN"),
    ("filter", "-m conntrack ! --ctstate NEW,SNAT,DNAT @ -j RETURN"),
    ("filter", "-m set --match-set NETKIT-BR src,src -m set ! --match-set NETKIT-BR dst,dst @ -j DROP"),
    ("filter", "-m set --match-set NETKIT-LINKS dst,dst,src @ -j ACCEPT"),
    ("filter", "-m set ! --match-set NETKIT-LINKS src,src,dst @ -j ACCEPT"),
    ("filter", "-m addrtype --dst-type LOCAL @ -j ACCEPT"),
    ("filter", "-m addrtype ! --src-type LOCAL @ -j ACCEPT"),
    ("filter", "-m addrtype ! --src-type LOCAL ! --dst-type LOCAL @ -j ACCEPT"),
    (
        "filter",
        "-p tcp -m tcp --dport 1 -m addrtype --dst-type LOCAL -m conntrack --ctstate NEW"
        " -m set --match-set NETKIT-BR src,src @ -j NETKIT-MASQ",
    ),
    ("nat", "-d 1.2.3.4/32 ! -i br0 -p tcp -m tcp --dport 8080 @ -j DNAT --to-destination 10.0.0.2:80"),
    ("nat", "-p udp -m udp --dport 8080:8090 @ -j DNAT --to-destination 10.0.0.2"),
    ("nat", "-p tcp -m tcp --dport 80 @ -j DNAT --to-destination 10.0.0.2:80-90"),
    ("nat", "-p sctp -m sctp --dport 80 @ -j DNAT --to-destination 10.0.0.2:80"),
    ("nat", "-s 10.0.0.0/24 ! -o br0 @ -j MASQUERADE"),
    ("nat", "-s 10.0.0.0/24 -d 10.0.0.0/24 -m conntrack --ctstate DNAT @ -j MASQUERADE"),
]


@pytest.mark.parametrize(("table", "text"), FEATURES)
@pytest.mark.parametrize("owner", ["network/br0", 'link/we\'b:"d b"'])
def test_every_feature_is_printed_as_written(driver, iptables, table, text, owner):
    chain = Chain(owner="host", table=table, name="NETKIT-MASQ")
    place = Chain(owner="host", table=table, name="NETKIT-ISOLATE")
    wanted = entry(place, text, owner)
    create(driver, chain, place, wanted)
    printed = iptables("-t", table, "-S", place.name).splitlines()
    assert printed == [f"-N {place.name}", f"-A {place.name} {wanted.rule.text()}"]
    assert set(driver.observe(None)) == {chain, place, wanted}
    assert list(driver.observe([wanted])) == [wanted]
    delete(driver, wanted)
    assert list(driver.observe([wanted])) == []
    delete(driver, chain, place)
    assert list(driver.observe(None)) == []


def test_all_is_made_at_once_and_read_back(driver):
    done = create(driver, *ALL)
    assert [operation.wanted for operation in done] == ALL
    assert list(driver.observe(ALL)) == ALL
    assert set(driver.observe(None)) == set(ALL)


def test_twice_is_once(driver, iptables):
    create(driver, *ALL)
    before = iptables("-S") + iptables("-t", "nat", "-S")
    create(driver, *ALL, *ALL)
    assert iptables("-S") + iptables("-t", "nat", "-S") == before


def test_nothing_remains(driver, iptables):
    policies = [iptables("-S"), iptables("-t", "nat", "-S")]
    create(driver, *ALL)
    done = delete(driver, *ALL)  # in an order in which one by one would fail
    assert [operation.observed for operation in done] == ALL
    assert [iptables("-S"), iptables("-t", "nat", "-S")] == policies
    delete(driver, *ALL)
    assert list(driver.observe(ALL)) == []


def test_own_rules_come_first_whenever_they_come(driver, iptables):
    bare = Chain(owner="host", table="filter", name="NETKIT-FORWARD")
    create(driver, ISOLATE, bare, ENTRIES[0])
    list(driver.execute([Operation(bare, FORWARD)]))
    printed = iptables("-S", "NETKIT-FORWARD").splitlines()[1:]
    texts = [rule.text() for rule in (*FORWARD.rules, ENTRIES[0].rule)]
    assert printed == [f"-A NETKIT-FORWARD {text}" for text in texts]
    list(driver.execute([Operation(FORWARD, bare)]))
    assert iptables("-S", "NETKIT-FORWARD").splitlines()[1:] == printed[2:]


def test_a_chain_that_is_replaced_stays(driver):
    create(driver, *ALL)
    bare = Chain(owner="host", table="filter", name="NETKIT-FORWARD")
    list(driver.execute([Operation(FORWARD, None), Operation(None, bare)]))
    assert bare in list(driver.observe(None))


def test_what_others_wrote_survives(driver, iptables):
    create(driver, *ALL)
    theirs = [
        "NETKIT-FORWARD -s 9.9.9.1/32 -j DROP",
        "NETKIT-USER -s 9.9.9.2/32 -j REJECT --reject-with icmp-port-unreachable",
        "FORWARD -s 9.9.9.3/32 -m comment --comment netkit-like -j DROP",
        "INPUT -s 9.9.9.4/32 -m limit --limit 3/hour -j DROP",
    ]
    for text in theirs:
        iptables("-I", *text.split())
    iptables("-N", "THEIRS")
    iptables("-P", "FORWARD", "DROP")
    assert set(driver.observe(None)) == set(ALL)
    assert list(driver.observe(ALL)) == ALL
    for step in (create, delete, delete):
        step(driver, *ALL)
        printed = iptables("-S").splitlines()
        assert [text for text in theirs if f"-A {text}" not in printed] == []
        assert "-P FORWARD DROP" in printed
        assert "-N THEIRS" in printed
    # Their rules keep two of our chains in being; they are no longer ours to tell or to remove.
    assert list(driver.observe(None)) == []
    assert list(driver.observe(ALL)) == []
    create(driver, *ALL)
    assert list(driver.observe(ALL)) == ALL


def test_a_jump_of_theirs_keeps_the_chain(driver, iptables):
    create(driver, *ALL)
    iptables("-I", "INPUT", "-j", "NETKIT-FORWARD")
    delete(driver, *ALL)
    assert iptables("-S").splitlines()[-2:] == ["-N NETKIT-FORWARD", "-A INPUT -j NETKIT-FORWARD"]
    assert list(driver.observe(None)) == []


def test_a_rule_above_our_hook_is_tolerated(driver, iptables):
    create(driver, *ALL)
    iptables("-I", "FORWARD", "-j", "ACCEPT")
    iptables("-I", "FORWARD", "3", "-j", "ACCEPT")
    before = iptables("-S")
    assert list(driver.observe(HOOKS)) == HOOKS
    create(driver, *HOOKS)
    assert iptables("-S") == before


@pytest.mark.parametrize("harm", ["missing", "disordered", "doubled"])
def test_a_harmed_hook_is_seen_and_mended(driver, iptables, harm):
    create(driver, *ALL)
    jump = ["FORWARD", "-m", "comment", "--comment", "netkit:host", "-j", "NETKIT-USER"]
    if harm != "doubled":
        iptables("-D", *jump)
    if harm != "missing":
        iptables("-A", *jump)
    iptables("-I", "FORWARD", "-j", "ACCEPT")
    (found,) = driver.observe(HOOKS[:1])
    assert found != HOOKS[0]
    list(driver.execute([Operation(found, HOOKS[0])]))
    assert list(driver.observe(HOOKS)) == HOOKS
    texts = [f"-A FORWARD {rule.text()}" for rule in HOOKS[0].rules]
    assert iptables("-S", "FORWARD").splitlines()[1:] == [*texts, "-A FORWARD -j ACCEPT"]


def test_the_users_chain_stands_while_nothing_leads_to_it(driver, iptables):
    create(driver, *ALL)
    iptables("-A", "NETKIT-USER", "-s", "9.9.9.2/32", "-j", "DROP")
    iptables("-F", "FORWARD")
    lost = {HOOKS[0]}
    assert set(driver.observe(None)) == set(ALL) - lost
    assert set(driver.observe(ALL)) == set(ALL) - lost
    create(driver, HOOKS[0])
    assert list(driver.observe(ALL)) == ALL
    assert "-s 9.9.9.2/32" in iptables("-S", "NETKIT-USER")


@pytest.mark.parametrize("table", ["filter", "nat"])
def test_a_flush_is_seen_and_mended(driver, iptables, table):
    create(driver, *ALL)
    iptables("-t", table, "-F")
    iptables("-t", table, "-X")
    lost = {resource for resource in ALL if resource.table == table}
    assert set(driver.observe(None)) == set(ALL) - lost
    assert set(driver.observe(ALL)) == set(ALL) - lost
    create(driver, *ALL)
    assert list(driver.observe(ALL)) == ALL


def test_a_doubled_entry_is_seen_and_mended(driver, iptables):
    create(driver, *ALL)
    iptables(
        "-A", "NETKIT-FORWARD", *"-i br0 -o br0 -m comment --comment netkit:network/br0 -j ACCEPT".split()
    )
    assert iptables("-S").count("-i br0") == 2
    (found,) = driver.observe([ENTRIES[0]])
    assert found != ENTRIES[0]
    assert found in list(driver.observe(None))
    list(driver.execute([Operation(found, ENTRIES[0])]))
    assert list(driver.observe(ALL)) == ALL
    assert iptables("-S").count("-i br0") == 1


def test_a_doubled_entry_goes_altogether(driver, iptables):
    create(driver, *ALL)
    iptables(
        "-I", "NETKIT-FORWARD", *"-i br0 -o br0 -m comment --comment netkit:network/br0 -j ACCEPT".split()
    )
    assert iptables("-S").count("-i br0") == 2
    delete(driver, ENTRIES[0])
    assert iptables("-S").count("-i br0") == 0


@pytest.mark.parametrize("field", ["target", "to", "owner"])
def test_an_entry_is_changed_in_one_commit(driver, namespace, iptables, field):
    """A port that is renamed or moved is published all the time."""
    create(driver, *ALL)
    was = ENTRIES[0] if field == "target" else ENTRIES[1]
    value = {"target": "DROP", "to": "10.0.0.9:80", "owner": "publish/other/8080"}[field]
    rule = structs.replace(was.rule, **{field: value})
    now = structs.replace(was, rule=rule, owner=rule.owner)
    assert now.key == was.key
    generation = Programs("nft", namespace).generation()
    list(driver.execute([Operation(was, now)]))
    assert list(driver.observe([was, now])) == [now, now]
    assert iptables("-S").count("-i br0") == 1
    if driver.variant == "nft":
        assert Programs("nft", namespace).generation() == generation + 1


def test_what_only_begins_like_ours_is_not_ours(driver, iptables):
    """Chains carry no comment: only those that we know by name are ours, and nothing in the user's."""
    create(driver, *ALL)
    iptables("-N", "NETKIT-EMPTY")
    iptables("-t", "nat", "-N", "NETKIT-FOO")
    iptables("-A", "NETKIT-USER", *"-s 9.9.9.2/32 -m comment --comment netkit:host -j DROP".split())
    assert set(driver.observe(None)) == set(ALL)
    delete(driver, *ALL)
    assert "-N NETKIT-EMPTY" in iptables("-S")
    assert "-s 9.9.9.2/32" in iptables("-S", "NETKIT-USER")
    assert "-N NETKIT-FOO" in iptables("-t", "nat", "-S")
    assert list(driver.observe(None)) == []


def test_the_kernel_says_whether_anybody_wrote(namespace):
    """The nft variant's tables are read again only when this number has changed."""
    hand, driver = Programs("nft", namespace), XTables(namespace, "nft")
    create(driver, *ALL)
    before = hand.generation()
    list(driver.observe(None))
    assert hand.generation() == before
    writes = (
        "iptables-nft -I FORWARD -i br9 -j DROP",
        "iptables-nft -D FORWARD -i br9 -j DROP",
        "iptables-nft -P FORWARD DROP",
        "iptables-nft -t nat -F NETKIT-PUBLISH",
        "iptables-nft -F FORWARD",
    )
    for line in writes:
        run(["nsenter", f"--net={namespace}", "--", *line.split()])
        assert hand.generation() > before, line
        before = hand.generation()
    assert list(driver.observe([HOOKS[0], ENTRIES[1], USER])) == [USER]


def test_the_legacy_variant_has_no_such_number(namespace):
    assert Programs("legacy", namespace).generation() == 0


def test_what_cannot_be_is_refused_and_changes_nothing(driver, iptables):
    create(driver, *ALL)
    before = iptables("-S")
    lost = entry(FORWARD, "-m set --match-set NETKIT-NONE src @ -j DROP")
    fine = entry(FORWARD, "-i br1 @ -j DROP")
    with pytest.raises(ApplyError, match="-A NETKIT-FORWARD -m set --match-set NETKIT-NONE"):
        create(driver, fine, lost)
    assert iptables("-S") == before


def test_tables_written_before_the_failing_one_are_told(driver):
    create(driver, *ALL)
    fine = entry(FORWARD, "-i br1 @ -j DROP")
    lost = entry(PUBLISH, "-m set --match-set NETKIT-NONE src @ -j DNAT --to-destination 10.0.0.2")
    done = []

    def carry_out():
        done.extend(
            operation.wanted for operation in driver.execute([Operation(None, fine), Operation(None, lost)])
        )

    with pytest.raises(ApplyError):
        carry_out()
    assert done == [fine]
    assert done == list(driver.observe([fine, lost]))


def churn(namespace, program, stop, count, env=None):
    """Somebody who adds and removes a rule all the time, and whom the kernel may refuse now and then."""
    words = ["FORWARD", "-s", "9.9.9.9", "-j", "DROP"]
    while not stop.is_set():
        for verb in ("-A", "-D"):
            argv = ["nsenter", f"--net={namespace}", "--", program, "-w", verb, *words]
            count.append(run(argv, env=env, check=False).code)


def test_another_writer_at_the_same_time(driver, namespace, variant, iptables):
    create(driver, *ALL)
    stop, count = threading.Event(), []
    other = threading.Thread(target=churn, args=(namespace, f"iptables-{variant}", stop, count))
    other.start()
    try:
        for port in range(9000, 9030):
            extra = entry(FORWARD, f"-p tcp -m tcp --dport {port} @ -j DROP")
            create(driver, extra, redirect(port))
            assert list(driver.observe([extra])) == [extra]
            if port % 2:
                delete(driver, extra, redirect(port))
    finally:
        stop.set()
        other.join()
    assert count.count(0) == len(count) > 10
    assert len([found for found in driver.observe(None) if isinstance(found, Entry)]) == len(ENTRIES) + 30
    assert list(driver.observe(ALL)) == ALL
    assert "9.9.9.9" not in iptables("-S")


def test_a_writer_that_takes_no_lock(namespace, tmp_path):
    driver = XTables(namespace, "legacy")
    create(driver, *ALL)
    stop, count = threading.Event(), []
    lock = {"XTABLES_LOCKFILE": str(tmp_path / "another.lock")}
    other = threading.Thread(target=churn, args=(namespace, "iptables-legacy", stop, count, lock))
    other.start()
    crowd = [entry(FORWARD, f"-p tcp -m tcp --dport {port} @ -j DROP") for port in range(9000, 9100)]
    try:
        for extra in crowd:
            create(driver, extra)
    finally:
        stop.set()
        other.join()
    assert len(count) > 10
    assert list(driver.observe([*ALL, *crowd])) == [*ALL, *crowd]


def test_it_works_in_a_thread_of_another_namespace(namespace, variant):
    def work():
        driver = XTables(variant=variant)
        create(driver, *ALL)
        return list(driver.observe(ALL))

    assert in_namespace(namespace, work) == ALL
    assert list(XTables(namespace, variant).observe(ALL)) == ALL


def test_two_namespaces_do_not_mix(driver, variant, tmp_path):
    other = str(tmp_path / "other")
    new_namespace(other)
    try:
        create(driver, PUBLISH, MASQ, *HOOKS[1:], ENTRIES[1])
        elsewhere = XTables(other, variant)
        create(elsewhere, MASQ, HOOKS[2])
        delete(driver, ENTRIES[1])
        assert set(elsewhere.observe(None)) == {MASQ, HOOKS[2]}
        assert set(driver.observe(None)) == {PUBLISH, MASQ, *HOOKS[1:]}
    finally:
        umount(other, MNT_DETACH)


def test_a_thousand_entries_in_one_call(driver):
    create(driver, *ALL)
    crowd = [redirect(port) for port in range(20000, 21000)]
    began = time.perf_counter()
    create(driver, *crowd)
    assert time.perf_counter() - began < 5.0  # 0.1 s (nft) to 0.5 s (legacy) on an idle machine
    assert list(driver.observe(crowd)) == crowd
    delete(driver, *crowd)
    assert set(driver.observe(None)) == set(ALL)


def test_the_variant_is_the_one_with_rules(namespace):
    default = "nft" if "nf_tables" in run(["iptables", "--version"]).stdout else "legacy"
    assert (detect(namespace), mixed(namespace)) == (default, "")
    for variant in ("nft", "legacy"):
        run(["nsenter", f"--net={namespace}", f"iptables-{variant}", "-A", "INPUT", "-j", "ACCEPT"])
    assert detect(namespace) == default
    assert "1 rules of iptables-nft and 1 of iptables-legacy" in mixed(namespace)
    run(["nsenter", f"--net={namespace}", "iptables-nft", "-F"])
    assert (detect(namespace), mixed(namespace)) == ("legacy", "")


def test_it_waits_for_the_lock_of_iptables(namespace, tmp_path, monkeypatch):
    path = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    driver = XTables(namespace, "legacy")
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        writer = threading.Thread(target=create, args=(driver, MASQ))
        writer.start()
        writer.join(timeout=0.2)
        assert writer.is_alive()
        assert list(driver.observe([MASQ])) == []
    writer.join(timeout=10)
    assert list(driver.observe([MASQ])) == [MASQ]


def test_without_iptables_the_hint_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unsupported) as caught:
        XTables()
    assert caught.value.hint == "apt-get install iptables"


@pytest.mark.parametrize(("variant", "loaded"), [("legacy", "True"), ("nft", "False")])
def test_the_library_is_loaded_before_the_first_write_where_it_is_needed(variant, loaded):
    code = (
        "import sys, threading\n"
        "from netkit.kernel.xtables import XTables\n"
        f"XTables(variant='{variant}')\n"
        "for other in set(threading.enumerate()) - {threading.main_thread()}: other.join()\n"
        "print('iptc' in sys.modules)"
    )
    assert run([sys.executable, "-c", code]).stdout.strip() == loaded
