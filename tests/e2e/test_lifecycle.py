"""What becomes of containers: stop, kill, restart, rename, logs, policies, terminals, a restarted daemon."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import tarfile
import termios
import time

import pytest

from tests.e2e.lab import NETKIT
from tests.e2e.probes import eventually, idle

STUBBORN = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
WILLING = ("sh", "-c", "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.1; done")


@pytest.fixture(autouse=True)
def swept(lab):
    """Every test begins without containers."""
    yield
    if ids := lab.out("ps", "-aq").split():
        lab.netkit("rm", "-f", *ids)


def state(lab, name):
    return lab.inspect(name)["State"]


def started(lab, name, *words):
    lab.netkit("run", "-d", "--name", name, *words)
    assert eventually(lambda: "ready" in lab.out("logs", name))


def test_stop_asks_and_then_makes(lab):
    started(lab, "willing", "box", *WILLING)
    started(lab, "stubborn", "box", *STUBBORN)
    began = time.monotonic()
    assert lab.out("stop", "-t", "10", "willing") == "willing"
    assert time.monotonic() - began < 5
    assert state(lab, "willing")["ExitCode"] == 3
    lab.netkit("stop", "-t", "1", "stubborn")
    assert state(lab, "stubborn")["ExitCode"] == 137
    assert state(lab, "stubborn")["Status"] == "exited"
    assert lab.netkit("stop", "stubborn").returncode == 0


def test_kill_sends_what_it_is_told_to(lab):
    started(lab, "c", "box", "sh", "-c", "trap 'echo usr' USR1; echo ready; while :; do sleep 0.1; done")
    lab.netkit("kill", "-s", "USR1", "c")
    assert eventually(lambda: "usr" in lab.out("logs", "c"))
    assert state(lab, "c")["Running"]
    lab.netkit("kill", "c")
    assert state(lab, "c")["ExitCode"] == 137
    assert lab.netkit("kill", "c", check=False).returncode == 5
    assert lab.netkit("kill", "-s", "NOPE", "c", check=False).returncode in {2, 5}


def test_wait_restart_rename_and_remove(lab):
    idle(lab, "old")
    before = state(lab, "old")["Pid"]
    lab.netkit("restart", "-t", "0", "old")
    assert state(lab, "old")["Pid"] not in {0, before}
    lab.netkit("rename", "old", "young")
    assert lab.netkit("inspect", "old", check=False).returncode == 4
    waiting = subprocess.Popen(
        lab.host.argv(NETKIT, "wait", "young"), stdout=subprocess.PIPE, text=True, env=lab.environment()
    )
    lab.netkit("stop", "-t", "0", "young")
    assert waiting.communicate(timeout=10)[0] == "137\n"
    assert lab.out("wait", "young") == "137"
    lab.netkit("start", "young")
    running = lab.netkit("rm", "young", check=False)
    assert running.returncode == 5
    assert "rm -f young" in running.stderr
    lab.netkit("rm", "-f", "young")
    assert lab.plan() == "nothing to change"


def test_a_container_made_first_and_started_with_streams(lab):
    made = lab.out("create", "-i", "--name", "later", "box", "sh", "-c", "cat; exit 4")
    assert len(made) == 64
    assert state(lab, "later")["Status"] == "created"
    done = lab.netkit("start", "-a", "-i", "later", input="words\n", check=False)
    assert (done.stdout, done.returncode) == ("words\n", 4)
    assert lab.netkit("start", "-ai", "later", input="again\n", check=False).stdout == "again\n"


def test_logs_in_all_their_ways(lab):
    lab.netkit("run", "--name", "talk", "box", "sh", "-c", "echo one; echo two >&2; sleep 1.1; echo three")
    done = lab.netkit("logs", "talk")
    assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
    assert lab.out("logs", "--tail", "1", "talk") == "three"
    stamped = lab.out("logs", "-t", "-n", "1", "talk")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d) three", stamped)
    assert lab.out("logs", "--since", stamped.split()[0], "talk") == "three"
    assert lab.out("logs", "--since", "1h", "talk") == "one\nthree"
    assert lab.out("logs", "--until", "1h", "talk") == ""
    assert lab.netkit("logs", "--tail", "many", "talk", check=False).returncode == 2


def test_logs_follow_to_the_end(lab):
    lab.netkit(
        "run", "-d", "--name", "slow", "box", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done"
    )
    assert lab.out("logs", "-f", "slow") == "1\n2\n3"


def test_listing_filters_and_ports(lab):
    lab.netkit(
        "run", "-d", "--name", "on", "-p", "127.0.0.1:8070:80", "-p", "8071:81/udp", "box", "sleep", "99"
    )
    lab.netkit("create", "--name", "off", "box", "true")
    assert set(lab.out("ps", "-q").split()) == {lab.inspect("on")["Id"][:12]}
    assert len(lab.out("ps", "-aq").split()) == 2
    assert lab.out("ps", "-aq", "--no-trunc", "-f", "name=off") == lab.inspect("off")["Id"]
    assert lab.out("ps", "-aq", "-f", "status=created") == lab.inspect("off")["Id"][:12]
    assert lab.out("port", "on").splitlines() == ["80/tcp -> 127.0.0.1:8070", "81/udp -> 0.0.0.0:8071"]
    assert lab.out("port", "on", "80") == "127.0.0.1:8070"
    assert "127.0.0.1:8070->80/tcp" in lab.out("ps")
    assert lab.netkit("ps", "-f", "colour=red", check=False).returncode == 2
    assert (
        lab.out("inspect", "-f", "{{.State.Status}} {{json .Config.Cmd}}", "on") == 'running ["sleep", "99"]'
    )


def test_images_in_use_stay(lab, box_tar, tmp_path):
    other = shutil.copy(box_tar, tmp_path)
    with tarfile.open(other, "a") as tar:
        tar.addfile(tarfile.TarInfo("another"))
    lab.netkit("image", "import", str(other), "other:v2")
    assert "other" in lab.out("images")
    idle_id = lab.out("create", "--name", "user", "other:v2", "true")
    done = lab.netkit("rmi", "other:v2", check=False)
    assert done.returncode == 5
    assert "user" in done.stderr or idle_id[:12] in done.stderr
    lab.netkit("rm", "user")
    assert lab.out("image", "rm", "--dry-run", "other:v2").startswith(
        "- delete image name other:v2\n- delete image sha256:"
    )
    assert "other" in lab.out("images")
    assert lab.out("images", "-q", "other") == lab.out("images", "-q", "other:v2") != ""
    lab.netkit("image", "rm", "other:v2")
    assert "other" not in lab.out("images")
    told = lab.out("events", "--since", "1m", "--until", "0s", "-f", "type=image").splitlines()
    assert [line.split()[1] for line in told[-2:]] == ["untag", "delete"]
    assert lab.netkit("rmi", "other:v2", check=False).returncode == 4


def given_up(lab, name):
    """How often it was started again, once it lies still."""
    shown = lab.inspect(name)
    return shown["RestartCount"] if shown["State"]["Status"] == "exited" else None


def test_on_failure_counts_its_attempts(lab):
    lab.netkit(
        "run", "-d", "--name", "frail", "--restart", "on-failure:2", "box", "sh", "-c", "echo try; exit 1"
    )
    assert eventually(lambda: given_up(lab, "frail") == 2)
    lab.netkit("start", "frail")  # whoever starts it by hand gives it as many attempts again
    assert eventually(lambda: lab.out("logs", "frail").count("try") == 6)
    assert eventually(lambda: given_up(lab, "frail") == 2)
    time.sleep(0.6)
    assert lab.out("logs", "frail").split() == ["try"] * 6
    assert state(lab, "frail")["ExitCode"] == 1


def test_on_failure_counts_over_a_restart_of_the_daemon(lab):
    lab.netkit(
        "run", "-d", "--name", "twice", "--restart", "on-failure:2", "box", "sh", "-c", "sleep 2; exit 1"
    )
    assert eventually(lambda: lab.inspect("twice")["RestartCount"] == 1)
    assert eventually(lambda: state(lab, "twice")["Status"] == "running")
    lab.stop()
    lab.restart()
    assert lab.inspect("twice")["RestartCount"] == 1
    assert eventually(lambda: given_up(lab, "twice") == 2, 15)
    lab.stop()
    lab.restart()
    assert given_up(lab, "twice") == 2


def test_between_two_runs_it_counts_as_running_until_it_is_stopped(lab):
    lab.netkit("run", "-d", "--name", "hasty", "--restart", "always", "box", "false")
    assert eventually(
        lambda: state(lab, "hasty")["Status"] == "restarting" and lab.inspect("hasty")["RestartCount"] > 3
    )
    between = state(lab, "hasty")
    assert (between["Running"], between["Restarting"], between["Pid"]) == (True, True, 0)
    refused = lab.netkit("attach", "hasty", check=False)
    assert "is not running" in refused.stderr
    lab.netkit("stop", "hasty")
    assert state(lab, "hasty")["Status"] == "exited"  # at once, not when it would have come back


def test_on_failure_leaves_a_success_alone(lab):
    lab.netkit("run", "-d", "--name", "good", "--restart", "on-failure", "box", "true")
    assert eventually(lambda: state(lab, "good")["Status"] == "exited")
    time.sleep(0.4)
    assert lab.inspect("good")["RestartCount"] == 0


def test_stop_and_restart_are_heeded_at_whatever_moment(lab):
    """Also at the moment at which the policy brings the container back."""
    once = "if [ -e /x ]; then sleep 1000; fi; touch /x; sleep 0.1; exit 1"
    for number in range(8):
        name = f"flap{number}"
        lab.netkit("run", "-d", "--name", name, "--restart", "always", "box", "sh", "-c", once)
        time.sleep(0.02 * number)
        lab.netkit("stop", "-t", "0", name)
        assert lab.inspect(name)["State"]["Status"] == "exited"
    time.sleep(0.3)
    assert [lab.inspect(f"flap{number}")["State"]["Status"] for number in range(8)] == ["exited"] * 8
    for number in range(8):
        lab.netkit("restart", "-t", "0", f"flap{number}")
        assert lab.inspect(f"flap{number}")["State"]["Status"] == "running"
    lab.netkit("rm", "-f", *(f"flap{number}" for number in range(8)))


def test_a_stop_that_is_refused_changes_nothing(lab):
    lab.netkit("run", "-d", "--name", "kept", "--restart", "always", "box", "sleep", "1000")
    assert lab.netkit("stop", "-s", "NOSIG", "kept", check=False).returncode == 2
    assert lab.netkit("kill", "-s", "HUP", "--dry-run", "kept", check=False).returncode == 9
    before = lab.inspect("kept")["State"]["Pid"]
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: lab.inspect("kept")["State"]["Pid"] not in {0, before})
    lab.netkit("rm", "-f", "kept")


def test_the_plan_of_a_restart_is_what_a_restart_does(lab):
    lab.netkit("run", "-d", "--name", "twice", "-p", "8090:80", "box", "sleep", "1000")
    words = lab.out("restart", "--dry-run", "twice").splitlines()
    assert [line.split()[1] for line in words if line.split()[2] == "process"] == ["delete", "create"]
    assert sum(" rule nat NETKIT-PUBLISH " in line for line in words) == 2
    lab.netkit("stop", "-t", "0", "twice")
    assert lab.json("journal", "-n", "1", "--json")[0]["Verb"] == "stop -t 0 twice"
    lab.netkit("rm", "twice")


def test_who_runs_once_runs_once_beside_reconciles(lab):
    """A process that ends while a reconcile looks is not taken for a wreck and made anew."""
    loop = f"while :; do {NETKIT} reconcile; done"
    mending = subprocess.Popen(lab.host.argv("sh", "-c", loop), env=lab.environment(), stdout=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    try:
        for number in range(12):
            once = "echo x >>/runs; wc -l </runs; exit 5"
            done = lab.netkit("run", "--name", f"once{number}", "box", "sh", "-c", once, check=False)
            assert (done.returncode, done.stdout.strip()) == (5, "1")
    finally:
        os.killpg(mending.pid, signal.SIGKILL)
        mending.wait()
    logs = [lab.out("logs", f"once{number}") for number in range(12)]
    assert logs == ["1"] * 12
    lab.netkit("rm", *(f"once{number}" for number in range(12)))


def test_always_comes_back_and_stop_is_heeded(lab):
    lab.netkit(
        "run", "-d", "--name", "steady", "--restart", "always", "box", "sh", "-c", "echo up; sleep 0.2"
    )
    assert eventually(lambda: lab.out("logs", "steady").count("up") >= 2)
    assert eventually(lambda: state(lab, "steady")["Status"] == "restarting")
    assert "steady" in lab.out("ps")
    lab.netkit("stop", "-t", "0", "steady")
    count = lab.out("logs", "steady").count("up")
    time.sleep(0.8)
    assert lab.out("logs", "steady").count("up") == count
    assert state(lab, "steady")["Status"] == "exited"


def test_a_host_address_that_has_gone_stops_no_daemon_and_no_policy(lab):
    """It may come later than the daemon does; what somebody starts by hand is refused."""
    lab.host.sh("ip address add 192.0.2.9/32 dev lo")
    for name, port, policy in (("kept", 81, "no"), ("back", 82, "always")):
        idle(lab, name, "--restart", policy, "-p", f"192.0.2.9:{port}:80")
    pid, other = state(lab, "kept")["Pid"], state(lab, "back")["Pid"]
    lab.stop()
    os.kill(other, signal.SIGKILL)
    lab.host.sh("ip address del 192.0.2.9/32 dev lo")
    lab.restart()
    assert state(lab, "kept")["Pid"] == pid
    assert eventually(lambda: state(lab, "back")["Running"])
    assert state(lab, "back")["Pid"] != other
    assert lab.plan() == "nothing to change"
    lab.netkit("stop", "-t", "0", "kept")
    assert "this host has no address 192.0.2.9" in lab.netkit("start", "kept", check=False).stderr
    lab.netkit("rm", "-f", "kept", "back")


def test_policies_and_running_containers_over_a_restart_of_the_daemon(lab):
    for name, policy in (("kept", "no"), ("always", "always"), ("halted", "unless-stopped")):
        idle(lab, name, "--restart", policy)
    idle(lab, "unhalted", "--restart", "unless-stopped")
    lab.netkit("stop", "-t", "0", "always", "halted")
    pid, other = state(lab, "kept")["Pid"], state(lab, "unhalted")["Pid"]
    lab.stop()
    lab.restart()
    assert state(lab, "kept")["Pid"] == pid
    assert eventually(lambda: state(lab, "always")["Running"])
    assert not state(lab, "halted")["Running"]
    assert state(lab, "unhalted")["Pid"] == other
    assert lab.plan() == "nothing to change"


class Terminal:
    """The command line in a terminal of its own."""

    def __init__(self, lab, *argv, rows=24, columns=80):
        self.primary, secondary = pty.openpty()
        self.size(rows, columns)
        self.program = subprocess.Popen(
            lab.host.argv(NETKIT, *argv),
            stdin=secondary,
            stdout=secondary,
            stderr=secondary,
            env=lab.environment(),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(secondary)
        self.seen = b""

    def size(self, rows, columns):
        fcntl.ioctl(self.primary, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.primary, text.encode("latin-1"))

    def until(self, pattern, seconds=8):
        """Read until the pattern has been seen since the last time; returns the match."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern.encode(), self.seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.seen!r}"
            if select.select([self.primary], [], [], left)[0]:
                try:
                    self.seen += os.read(self.primary, 65536)
                except OSError:
                    raise AssertionError(f"ended without {pattern!r}: {self.seen!r}") from None
        self.seen = self.seen[match.end() :]
        return match

    def end(self, seconds=8):
        return self.program.wait(timeout=seconds)

    def close(self):
        self.program.kill()
        self.program.wait()
        os.close(self.primary)


@pytest.fixture
def terminal(lab):
    opened = []

    def make(*argv, **size):
        opened.append(Terminal(lab, *argv, **size))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_a_terminal_its_size_and_its_keys(lab, terminal):
    shell = terminal("run", "-it", "--rm", "box", "sh", rows=31, columns=91)
    shell.type("stty size; tty\r")
    shell.until("31 91")
    shell.until("/dev/(pts/0|console)")
    shell.size(40, 100)
    shell.program.send_signal(signal.SIGWINCH)
    time.sleep(0.3)
    shell.type("stty size\r")
    shell.until("40 100")
    shell.type("sleep 100\r")
    time.sleep(0.3)
    shell.type("\x03")
    shell.type("echo code-$?\r")
    shell.until("code-130")
    shell.type("exit 6\r")
    assert shell.end() == 6


def test_leaving_a_terminal_and_coming_back(lab, terminal):
    first = terminal("run", "-it", "--name", "desk", "box", "sh")
    first.until("# ")
    first.type("MINE=yes; echo is-$MINE\r")
    first.until("is-yes")
    first.type("\x10\x11")
    assert first.end() == 0
    assert state(lab, "desk")["Running"]
    second = terminal("attach", "desk")
    second.type("echo still-$MINE\r")
    second.until("still-yes")
    second.type("exit 3\r")
    assert second.end() == 3


def test_exec_with_a_terminal(lab, terminal):
    idle(lab, "rest")
    shell = terminal("exec", "-it", "rest", "sh", rows=20, columns=70)
    shell.type("stty size; exit 9\r")
    shell.until("20 70")
    assert shell.end() == 9


def test_what_takes_longer_than_a_second_says_so_at_a_terminal(lab, terminal):
    idle(lab, "stubborn")  # the first process of a container does not die of a SIGTERM it does not handle
    stopping = terminal("stop", "-t", "3", "stubborn")
    stopping.until("netkit stop -t 3 stubborn: 1 s")
    stopping.until("netkit stop -t 3 stubborn: 2 s")
    stopping.until("\x1b\\[Kstubborn\r\n")
    assert stopping.end() == 0
