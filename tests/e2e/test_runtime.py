"""`netkit run` and `exec` as `docker run` and `docker exec`: codes, streams, surroundings, limits."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.lab import NETKIT
from tests.e2e.probes import eventually, idle


@pytest.fixture(scope="module")
def rest(lab):
    """A container that only waits, for `exec`."""
    idle(lab, "rest")
    yield lab
    lab.netkit("rm", "-f", "rest")


def names(lab):
    return {row["Names"][0].removeprefix("/") for row in lab.json("ps", "-a", "--json")}


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("box", "true"), 0),
        (("box", "sh", "-c", "exit 7"), 7),
        (("box", "sh", "-c", "sh -c 'kill -9 $$' 2>/dev/null; exit $?"), 137),
        (("nothere", "true"), 125),
        (("--network", "nothere", "box", "true"), 125),
        (("box", "/etc"), 126),
        (("box", "/etc/passwd"), 126),
        (("box", "nothere"), 127),
        (("box", "/no/such/program"), 127),
    ],
)
def test_run_ends_as_docker_run_does(lab, argv, code):
    done = lab.netkit("run", "--rm", *argv, check=False)
    assert done.returncode == code, done.stderr
    assert bool(done.stderr) == (code in {125, 126, 127}), done.stderr
    assert names(lab) <= {"rest"}


def test_nothing_is_left_of_a_container_that_removed_itself(lab):
    folders = set((lab.state / "containers").iterdir())
    made = lab.json("info")["Containers"]
    assert lab.out("run", "--rm", "--name", "brief", "box", "echo", "hello") == "hello"
    assert lab.netkit("inspect", "brief", check=False).returncode == 4
    assert set((lab.state / "containers").iterdir()) == folders
    assert lab.json("info")["Containers"] == made
    assert lab.plan() == "nothing to change"


def test_surroundings_are_what_was_asked_for(lab):
    script = "echo $COLOUR $PLAIN; pwd; id -u; id -g; hostname; cat /etc/hostname"
    done = lab.out(
        "run", "--rm", "-e", "COLOUR=dark blue", "-e", "PLAIN", "-e", "UNSET_HERE", "-w", "/tmp/deep",
        "-u", "12:34", "-h", "castle", "box", "sh", "-c", script, env={"PLAIN": "from us"},
    )  # fmt: skip
    assert done.splitlines() == ["dark blue from us", "/tmp/deep", "12", "34", "castle", "castle"]


def test_variables_come_from_a_file_too(lab, tmp_path):
    (tmp_path / "env").write_text("# no\nA=1\n\nB=two words\n")
    file = str(tmp_path / "env")
    shown = lab.out("run", "--rm", "--env-file", file, "-e", "A=2", "box", "env").splitlines()
    assert {"A=2", "B=two words"} <= set(shown)
    assert "A=1" not in shown


def test_stdin_reaches_the_process_and_ends(lab):
    assert lab.netkit("run", "--rm", "-i", "box", "cat", input="one\ntwo\n").stdout == "one\ntwo\n"
    assert lab.netkit("run", "--rm", "-i", "box", "cat", input="").stdout == ""
    assert lab.netkit("run", "--rm", "box", "cat", input="unread").stdout == ""


def test_input_that_nobody_reads_spoils_nothing(rest):
    for argv in (("run", "--rm", "-i", "box"), ("exec", "-i", "rest")):
        done = rest.netkit(*argv, "head", "-n", "1", input="yes\n" * 2_000_000)
        assert (done.stdout, done.stderr) == ("yes\n", "")
        assert rest.netkit(*argv, "true", input="yes\n" * 2_000_000).stdout == ""


def test_ten_megabytes_arrive_whole_both_ways(lab):
    script = "head -c 10485760 /dev/zero | tr '\\0' x"
    assert lab.netkit("run", "--rm", "box", "sh", "-c", script).stdout == "x" * 10485760
    sent = "0123456789abcdef" * 65536 * 3
    assert lab.netkit("run", "--rm", "-i", "box", "cat", input=sent).stdout == sent
    assert lab.netkit("run", "--rm", "-i", "box", "wc", "-c", input=sent).stdout.strip() == str(len(sent))


def test_the_two_outputs_stay_apart(lab):
    done = lab.netkit("run", "--rm", "box", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


def test_limits_stand_in_the_cgroup(lab):
    lab.netkit("run", "-d", "--name", "tight", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "20",
               "box", "sleep", "1000")  # fmt: skip
    pid = lab.inspect("tight")["State"]["Pid"]
    assert limit(pid, "memory", "memory.max", "memory.limit_in_bytes") == str(64 << 20)
    assert limit(pid, "pids", "pids.max", "pids.max") == "20"
    quota = limit(pid, "cpu", "cpu.max", "cpu.cfs_quota_us")
    assert quota in {"50000 100000", "50000"}
    lab.netkit("rm", "-f", "tight")


def limit(pid, controller, unified, split):
    """What a process's cgroup says, on the unified layout or on that controller's own."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().split()]
    for _, controllers, path in lines:
        if controller in controllers.split(","):
            return (mounted(controller) / path.lstrip("/") / split).read_text().strip()
    path = next(path for number, _, path in lines if number == "0")
    return (Path("/sys/fs/cgroup") / path.lstrip("/") / unified).read_text().strip()


def mounted(controller):
    rows = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return next(Path(row[1]) for row in rows if row[2] == "cgroup" and controller in row[3].split(","))


def capabilities(lab, *options):
    shown = lab.out("run", "--rm", *options, "box", "grep", "CapEff", "/proc/self/status")
    return int(shown.split()[1], 16)


def test_capabilities_are_added_dropped_and_all(lab):
    raw, admin, chown = 1 << 13, 1 << 12, 1 << 0
    plain = capabilities(lab)
    assert plain & raw
    assert not plain & admin
    assert capabilities(lab, "--cap-add", "NET_ADMIN") == plain | admin
    assert capabilities(lab, "--cap-drop", "NET_RAW") == plain & ~raw
    assert capabilities(lab, "--cap-drop", "all", "--cap-add", "CAP_CHOWN") == chown
    everything = capabilities(lab, "--privileged")
    assert everything & admin
    assert everything.bit_count() > plain.bit_count() + 10


def test_a_read_only_root_is_not_written_to(lab):
    done = lab.netkit("run", "--rm", "--read-only", "box", "touch", "/etc/new", check=False)
    assert done.returncode == 1
    assert "Read-only" in done.stderr
    assert lab.netkit("run", "--rm", "box", "touch", "/etc/new").returncode == 0


def test_the_hosts_root_is_written_to_without_the_host(lab):
    mark = f"/opt/{lab.host.name}"
    script = f"echo mine > {mark}; rm -rf /etc/apt; cat {mark}; ls -d /etc/apt"
    done = lab.netkit("run", "--rm", "host", "sh", "-c", script, check=False)
    assert done.stdout == "mine\n"
    assert not Path(mark).exists()
    assert Path("/etc/apt").exists()


def test_other_users_of_the_host_have_no_entry_and_those_in_a_container_all_they_need(rest):
    """A container's set-uid programs are root's on the host too, for whoever can reach them there."""
    rest.folder.chmod(0o711)
    box = rest.state / "containers" / rest.inspect("rest")["Id"]
    within = (box / "rootfs/bin/busybox", next(rest.state.glob("images/*/rootfs")) / "bin/busybox")
    secret = (rest.state / "netkit.db", box / "config.json", box / "wanted.json")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for path in (*within, *secret):
        assert path.exists()
        assert subprocess.run([*nobody, "cat", path], capture_output=True).returncode != 0, path
    assert {path.stat().st_mode & 0o077 for path in secret} == {0}
    script = "id -u && cat /etc/hosts /etc/resolv.conf /etc/hostname >/dev/null && ls /tmp"
    for image in ("box", "host"):
        assert rest.out("run", "--rm", "-u", "1234", image, "sh", "-c", script).splitlines()[0] == "1234"
    assert rest.out("exec", "-u", "1234", "rest", "sh", "-c", script).splitlines()[0] == "1234"


def test_exec_has_its_own_code_streams_user_folder_and_variables(rest):
    script = "cat; echo err >&2; id -u; pwd; echo $WORD; exit 5"
    done = rest.netkit("exec", "-i", "-u", "77", "-w", "/etc", "-e", "WORD=x y", "rest", "sh", "-c", script,
                       check=False, input="in\n")  # fmt: skip
    assert done.stdout.splitlines() == ["in", "77", "/etc", "x y"]
    assert (done.stderr, done.returncode) == ("err\n", 5)


@pytest.mark.parametrize(
    ("argv", "code"), [(["nothere"], 127), (["/etc"], 126), (["sh", "-c", "kill -9 $$"], 137)]
)
def test_exec_ends_as_docker_exec_does(rest, argv, code):
    assert rest.netkit("exec", "rest", *argv, check=False).returncode == code


def test_exec_in_the_background_goes_on_without_us(rest):
    assert rest.netkit("exec", "-d", "rest", "sh", "-c", "sleep 0.3; echo done > /tmp/later").stdout == ""
    assert eventually(lambda: rest.out("exec", "rest", "sh", "-c", "cat /tmp/later 2>/dev/null; true"))


def test_exec_in_nothing_and_in_a_stopped_one(lab):
    assert lab.netkit("exec", "nothere", "true", check=False).returncode != 0
    lab.netkit("create", "--name", "still", "box", "true")
    done = lab.netkit("exec", "still", "true", check=False)
    assert done.returncode == 5
    assert "not running" in done.stderr
    assert "hint:" in done.stderr
    lab.netkit("rm", "still")


def test_name_services_are_as_asked_for(lab):
    done = lab.out("run", "--rm", "--add-host", "elsewhere:192.0.2.9", "--dns", "192.0.2.53",
                   "--dns-search", "lab.test", "box", "cat", "/etc/hosts", "/etc/resolv.conf")  # fmt: skip
    lines = [line.split() for line in done.splitlines()]
    assert ["192.0.2.9", "elsewhere"] in lines
    assert ["nameserver", "192.0.2.53"] in lines
    assert ["search", "lab.test"] in lines


def test_network_modes(rest):
    links = ("ip", "-o", "link")
    alone = rest.out("run", "--rm", "--network", "none", "box", *links).splitlines()
    assert [line.split()[1] for line in alone] == ["lo:"]
    assert "up0@" in rest.out("run", "--rm", "--network", "host", "box", *links)
    theirs = rest.out("run", "--rm", "--network", "container:rest", "box", "ip", "-o", "-4", "address")
    assert rest.address("rest") in theirs


def test_the_id_is_written_to_a_file_that_must_not_exist(lab, tmp_path):
    file = tmp_path / "cid"
    made = lab.out("run", "-d", "--name", "noted", "--cidfile", str(file), "box", "sleep", "100")
    assert file.read_text() == made
    again = lab.netkit("run", "-d", "--cidfile", str(file), "box", "true", check=False)
    assert again.returncode == 125
    assert "exists" in again.stderr
    lab.netkit("rm", "-f", "noted")


def test_the_entrypoint_and_labels_are_taken(lab):
    assert lab.out("run", "--rm", "--entrypoint", "echo", "box", "a", "b") == "a b"
    lab.netkit("create", "--name", "tagged", "-l", "team=red", "-l", "bare", "box", "true")
    assert lab.inspect("tagged")["Config"]["Labels"] == {"team": "red", "bare": ""}
    assert lab.out("ps", "-aq", "-f", "label=team=red") == lab.inspect("tagged")["Id"][:12]
    lab.netkit("rm", "tagged")


def test_signals_go_to_the_process_in_the_foreground(lab):
    told = [signal.SIGALRM, signal.SIGWINCH, signal.SIGCONT, signal.SIGHUP, signal.SIGUSR1]
    traps = "; ".join(f"trap 'echo {number:d}' {number:d}" for number in told[:-1])
    script = f"{traps}; trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.1; done"
    program = subprocess.Popen(
        lab.host.argv(NETKIT, "run", "--rm", "--name", "front", "box", "sh", "-c", script),
        stdout=subprocess.PIPE,
        text=True,
        env=lab.environment(),
    )
    try:
        assert program.stdout.readline() == "ready\n"
        for number in told[:-1]:
            program.send_signal(number)
            assert program.stdout.readline() == f"{number:d}\n"
        program.send_signal(told[-1])
        assert program.stdout.read() == "got\n"
        assert program.wait(timeout=10) == 9
    finally:
        program.kill()
        program.communicate()


def test_a_container_linked_at_the_start_knows_its_target(rest):
    rest.netkit("run", "-d", "--name", "store", "--expose", "80", "-e", "KEY=v", "box", "sleep", "1000")
    shown = rest.out(
        "run", "--rm", "--name", "shop", "--link", "store:st", "box", "sh", "-c", "env; cat /etc/hosts"
    )
    assert f"ST_PORT_80_TCP_ADDR={rest.address('store')}" in shown
    assert "ST_NAME=/shop/st" in shown
    assert "ST_ENV_KEY=v" in shown
    assert any(line.split()[:2] == [rest.address("store"), "st"] for line in shown.splitlines())
    rest.netkit("rm", "-f", "store")
