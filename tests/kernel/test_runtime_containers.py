"""The runtime against a real OCI runtime and monitor: make, start, signal, watch, end, leave nothing."""

import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from netkit.errors import ApplyError, Conflict
from netkit.model.resource import Process
from netkit.model.spec import Limits
from netkit.runtime.devices import host_devices
from netkit.runtime.folder import await_end
from netkit.runtime.monitor import NotRunnable
from tests.kernel.boxes import Boxes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def boxes(tmp_path):
    made = Boxes(tmp_path)
    try:
        yield made
    finally:
        made.close()
        assert made.left() == []


def until(true, seconds=10.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def test_a_program_runs_and_its_code_and_output_are_kept(boxes):
    code, said = boxes.run("a", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (code, sorted(said.split())) == (3, ["err", "out"])


def test_it_has_its_own_files_name_and_folder(boxes):
    script = "hostname; cat /etc/hosts /etc/resolv.conf; pwd; echo $HOME $FOO; id -u; touch /here"
    env = ("FOO=bar",)
    code, said = boxes.run("a", "sh", "-c", script, hostname="web", workdir="/tmp", env=env, uid=33)
    assert said.split("\n")[:6] == ["web", "hosts of a", "resolv.conf of a", "/tmp", "/root bar", "33"]
    assert code != 0  # it is not root, and may not write to /


def test_it_has_only_the_loopback_of_its_namespace(boxes):
    assert boxes.run("a", "ls", "/sys/class/net")[1].split() == ["lo"]


def test_what_a_created_container_is_and_becomes(boxes):
    box = boxes.create("a", "sleep", "1000")
    created = boxes.runtime.status(box.id)
    boxes.runtime.start(box.id)
    running = boxes.runtime.status(box.id)
    boxes.runtime.signal(box.id, signal.SIGKILL)
    boxes.runtime.wait(box.id, 10)
    ended = boxes.runtime.status(box.id)
    assert [each.status for each in (created, running, ended)] == ["created", "running", "exited"]
    assert created.pid == running.pid > 0 == ended.pid
    assert ended.exit_code == 137
    assert running.started <= ended.finished
    assert running.started.endswith("Z")


def test_an_ended_container_is_still_there_until_it_is_deleted(boxes):
    box = boxes.create("a", "true")
    _, _, process = boxes.resources(box)
    boxes.runtime.start(box.id)
    boxes.runtime.wait(box.id, 10)
    assert list(boxes.processes.observe([process])) == [process]
    assert list(boxes.processes.observe(None)) == [process]
    boxes.processes.delete(process)
    assert list(boxes.processes.observe(None)) == []
    assert boxes.runtime.status(box.id).exit_code == 0  # how it ended outlives it
    assert boxes.runtime.status(box.id).status == "exited"


def test_a_signal_reaches_the_first_process(boxes):
    box = boxes.create("a", "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    boxes.runtime.start(box.id)
    until(lambda: "ready" in boxes.printed(box))
    boxes.runtime.signal(box.id, signal.SIGTERM)
    assert boxes.runtime.wait(box.id, 10) == 7
    with pytest.raises(Conflict):
        boxes.runtime.signal(box.id, signal.SIGTERM)


def test_the_exit_descriptor_is_readable_when_the_code_is_there(boxes):
    box = boxes.create("a", "sh", "-c", "sleep 0.3; exit 5")
    boxes.runtime.start(box.id)
    for _ in range(2):  # also when it has ended long ago
        descriptor = boxes.runtime.exit_descriptor(box.id)
        assert select.select([descriptor], [], [], 10)[0] == [descriptor]
        os.close(descriptor)
        assert boxes.runtime.status(box.id).exit_code == 5


def test_wait_has_an_end(boxes):
    box = boxes.create("a", "sleep", "1000")
    boxes.runtime.start(box.id)
    with pytest.raises(ApplyError, match="still runs"):
        boxes.runtime.wait(box.id, 0.1)


@pytest.mark.parametrize(
    ("program", "code", "word"),
    [
        ("nowhere", 127, "executable file not found"),
        ("/bin/nowhere", 127, "no such file or directory"),
        ("/etc/plain", 126, "permission denied"),
    ],
)
def test_a_program_that_cannot_run_is_told_as_docker_does(boxes, program, code, word):
    with pytest.raises(NotRunnable, match=word) as caught:
        boxes.create("a", program)
    assert caught.value.container_exit_code == code
    assert caught.value.status == 400
    assert list(boxes.processes.observe(None)) == []


def test_limits_hold(boxes):
    limits = Limits(memory=64 << 20, nano_cpus=500_000_000, pids=20)
    root = "/sys/fs/cgroup"
    files = f"{root}/memory/memory.limit_in_bytes {root}/cpu/cpu.cfs_quota_us {root}/pids/pids.max"
    if Path(root, "cgroup.controllers").exists():
        files = f"{root}/memory.max {root}/cpu.max {root}/pids.max"
    said = boxes.run("a", "sh", "-c", f"cat {files}", limits=limits)[1].split()
    assert (said[0], said[1], said[-1]) == (str(64 << 20), "50000", "20")


def test_a_privileged_container_has_what_we_have(boxes):
    plain = boxes.run("a", "grep", "CapEff", "/proc/self/status")[1].split()[1]
    privileged = boxes.run("b", "grep", "CapEff", "/proc/self/status", privileged=True)[1].split()[1]
    ours = [line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line]
    assert int(plain, 16) == 0xA80425FB  # Docker's fourteen
    assert privileged == ours[0].split()[1]


def test_a_privileged_container_has_the_hosts_devices(boxes):
    paths = [device["path"] for device in host_devices()]
    assert {"/dev/null", "/dev/tty"} < set(paths)
    assert boxes.run("a", "ls", "-d", *paths, privileged=True)[1].split() == paths
    own = {"null", "zero", "full", "random", "urandom", "tty"}
    said = boxes.run("b", "ls", "-d", *paths)[1].splitlines()
    assert {line for line in said if line in paths} == {f"/dev/{name}" for name in own}


def test_a_read_only_root_refuses_writes_and_sysctls_are_set(boxes):
    script = "touch /x 2>&1; cat /proc/sys/net/ipv4/ip_forward"
    said = boxes.run("a", "sh", "-c", script, read_only=True, sysctls={"net.ipv4.ip_forward": "1"})[1]
    assert "Read-only file system" in said
    assert said.split()[-1] == "1"


def test_all_processes_are_listed(boxes):
    # By its path: some busyboxes run their own commands without starting a program.
    box = boxes.create("a", "sh", "-c", "/bin/sleep 1001 & /bin/sleep 1002 & wait")
    boxes.runtime.start(box.id)

    def commands():
        titles, rows = boxes.runtime.processes(box.id, "-ef")
        assert titles[0] == "UID"
        return sorted(row[-1] for row in rows)

    shell = "sh -c /bin/sleep 1001 & /bin/sleep 1002 & wait"
    until(lambda: commands() == ["/bin/sleep 1001", "/bin/sleep 1002", shell])


def test_deleting_ends_all_its_processes(boxes):
    box = boxes.create("a", "sh", "-c", "sleep 1001 & sleep 1002 & wait")
    boxes.runtime.start(box.id)
    until(lambda: len(boxes.runtime.pids(box.id)) == 3)
    pids = boxes.runtime.pids(box.id)
    boxes.remove(box)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert boxes.left() == [line for line in boxes.left() if "netns" in line]


def test_creating_twice_is_one_container_and_another_config_replaces_it(boxes):
    box = boxes.create("a", "sleep", "1000")
    _, _, process = boxes.resources(box)
    pid = boxes.runtime.status(box.id).pid
    boxes.processes.create(process)
    assert boxes.runtime.status(box.id).pid == pid
    other = boxes.resources(boxes.container("a", "sleep", "2000"))[2]
    boxes.processes.create(other)
    assert boxes.runtime.status(box.id).pid not in {0, pid}
    assert list(boxes.processes.observe(None)) == [other]


def test_a_container_whose_monitor_was_killed_is_broken_and_can_be_mended(boxes):
    box = boxes.create("a", "sleep", "1000")
    _, _, process = boxes.resources(box)
    boxes.runtime.start(box.id)
    pid = boxes.runtime.status(box.id).pid
    monitor = int((boxes.places.folder(box.id) / "conmon.pid").read_text())
    os.kill(monitor, signal.SIGKILL)
    await_end(monitor, 5)
    until(lambda: not Path(f"/proc/{monitor}").exists())
    (broken,) = boxes.processes.observe([process])
    assert isinstance(broken, Process)
    assert broken == msgspec.structs.replace(process, config="")
    assert boxes.runtime.status(box.id).exit_code == 255
    boxes.processes.create(process)
    assert list(boxes.processes.observe([process])) == [process]
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_container_that_the_runtime_forgot_is_broken_and_can_be_deleted(boxes):
    box = boxes.create("a", "sleep", "1000")
    pid = boxes.runtime.status(box.id).pid
    shutil.rmtree(boxes.places.runtime_state(box.id))
    (broken,) = boxes.processes.observe(None)
    assert broken.config == ""
    boxes.processes.delete(broken)
    assert list(boxes.processes.observe(None)) == []
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_what_a_creation_cut_short_left_is_seen(boxes):
    folder = boxes.places.folder("c" * 64)
    folder.mkdir(parents=True)
    (folder / "wanted.json").write_text('{"kind": "proc')
    (broken,) = boxes.processes.observe(None)
    assert (broken.container, broken.config) == ("c" * 64, "")
    boxes.processes.delete(broken)
    assert list(boxes.processes.observe(None)) == []


def test_a_stopped_container_has_its_files_when_it_starts_again(boxes):
    box = boxes.create("a", "sh", "-c", "cat /kept || touch /kept")
    _, mount, process = boxes.resources(box)
    boxes.runtime.start(box.id)
    assert boxes.runtime.wait(box.id, 10) == 0
    boxes.processes.delete(process)
    boxes.overlays.delete(mount)
    again = boxes.create("a", "cat", "/kept")
    boxes.runtime.start(again.id)
    assert boxes.runtime.wait(again.id, 10) == 0


def test_sweep_removes_the_folders_that_nobody_knows(boxes):
    box, other = boxes.create("a", "sleep", "1000"), boxes.places.folder("d" * 64)
    other.mkdir()
    (other / "ctr.log").touch()
    assert boxes.runtime.sweep([]) == ["d" * 64]  # the other one is running, known or not
    assert not other.exists()
    assert boxes.runtime.status(box.id).pid


def test_nothing_of_ours_is_open_in_the_container_or_in_the_monitor(boxes):
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        box = boxes.create("a", "sh", "-c", "ls -l /proc/self/fd; sleep 1000")
        boxes.runtime.start(box.id)
        until(lambda: "2 ->" in boxes.printed(box))
        monitor = (boxes.places.folder(box.id) / "conmon.pid").read_text()
        links = [os.readlink(path) for path in Path(f"/proc/{monitor}/fd").iterdir()]
        assert f"pipe:[{os.fstat(writing).st_ino}]" not in links
        names = [line.split(" ")[-3] for line in boxes.printed(box).splitlines() if "->" in line]
        assert set(names) <= {"0", "1", "2", "3"}  # 3 is the folder that ls reads
        assert os.getsid(int(monitor)) == int(monitor)
    finally:
        os.close(reading)
        os.close(writing)


def test_memory_that_ran_out_is_told(boxes):
    script = "dd if=/dev/zero of=/dev/null bs=200M count=1"
    box = boxes.create("a", "sh", "-c", script, limits=Limits(memory=16 << 20))
    boxes.runtime.start(box.id)
    assert boxes.runtime.wait(box.id, 20) == 137
    assert boxes.runtime.status(box.id).oom


@pytest.mark.parametrize(
    "damage",
    [
        "rm hosts",
        "echo x >y; mv y hosts",
        "mv hosts hosts.bak; echo x >hosts",
        "rm hosts; mkdir hosts; echo x >hosts/x",
        "mv hosts hosts.bak; ln -s hosts.bak hosts",
        "rm hosts; mkfifo hosts",
    ],
)
def test_a_file_that_was_replaced_is_shown_inside_again(boxes, damage):
    box = boxes.create("a", "sh", "-c", "until grep new /etc/hosts; do sleep 0.02; done")
    boxes.runtime.start(box.id)
    wanted = boxes.resources(box)[0]
    host_sees = Path("/proc/self/mountinfo").read_text()
    assert list(boxes.files.observe(wanted)) == wanted
    for content in ("old\n", "new\n"):
        wanted = [msgspec.structs.replace(each, content=content) for each in wanted]
        if content == "old\n":
            subprocess.run(damage, shell=True, check=True, cwd=boxes.places.folder(box.id))
        seen = {each.path: each for each in boxes.files.observe(wanted)}
        for file in wanted:
            assert seen.get(file.path) != file
            if file.path in seen:
                boxes.files.modify(seen[file.path], file)
            else:
                boxes.files.create(file)
        assert list(boxes.files.observe(wanted)) == wanted
        assert [each.shown for each in boxes.files.observe(None)] == [True] * 3
    assert boxes.runtime.wait(box.id, 5) == 0
    assert Path("/proc/self/mountinfo").read_text() == host_sees
