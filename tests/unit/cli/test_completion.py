"""What a shell offers, from a daemon that answers or does not."""

import pytest
from click.shell_completion import ShellComplete

from netkit.cli.main import cli
from tests.unit.cli.test_client import reply, server  # noqa: F401

pytestmark = pytest.mark.local_socket

ANSWERS = {
    "GET /containers/json": [{"Names": ["/web"]}, {"Names": ["/db"]}],
    "GET /images/json": [{"RepoTags": ["box:latest", "box:1.0"]}, {"RepoTags": []}],
    "GET /networks": [{"Name": "bridge"}, {"Name": "lan"}, {"Name": "host"}],
    "GET /netkit/bridges": [{"Name": "netkit0"}, {"Name": "br1"}],
    "GET /netkit/links": [{"Parent": "web", "Alias": "data"}, {"Parent": "db", "Alias": "other"}],
}
CONTAINERS, IMAGES = ["db", "web"], ["box", "box:1.0", "host"]
NETWORKS, BRIDGES = ["bridge", "host", "lan"], ["br1", "netkit0"]


def offered(server, *words):  # noqa: F811
    *before, incomplete = words
    found = ShellComplete(cli, {}, "netkit", "_NETKIT_COMPLETE").get_completions(list(before), incomplete)
    return [item.value if item.type == "plain" else item.type for item in found]


@pytest.fixture
def daemon(server):  # noqa: F811
    for place, answer in ANSWERS.items():
        server.answers[place] = reply(200, answer)
    return server


CASES = {
    "stop ": CONTAINERS,
    "stop w": ["web"],
    "stop web ": CONTAINERS,
    "run ": ["box", "box:1.0"],
    "run -d --name x b": ["box", "box:1.0"],
    "create ": ["box", "box:1.0"],
    "rmi ": ["box", "box:1.0"],
    "image rm ": ["box", "box:1.0"],
    "image inspect ": ["box", "box:1.0"],
    "images ": ["box", "box:1.0"],
    "run --network ": NETWORKS,
    "run --link ": ["db:", "web:"],
    "run --restart ": ["no", "on-failure", "always", "unless-stopped"],
    "run --restart on": ["on-failure"],
    "run --env-file ": ["file"],
    "image import ": ["file"],
    "network rm ": NETWORKS,
    "network inspect l": ["lan"],
    "network connect ": NETWORKS,
    "network connect lan ": CONTAINERS,
    "network disconnect lan d": ["db"],
    "network alias lan ": CONTAINERS,
    "bridge show ": BRIDGES,
    "bridge rm ": BRIDGES,
    "bridge attach ": BRIDGES,
    "bridge detach ": BRIDGES,
    "inspect ": ["box", "box:1.0", "bridge", "db", "host", "lan", "web"],
    "inspect --type network ": NETWORKS,
    "publish ": CONTAINERS,
    "unpublish ": CONTAINERS,
    "link add ": CONTAINERS,
    "link add web ": ["db:", "web:"],
    "link rm ": CONTAINERS,
    "link rm web ": ["data"],
    "explain ": CONTAINERS,
    "exec w": ["web"],
}


@pytest.mark.parametrize("line", CASES)
def test_names_are_offered_where_they_fit(daemon, monkeypatch, line):
    monkeypatch.setenv("NETKIT_HOST", daemon.url)
    assert offered(daemon, *line.split(" ")) == CASES[line]


@pytest.mark.parametrize("line", ["-H {} stop ", "stop -H {} ", "-H {} network rm ", "network rm --host {} "])
def test_the_daemon_is_the_one_that_the_line_names(daemon, monkeypatch, line):
    monkeypatch.setenv("NETKIT_HOST", "unix:///no/such.sock")
    assert offered(daemon, *line.format(daemon.url).split(" ")) in (CONTAINERS, NETWORKS)


def test_no_daemon_means_no_names_and_none_is_started(monkeypatch):
    monkeypatch.setenv("NETKIT_AUTOSTART", "1")
    assert offered(None, "-H", "unix:///no/such.sock", "stop", "") == []
    assert offered(None, "-H", "nonsense", "stop", "") == []
