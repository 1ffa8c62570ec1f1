"""The command line itself: JSON and quiet everywhere, -H on both sides, autostart, what is told of the past."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.lab import NETKIT, Lab
from tests.e2e.probes import eventually, idle


@pytest.fixture(scope="module")
def busy(lab):
    lab.netkit("network", "create", "lan")
    idle(lab, "db", "--network", "lan", "--expose", "9")
    idle(lab, "web", "--network", "lan", "--link", "db:db", "-p", "8060:80", "-p", "80")
    yield lab
    lab.netkit("rm", "-f", "db", "web")
    lab.netkit("network", "rm", "lan")


@pytest.mark.parametrize(
    "words",
    [
        "ps", "ps -a", "images", "image ls", "network ls", "bridge ls", "bridge show lan", "link ls", "port web",
        "plan", "journal", "doctor", "version", "info", "inspect web", "network inspect lan", "image inspect box",
        "blame 8060", "wait none", "explain web db", "stop none", "run --dry-run box true",
        "network create --dry-run other", "rm --dry-run -f web", "reconcile", "exec none true",
    ],
)  # fmt: skip
def test_json_is_json(busy, words):
    done = busy.netkit(*insert(words.split(), "--json"), check=False)
    if "none" in words.split():
        assert done.returncode == 4
        assert "no such container" in done.stderr.lower()
    else:
        assert done.returncode in {0, 1}, done.stderr
        assert isinstance(json.loads(done.stdout), dict | list)


def insert(words, option):
    """The option behind the verb: what follows a container's image is the container's."""
    size = 2 if words[0] in {"network", "bridge", "image", "link"} else 1
    return [*words[:size], option, *words[size:]]


@pytest.mark.parametrize("words", ["ps", "images", "image ls", "network ls", "bridge ls"])
def test_quiet_prints_names_or_ids_alone(busy, words):
    lines = busy.out(*words.split(), "-q").splitlines()
    assert lines
    assert all(len(line.split()) == 1 for line in lines)


def test_a_host_may_be_named_on_either_side_of_the_verb(busy):
    url, wrong = f"unix://{busy.socket}", {"NETKIT_HOST": "unix:///no/such.sock"}
    assert busy.netkit("-H", url, "ps", "-q", env=wrong).stdout
    assert busy.netkit("ps", "-q", "-H", url, env=wrong).stdout
    assert busy.netkit("network", "ls", "-q", "--host", url, env=wrong).stdout
    assert busy.netkit("ps", check=False, env=wrong).returncode == 11


def test_events_are_told_as_they_happen(busy):
    heeding = ("env", "--default-signal=INT")  # a job in the background is born deaf to it
    program = subprocess.Popen(
        busy.host.argv(*heeding, NETKIT, "events", "-f", "type=container", "-f", "container=brief"),
        stdout=subprocess.PIPE,
        text=True,
        env=busy.environment(),
    )
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(program.stdout), daemon=True)
    reader.start()
    try:
        time.sleep(0.5)
        busy.netkit("run", "--rm", "--name", "brief", "box", "true")
        busy.netkit("run", "--rm", "--name", "other", "box", "true")
        time.sleep(0.3)
    finally:
        program.send_signal(signal.SIGINT)
        assert program.wait(timeout=10) == 130
        reader.join(5)
        program.stdout.close()
    assert [line.split()[1] for line in lines] == ["create", "attach", "start", "die", "destroy"]
    assert all("name=brief" in line for line in lines)
    past = busy.out("events", "--since", "1m", "--until", "0s", "-f", "event=die").splitlines()
    assert [line for line in past if "name=brief" in line and "exitCode=0" in line]


def test_events_are_docker_s_in_docker_s_order(busy):
    """From the first to the last of a container's life, its networks' events among them."""
    idle(busy, "first", "--network", "lan")
    number = busy.inspect("first")["Id"]
    busy.netkit("rename", "first", "second")
    busy.netkit("restart", "-t", "0", "second")
    busy.netkit("rm", "-f", "second")
    told = [
        json.loads(line)
        for line in busy.out("events", "--since", "1m", "--until", "0s", "--json").splitlines()
    ]
    mine = [(event, event["Actor"]) for event in told if number in json.dumps(event)]
    start, end = (
        ["network connect", "container start"],
        ["container kill", "container die", "network disconnect"],
    )
    assert [f"{event['Type']} {event['Action']}" for event, _ in mine] == [
        "container create", *start, "container rename", "container kill", *end, "container stop", *start,
        "container restart", *end, "container destroy",
    ]  # fmt: skip
    values = [actor["Attributes"] for _, actor in mine]
    assert [value["oldName"] for value in values if "oldName" in value] == ["/first"]
    assert [value["signal"] for value in values if "signal" in value] == ["15", "9", "9"]
    assert {value["name"] for value in values if "container" in value} == {"lan"}


def test_the_journal_says_who_did_what(busy):
    busy.netkit("network", "create", "passing")
    busy.netkit("network", "rm", "passing")
    removed, made = busy.json("journal", "-n", "2", "--json")
    assert "network rm passing" in removed["Verb"]
    assert "network create passing" in made["Verb"]
    assert made["User"] == "root"
    assert made["State"] == "done"
    assert made["Operations"]


def test_the_doctor_finds_what_is_wrong_and_its_mend(busy):
    done = busy.netkit("doctor")
    assert "runc" in done.stdout or "crun" in done.stdout
    busy.host.sh("sysctl -qw net.ipv4.ip_forward=0")
    ill = busy.netkit("doctor", check=False)
    assert ill.returncode == 1
    assert "ip_forward is 0" in ill.stdout
    busy.netkit("reconcile")
    assert busy.netkit("doctor").returncode == 0


def test_completion_knows_the_verbs(busy):
    for shell in ("bash", "zsh", "fish"):
        assert "_NETKIT_COMPLETE" in busy.out("completion", shell)
    answer = busy.netkit(
        "", env={"_NETKIT_COMPLETE": "bash_complete", "COMP_WORDS": "netkit netw", "COMP_CWORD": "1"}
    )
    assert "network" in answer.stdout
    script = 'eval "$(netkit completion bash)"; complete -p netkit'
    path = f"{Path(NETKIT).parent}:{os.environ['PATH']}"
    shell = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert "netkit" in shell.stdout, shell.stderr


def test_help_is_there_for_every_verb(busy):
    verbs = busy.out("--help").partition("Options:")[2].splitlines()
    assert len([line for line in verbs if line.startswith("  ") and line[2] != " "]) > 30
    for verb in ("run", "network", "daemon", "exec", "explain"):
        assert "Usage: netkit " + verb in busy.out(verb, "--help")


def test_a_daemon_is_started_where_none_answers():
    lab = Lab()
    url = f"unix://{lab.socket}"
    try:
        refused = lab.netkit("ps", check=False)
        assert refused.returncode == 11
        assert "no daemon answers" in refused.stderr
        assert "hint: start one" in refused.stderr
        assert not lab.state.exists()
        done = lab.netkit("ps", env={"NETKIT_AUTOSTART": "1"})
        assert f"no daemon answered on {url}; starting one" in done.stderr
        assert "NETKIT_AUTOSTART=0" in done.stderr
        assert done.stdout.startswith("CONTAINER ID")
        assert lab.netkit("ps", env={"NETKIT_AUTOSTART": "1"}).stderr == ""
        lab.netkit("teardown")
    finally:
        end_daemon(lab)
        lab.host.close()
        lab.outside.close()
        shutil.rmtree(lab.folder)


def end_daemon(lab):
    """End the daemon that the command line has started."""
    file = lab.state / "daemon.pid"
    if file.exists():
        pid = int(file.read_text())
        os.kill(pid, signal.SIGTERM)
        assert eventually(lambda: not Path(f"/proc/{pid}").exists() or not file.exists(), 10)
