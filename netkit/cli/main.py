"""The command line: `netkit VERB …`. Commands are imported when they are used.

main()
"""

import os
import sys
from typing import NoReturn

import click

from netkit import __version__
from netkit.cli.base import Lazy, guarded

# What each does stands here as well, so that `netkit --help` need not load them all.
_COMMANDS = {
    "Containers": {
        "run": ("run:run", "Make a container and start it."),
        "create": ("run:create", "Make a container and do not start it."),
        "start": ("containers:start", "Start containers."),
        "stop": ("containers:stop", "Stop containers."),
        "kill": ("containers:kill", "Send a signal, SIGKILL unless told otherwise."),
        "restart": ("containers:restart", "Stop containers and start them again."),
        "rm": ("containers:rm", "Remove containers."),
        "rename": ("containers:rename", "Give a container another name."),
        "wait": ("containers:wait", "Wait until containers have ended; print their exit codes."),
        "ps": ("containers:ps", "List containers."),
        "port": ("containers:port", "List where a container's ports are published."),
        "logs": ("containers:logs", "Print what a container has written."),
        "attach": ("streams:attach", "Join a running container's streams; ctrl-p ctrl-q leaves again."),
        "exec": ("streams:exec_", "Run one more process in a container."),
        "inspect": ("inspect:inspect", "Show containers, networks or images in full."),
    },
    "Images": {
        "images": ("images:ls", "List images."),
        "rmi": ("images:rm", "Remove images."),
        "image": ("images:image", "Images that containers start from."),
    },
    "Networks": {
        "network": ("networks:network", "Networks on this host."),
        "bridge": ("bridges:bridge", "Bridges, each with the network on it."),
        "link": ("links:link", "Links: leave for one container to reach another's exposed ports."),
        "publish": ("links:publish", "Publish ports of a container, running or not."),
        "unpublish": ("links:unpublish", "Take published ports back; connections through them end."),
    },
    "The whole": {
        "plan": ("system:plan", "Show what a reconcile would change now."),
        "reconcile": (
            "system:reconcile",
            "Mend whatever differs from what was asked for.",
        ),
        "gc": (
            "system:gc",
            "Mend whatever differs from what was asked for.",
        ),
        "teardown": ("system:teardown", "Remove every container and network, and all that netkit made."),
        "blame": ("system:blame", "Say which verb, when and by whom, asked for something in the kernel."),
        "journal": ("system:journal", "List the latest changes, newest first."),
        "explain": ("system:explain", "Say whether a packet arrives, and which rule decides."),
        "doctor": ("system:doctor", "Look for what is missing or mixed on this host."),
        "events": ("system:events", "Print what happens, as it happens."),
    },
    "The program": {
        "daemon": ("daemon:daemon", "Run a daemon in the foreground."),
        "version": ("system:version", "Print the client's and the daemon's versions."),
        "info": ("system:info", "Print what the daemon says of itself and its host."),
        "completion": ("system:completion", "Print a completion script for a shell."),
    },
}


@click.group(cls=Lazy, sections=_COMMANDS, context_settings={"help_option_names": ["--help"]})
@click.version_option(__version__, prog_name="netkit")
@click.option("--host", "-H", default="", metavar="URL", help="The daemon's socket (or NETKIT_HOST).")
def cli(host: str) -> None:
    """Container networking: bridges, links, published ports, and the containers on them."""
    if host:
        os.environ["NETKIT_HOST"] = host


def main() -> NoReturn:
    """Entry point: ends the process."""
    code = guarded(lambda: cli.main(prog_name="netkit", standalone_mode=False))
    code = guarded(sys.stdout.flush) or code
    sys.stderr.flush()
    os._exit(code)  # the interpreter's own end takes 10 ms and has nothing left to do


if __name__ == "__main__":
    main()
