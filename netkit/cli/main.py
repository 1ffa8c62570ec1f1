"""The command line: `netkit VERB …`. Commands are imported when they are used.

sys.exit(main())
"""

import sys

import click

from netkit import __version__
from netkit.cli.base import Lazy, guarded

_COMMANDS = {
    "run": "run:run",
    "create": "run:create",
    "start": "containers:start",
    "stop": "containers:stop",
    "kill": "containers:kill",
    "restart": "containers:restart",
    "rm": "containers:rm",
    "rename": "containers:rename",
    "wait": "containers:wait",
    "ps": "containers:ps",
    "port": "containers:port",
    "logs": "containers:logs",
    "attach": "streams:attach",
    "exec": "streams:exec_",
    "inspect": "inspect:inspect",
    "images": "images:ls",
    "rmi": "images:rm",
    "image": "images:image",
    "network": "networks:network",
    "bridge": "bridges:bridge",
    "link": "links:link",
    "publish": "links:publish",
    "unpublish": "links:unpublish",
    "plan": "system:plan",
    "reconcile": "system:reconcile",
    "gc": "system:gc",
    "teardown": "system:teardown",
    "blame": "system:blame",
    "journal": "system:journal",
    "explain": "system:explain",
    "doctor": "system:doctor",
    "events": "system:events",
    "version": "system:version",
    "info": "system:info",
    "completion": "system:completion",
    "daemon": "daemon:daemon",
}


@click.group(cls=Lazy, table=_COMMANDS, context_settings={"help_option_names": ["--help"]})
@click.version_option(__version__, prog_name="netkit")
@click.option("--host", "-H", default="", metavar="URL", help="The daemon's socket (or NETKIT_HOST).")
def cli(host: str) -> None:
    """Container networking: bridges, links, published ports, and the containers on them."""
    if host:
        import os

        os.environ["NETKIT_HOST"] = host


def main() -> int:
    """Entry point; returns the exit code."""
    return guarded(lambda: cli.main(prog_name="netkit", standalone_mode=False))


if __name__ == "__main__":
    sys.exit(main())
