"""`netkit link`, `publish`, `unpublish`: what may talk to what, changed while containers run.

netkit link add web db:database
netkit publish web 8080:80
"""

import click

from netkit.cli import completion
from netkit.cli.base import Door, Lazy, verb
from netkit.model.words import parse_link, parse_publication


@click.group("link", cls=Lazy)
def link() -> None:
    """Links: leave for one container to reach another's exposed ports."""


@verb("add", changes=True)
@click.argument("parent", shell_complete=completion.containers)
@click.argument("target", metavar="NAME:ALIAS", shell_complete=completion.targets)
def add(door: Door, parent: str, target: str) -> None:
    """Let PARENT reach the exposed ports of NAME, known to it as ALIAS."""
    name, alias = parse_link(target)
    door.done(door.change("POST", "/netkit/links", {"Parent": parent, "Target": name, "Alias": alias}))


@verb("rm", changes=True)
@click.argument("parent", shell_complete=completion.containers)
@click.argument("alias", shell_complete=completion.links)
def rm(door: Door, parent: str, alias: str) -> None:
    """Take a link away; connections through it end."""
    door.change("DELETE", "/netkit/links", parent=parent, alias=alias)
    door.done({"Parent": parent, "Alias": alias})


@verb("ls")
def ls(door: Door) -> None:
    """List links."""
    found = door.client.get("/netkit/links")
    rows = (
        (row["Parent"], row["Target"], row["Alias"], ",".join(row["Ports"]), ",".join(row["Networks"]))
        for row in found
    )
    door.rows(("PARENT", "TARGET", "ALIAS", "PORTS", "NETWORKS"), rows, found)


@verb("publish", changes=True)
@click.argument("container", shell_complete=completion.containers)
@click.argument("ports", nargs=-1, required=True, metavar="[IP:][HOST]:CONTAINER[/PROTO]…")
def publish(door: Door, container: str, ports: tuple[str, ...]) -> None:
    """Publish ports of a container, running or not."""
    for text in ports:
        parse_publication(text)
    path = f"/netkit/containers/{container}/publish"
    door.done(door.change("POST", path, {"Publish": list(ports)}))


@verb("unpublish", changes=True)
@click.argument("container", shell_complete=completion.containers)
@click.argument("ports", nargs=-1, required=True, metavar="[IP:]HOST:CONTAINER[/PROTO]…")
def unpublish(door: Door, container: str, ports: tuple[str, ...]) -> None:
    """Take published ports back; connections through them end."""
    path = f"/netkit/containers/{container}/unpublish"
    door.done(door.change("POST", path, {"Publish": list(ports)}))


for _command in (add, rm, ls):
    link.add_command(_command)
