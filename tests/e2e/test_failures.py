"""What goes wrong around the daemon: operations that fail, kills, lost namespaces, a damaged or full disk."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.lab import NETKIT, UPLINK, Lab
from tests.e2e.probes import ask, ask_from, eventually, serve
from tests.e2e.test_recovery import SUBNET, difference, idle, lab, snapshot, start

__all__ = ["lab"]  # the fixture


def fail_at_each_operation(lab, verb, caller):
    """Let each operation of `verb` fail in turn: what was done is taken back, and told."""
    before, intent = snapshot(lab), _intent(lab)
    number = 0
    while True:
        number += 1
        lab.stop()
        start(lab, f"fail:{number}@{caller}")
        answer = lab.netkit(*verb, check=False)
        if answer.returncode == 0:
            return number - 1
        assert answer.returncode == 7, answer.stderr
        assert ": fail point\n" in answer.stderr
        # What the kernel takes as one transaction happens, and is taken back, as a whole.
        assert answer.stderr.count("undone: ") >= number, answer.stderr
        assert difference(lab, before) == "", f"{caller} failed at operation {number}"
        assert _intent(lab) == intent
        assert lab.plan() == "nothing to change"
        assert lab.json("journal", "-n", "1", "--json")[0]["State"] == "failed"


def _intent(lab):
    return {path.name: path.read_text() for path in (lab.state / "specs").iterdir()}


def test_a_network_whose_creation_fails_is_taken_back(lab):
    lab.netkit("rm", "-f", "db")
    lab.netkit("network", "rm", "n7")
    create = ("network", "create", *SUBNET, "n7")
    assert fail_at_each_operation(lab, create, "network create") >= 8


def test_a_connection_that_fails_is_taken_back(lab):
    assert fail_at_each_operation(lab, ("network", "connect", "n8", "db"), "network connect") >= 2


def test_a_settlement_that_fails_is_gone_on_with(lab):
    """A process that has ended is not brought back to life because a rule could not be removed."""
    serve(lab, "site", "--network", "n7", "-p", "8080:80")
    lab.stop()
    start(lab, "fail:3@stop")
    lab.netkit("stop", "-t", "0", "site", check=False)
    assert eventually(lambda: lab.inspect("site")["State"]["Status"] == "exited")
    assert lab.plan() != "nothing to change"
    lab.netkit("reconcile")
    assert lab.plan() == "nothing to change"
    lab.netkit("start", "site")
    assert ask_from(lab.outside, UPLINK, 8080) == "site"


def test_containers_and_connections_survive_a_killed_daemon(lab):
    lab.netkit("run", "-d", "--name", "chat", "-p", "9000:9", "box", "nc", "-ll", "-p", "9", "-e", "cat")
    lab.netkit("run", "-d", "--name", "short", "box", "sh", "-c", "sleep 1; exit 7")
    lab.netkit("run", "-d", "--name", "back", "--restart", "always", "box", "sleep", "1")
    lab.netkit("run", "-d", "--name", "brief", "--rm", "box", "sleep", "1")
    pid = lab.inspect("chat")["State"]["Pid"]
    line = lab.outside.argv("busybox", "nc", UPLINK, "9000")
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        client.stdin.write(b"before\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"before\n"
        lab.kill()
        time.sleep(1.2)
        client.stdin.write(b"meanwhile\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"meanwhile\n"
        lab.restart()
        client.stdin.write(b"after\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"after\n"
        client.kill()
    assert lab.inspect("chat")["State"]["Pid"] == pid
    assert lab.inspect("short")["State"]["ExitCode"] == 7
    assert lab.inspect("back")["State"]["Running"]
    assert lab.netkit("inspect", "brief", check=False).returncode == 4
    assert lab.plan() == "nothing to change"


def test_a_stopped_container_stays_stopped_unless_always(lab):
    for policy in ("always", "unless-stopped"):
        idle(lab, policy, "--restart", policy)
        lab.netkit("stop", "-t", "0", policy)
    idle(lab, "kept", "--restart", "unless-stopped")
    pid = lab.inspect("kept")["State"]["Pid"]
    lab.kill()
    os.kill(pid, signal.SIGKILL)
    lab.restart()
    assert lab.inspect("always")["State"]["Running"]
    assert not lab.inspect("unless-stopped")["State"]["Running"]
    assert lab.inspect("kept")["State"]["Running"]


def test_linked_containers_come_back_however_they_are_linked(lab):
    """A chain (first to db), and a circle with icc off; all of them go with the daemon."""
    names = ("first", "second", "third", "one", "two")
    linked = {"third": ["db:d"], "second": ["third:t"], "first": ["second:s"]}
    lab.netkit("run", "-d", "--name", "one", "--network", "n7", "--expose", "80", "--restart", "always", "box",
               "nc", "-ll", "-p", "80", "-e", "echo", "one")  # fmt: skip
    for name in ("third", "second", "first", "two"):
        links = [word for link in linked.get(name, ["one:o"]) for word in ("--link", link)]
        idle(lab, name, "--network", "n7", "--expose", "80", "--restart", "always", *links)
    lab.netkit("link", "add", "one", "two:t")
    lab.netkit("stop", "-t", "0", "two", "one")
    assert "stopped container" in lab.netkit("link", "add", "first", "two:x", check=False).stderr
    lab.netkit("start", "two", "one")
    assert ask(lab, "two", "o") == "one"
    pids = [lab.inspect(name)["State"]["Pid"] for name in names]
    lab.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    lab.restart()
    assert [name for name in names if not lab.inspect(name)["State"]["Running"]] == []
    assert eventually(lambda: ask(lab, "two", "o") == "one")
    assert lab.plan() == "nothing to change"
    lab.netkit("rm", "-f", *names)


def test_what_a_reboot_takes_is_made_again(lab):
    """No process, no mount, no namespace, no link, no rule is left; the state folder is."""
    serve(lab, "site", "--network", "n7", "--restart", "always", "-p", "8080:80")
    idle(lab, "gone", "--network", "n7")
    pids = [lab.inspect(name)["State"]["Pid"] for name in ("site", "gone", "db")]
    lab.kill()
    for process in (*(int(line.split()[0]) for line in lab.processes()), *pids):
        os.kill(process, signal.SIGKILL)
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in sorted((place for place in places if str(lab.state) in place), reverse=True):
        subprocess.run(["umount", "-l", place], check=True)
    lab.host.sh(
        "for link in netkit0 br7 br8; do ip link del $link; done; sysctl -qw net.ipv4.ip_forward=0;"
        " iptables -F; iptables -t nat -F; iptables -t raw -F; iptables -X; iptables -t nat -X; ipset destroy"
    )
    lab.restart()
    assert lab.plan() == "nothing to change"
    assert eventually(lambda: ask_from(lab.outside, UPLINK, 8080) == "site")
    assert lab.inspect("gone")["State"]["Status"] == "exited"
    lab.netkit("start", "gone")
    lab.netkit("rm", "-f", "site", "gone")


def test_single_losses_are_mended_under_a_running_daemon(lab):
    serve(lab, "site", "--network", "n7", "-p", "8080:80", "--restart", "always")
    lab.host.sh("ip link del $(ip -o link show master br7 | cut -d' ' -f2 | cut -d@ -f1 | head -1)")
    lab.netkit("reconcile")
    assert lab.plan() == "nothing to change"
    assert eventually(lambda: ask_from(lab.outside, UPLINK, 8080) == "site")
    os.kill(lab.inspect("site")["State"]["Pid"], signal.SIGKILL)
    assert eventually(lambda: ask_from(lab.outside, UPLINK, 8080) == "site")


def test_a_process_that_must_be_made_anew_runs_and_is_followed(lab):
    """Its root has gone: a reconcile replaces it, which is not an end of it."""
    serve(lab, "site", "-p", "8080:80", "--restart", "on-failure")
    before = lab.inspect("site")["State"]["Pid"]
    lab.host.sh(f"umount -l {lab.state}/containers/{lab.inspect('site')['Id']}/rootfs")
    assert "+ create process" in lab.out("reconcile")
    state = lab.inspect("site")["State"]
    assert state["Running"]
    assert state["Pid"] not in {0, before}
    assert eventually(lambda: ask_from(lab.outside, UPLINK, 8080) == "site")
    assert lab.plan() == "nothing to change"
    os.kill(state["Pid"], signal.SIGKILL)
    assert eventually(lambda: lab.inspect("site")["RestartCount"] == 1), "its end was not seen"
    lab.netkit("rm", "-f", "site")


def test_an_interface_or_bridge_that_has_gone_stops_no_daemon(lab):
    """A NIC in a bridge was pulled out, an adopted bridge not made again: all the rest is served."""
    lab.host.sh("ip link add nic0 type veth peer name nic1; ip link add brf type bridge")
    lab.host.sh("ip address add 10.67.0.1/24 dev brf")
    lab.netkit("bridge", "add", "brm", "--address", "10.68.0.1/24")
    lab.netkit("bridge", "attach", "brm", "nic0")
    lab.netkit("bridge", "add", "brf", "--adopt")
    lab.kill()
    lab.host.sh(
        "ip link del nic0; ip link del brf; iptables -F; iptables -t nat -F; iptables -t raw -F; ip link del brm"
    )
    lab.restart()
    left = lab.plan()
    assert "+ create port nic0 of brm" in left
    assert "+ create adopted bridge brf" in left
    assert "rule" not in left
    assert "10.68.0.1/24" in lab.host.sh("ip -br address show brm")
    assert "there is no interface named nic0" in lab.log()
    lab.netkit("bridge", "detach", "brm", "nic0")
    lab.netkit("bridge", "rm", "brm", "brf")
    assert lab.plan() == "nothing to change"


def test_a_damaged_state_file_is_kept_aside_and_rebuilt(lab):
    serve(lab, "site", "--network", "n7", "--link", "db:d", "-p", "8080:80")
    before, pid = snapshot(lab), lab.inspect("site")["State"]["Pid"]
    lab.kill()
    for suffix in ("-wal", "-shm"):
        (lab.state / f"netkit.db{suffix}").unlink(missing_ok=True)
    (lab.state / "netkit.db").write_bytes(os.urandom(50_000))
    lab.restart()
    kept = [path.name for path in lab.state.glob("netkit.db.damaged-*")]
    assert len(kept) == 1
    assert f"damaged: kept as {lab.state}/{kept[0]}" in lab.log()
    assert lab.plan() == "nothing to change"
    assert difference(lab, before) == ""
    assert lab.inspect("site")["State"]["Pid"] == pid
    assert ask_from(lab.outside, UPLINK, 8080) == "site"


def test_containers_of_a_network_that_is_lost_end_as_any_other(lab):
    lab.netkit("network", "create", "lost")
    for name, more in (("stays", ()), ("goes", ("--rm",))):
        lab.netkit("run", "-d", "--name", name, "--network", "lost", *more, "box", "sleep", "1000")
    network = lab.json("network", "inspect", "lost")[0]["Id"]
    lab.kill()
    with contextlib.closing(sqlite3.connect(lab.state / "netkit.db")) as db, db:
        db.execute("DELETE FROM networks WHERE id = ?", (network,))
    (lab.state / "specs" / f"networks-{network}.json").unlink()
    lab.restart()
    assert "a network of container stays is lost" in lab.log()
    assert lab.plan() == "nothing to change"
    lab.netkit("stop", "-t", "0", "stays")
    assert lab.out("wait", "stays") == "137"
    lab.netkit("rm", "-f", "stays", "goes")
    assert lab.out("ps", "-aq", "--filter", "name=stays") == ""


def test_damage_in_the_middle_of_the_state_file_is_noticed(lab):
    lab.stop()
    path = lab.state / "netkit.db"
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    lab.restart()
    assert list(lab.state.glob("netkit.db.damaged-*"))
    assert lab.inspect("db")["State"]["Running"]
    assert lab.plan() == "nothing to change"


def test_sysctls_get_their_value_back_after_damage(lab):
    """The value before us is the one thing that only the state file knows: not known, it stays."""
    lab.kill()
    (lab.state / "netkit.db").write_bytes(b"garbage" * 1000)
    lab.restart()
    lab.netkit("teardown")
    assert lab.leftovers() == ""


@pytest.fixture
def small_lab(box_tar):
    """A host whose state folder is on a disk of 4 MiB."""
    lab = Lab()
    lab.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "nkt-small", str(lab.state)], check=True)
    try:
        lab.start()
        lab.netkit("image", "import", str(box_tar), "box")
        yield lab
    finally:
        (lab.state / "ballast").unlink(missing_ok=True)
        try:
            lab.close()
        finally:
            subprocess.run(["umount", "-l", str(lab.state)], check=True)
            lab.folder.joinpath("state").rmdir()
            lab.folder.rmdir()


def test_a_full_disk_is_told_and_nothing_is_changed(small_lab):
    lab = small_lab
    lab.netkit("network", "create", *SUBNET, "n7")
    idle(lab, "still")
    before, networks = snapshot(lab), lab.out("network", "ls", "--json")
    ballast = lab.state / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    for verb in (("network", "create", "more"), ("network", "rm", "n7"), ("run", "-d", "box", "sleep", "9")):
        answer = lab.netkit(*verb, check=False)
        assert answer.returncode == (125 if verb[0] == "run" else 7), answer.stderr
        assert "could not be written" in answer.stderr
        assert "make room" in answer.stderr
    answer = lab.netkit("exec", "still", "true", check=False)
    assert (answer.returncode, "the disk is full" in answer.stderr) == (7, True), answer.stderr
    assert "make room" in answer.stderr
    assert difference(lab, before) == ""
    assert lab.out("network", "ls", "--json") == networks
    lab.kill()
    ballast.unlink()
    lab.restart()
    assert lab.plan() == "nothing to change"
    lab.netkit("exec", "still", "true")
    lab.netkit("rm", "-f", "still")
    lab.netkit("network", "rm", "n7")


def test_what_ends_while_the_disk_is_full_is_settled_when_there_is_room(small_lab):
    lab = small_lab
    lab.netkit("run", "-d", "--name", "brief", "-p", "8080:80", "box", "sleep", "1000")
    lab.netkit("run", "-d", "--name", "back", "--restart", "always", "box", "sleep", "1000")
    pids = [lab.inspect(name)["State"]["Pid"] for name in ("brief", "back")]
    ballast = lab.state / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: lab.log().count("ended and could not be settled") >= 2)
    ballast.unlink()
    lab.netkit("reconcile")
    assert not lab.inspect("brief")["State"]["Running"]
    assert lab.out("wait", "brief") in {"137", "255"}
    assert eventually(lambda: lab.inspect("back")["State"]["Pid"] not in {0, pids[1]})
    assert lab.plan() == "nothing to change"
    lab.netkit("run", "--rm", "-p", "8080:80", "box", "true")


def test_two_daemons_do_not_share_a_state_folder_or_a_namespace(lab):
    argv = ["daemon", "-H", f"unix://{lab.folder}/other.sock", "--state-dir"]
    other = lab.netkit(*argv, str(lab.folder / "other"), check=False)
    assert other.returncode == 5
    assert f"serves this network namespace already: process {lab.daemon.pid}" in other.stderr
    same = subprocess.run(
        lab.outside.argv(NETKIT, *argv, str(lab.state)),
        capture_output=True, text=True, timeout=30, env=lab.environment(),
    )  # fmt: skip
    assert same.returncode == 5
    assert f"uses state folder {lab.state} already: process {lab.daemon.pid}" in same.stderr
    assert lab.plan() == "nothing to change"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_daemon_cleanly(fresh_lab, number):
    fresh_lab.start()
    fresh_lab.daemon.send_signal(number)
    assert fresh_lab.daemon.wait(timeout=15) == 0, fresh_lab.log()
    assert "stopped; containers go on" in fresh_lab.log()
    assert not (fresh_lab.state / "daemon.pid").exists()
    assert not fresh_lab.socket.exists()
