"""The words of the command line: help, switches, nearest names. No daemon is asked."""

import pytest
from click.testing import CliRunner

from netkit.cli.base import Command, guarded
from netkit.cli.main import _COMMANDS, cli
from netkit.errors import Conflict

ALL = [(name, place, text) for part in _COMMANDS.values() for name, (place, text) in part.items()]


@pytest.mark.parametrize(("name", "place", "text"), ALL, ids=[row[0] for row in ALL])
def test_the_list_of_commands_says_what_each_command_says_of_itself(name, place, text):
    command = cli.get_command(None, name)
    assert command.get_short_help_str(200) == text
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0
    assert text in " ".join(done.output.split())


def leaves(group, words=()):
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if hasattr(command, "list_commands"):
            yield from leaves(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


LEAVES = dict(leaves(cli))
READING = {
    *("attach", "exec", "inspect", "logs", "port", "ps", "wait", "images", "image ls", "image inspect"),
    *("network ls", "network inspect", "bridge ls", "bridge show", "link ls"),
    *("plan", "blame", "journal", "explain", "doctor", "events", "version", "info"),
}
LOCAL = {"completion", "daemon"}


def options(command):
    return {name for param in command.params for name in (*param.opts, *param.secondary_opts)}


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_every_command_can_be_pointed_at_a_daemon_and_asked_for_json(name):
    assert LOCAL & {name} or {"-H", "--host", "--json"} <= options(LEAVES[name])


def test_every_command_that_changes_something_has_a_dry_run():
    changing = set(LEAVES) - READING - LOCAL - {"image import"}  # what is in a tar is not known before
    assert len(changing) > 20
    assert {name for name in changing if "--dry-run" not in options(LEAVES[name])} == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ruin",), "Did you mean 'run'?"),
        (("network", "crate"), "Did you mean 'create'?"),
        (("ps", "--al"), "Did you mean '--all'?"),
        (("exec", "--usr", "root", "web", "ls"), "Did you mean '--user'?"),
        (("run", "--publsh", "1", "box"), "--publish"),
    ],
)
def test_a_typo_is_told_the_nearest_word(words, said):
    done = CliRunner().invoke(cli, words)
    assert done.exit_code != 0
    assert said in done.output


def parsed(name, *words):
    """What a command would get for these words."""
    return LEAVES[name].make_context(name, list(words)).params


@pytest.mark.parametrize(
    ("words", "icc"),
    [
        ((), True),
        (("--icc",), True),
        (("--no-icc",), False),
        (("--icc=false",), False),
        (("--icc=0",), False),
        (("--icc=true",), True),
        (("--icc=TRUE",), True),
        (("--no-icc", "--icc=true"), True),
    ],
)
def test_switches_are_taken_as_docker_writes_them(words, icc):
    assert parsed("daemon", *words)["icc"] is icc


def test_plain_flags_too():
    assert parsed("run", "--rm=true", "box")["remove"] is True
    assert parsed("run", "--rm=false", "box")["remove"] is False
    assert parsed("run", "--no-rm", "-d=true", "box")["detach"] is True
    assert parsed("ps", "-a=true")["everything"] is True


def test_the_words_of_a_containers_command_are_let_be():
    words = ("sh", "--rm=true", "--no-rm", "-d", "--", "--icc=false")
    assert parsed("run", "--name", "--rm=true", "-e", "A=1", "box", *words)["argv"] == words
    assert parsed("run", "--name", "--rm=true", "box")["name"] == "--rm=true"
    assert parsed("exec", "-it", "web", *words)["argv"] == words


def test_every_command_takes_switches_that_way():
    assert all(isinstance(command, Command) for name, command in LEAVES.items() if name != "completion")


def raising(err):
    def function():
        raise err

    return function


def test_errors_decide_the_exit_code_and_are_told_with_their_hint(capsys, monkeypatch):
    monkeypatch.delenv("NETKIT_DEBUG", raising=False)
    assert guarded(raising(Conflict("port 80 is taken", hint="choose another"))) == 5
    assert capsys.readouterr().err == "netkit: port 80 is taken\nhint: choose another\n"
    assert guarded(raising(OSError(28, "No space left on device"))) == 1
    assert "No space left" in capsys.readouterr().err
    assert guarded(raising(KeyboardInterrupt())) == 130


def test_with_debug_an_error_shows_where_it_came_from(monkeypatch):
    monkeypatch.setenv("NETKIT_DEBUG", "1")
    with pytest.raises(Conflict):
        guarded(raising(Conflict("x")))
