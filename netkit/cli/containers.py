"""What is done with containers that exist: start, stop, look, remove.

netkit ps -a
"""

import json
from collections.abc import Iterable
from typing import Any

import click

from netkit.cli.base import Door, age, containers, each, verb
from netkit.errors import NotFound, SpecError


@verb("start", changes=True)
@containers()
@click.option("--attach", "-a", is_flag=True, help="Follow its output.")
@click.option("--interactive", "-i", is_flag=True, help="Give it stdin.")
def start(door: Door, names: tuple[str, ...], attach: bool, interactive: bool) -> None:
    """Start containers."""
    if (attach or interactive) and not door.dry_run:
        from netkit.cli.streams import follow

        if len(names) != 1:
            raise SpecError("only one container can be attached to", hint="start the others without -a")
        found = door.client.get(f"/containers/{names[0]}/json")
        code = follow(door, found["Id"], terminal=found["Config"]["Tty"], stdin=interactive)
        raise click.exceptions.Exit(code)
    each(door, names, lambda name: door.change("POST", f"/containers/{name}/start"))


@verb("stop", changes=True)
@containers()
@click.option("--time", "-t", "seconds", type=int, default=None, help="Seconds before it is killed.")
@click.option("--signal", "-s", default="")
def stop(door: Door, names: tuple[str, ...], seconds: int | None, signal: str) -> None:
    """Stop containers."""
    each(
        door,
        names,
        lambda n: door.change("POST", f"/containers/{n}/stop", t=_text(seconds), signal=signal),
    )


@verb("restart", changes=True)
@containers()
@click.option("--time", "-t", "seconds", type=int, default=None)
@click.option("--signal", "-s", default="")
def restart(door: Door, names: tuple[str, ...], seconds: int | None, signal: str) -> None:
    """Stop containers and start them again."""
    each(
        door,
        names,
        lambda n: door.change("POST", f"/containers/{n}/restart", t=_text(seconds), signal=signal),
    )


@verb("kill", changes=True)
@containers()
@click.option("--signal", "-s", default="")
def kill(door: Door, names: tuple[str, ...], signal: str) -> None:
    """Send a signal, SIGKILL unless told otherwise."""
    each(door, names, lambda name: door.change("POST", f"/containers/{name}/kill", signal=signal))


@verb("rm", changes=True)
@containers()
@click.option("--force", "-f", is_flag=True, help="Kill it where it runs; a missing one is no error.")
@click.option("--volumes", "-v", is_flag=True, help="Accepted for Docker's sake.")
def rm(door: Door, names: tuple[str, ...], force: bool, volumes: bool) -> None:
    """Remove containers."""
    each(
        door,
        names,
        lambda name: door.change("DELETE", f"/containers/{name}", force=force, v=volumes),
        missing_is_fine=force,
    )


@verb("rename", changes=True)
@containers(1)
@click.argument("new_name")
def rename(door: Door, name: str, new_name: str) -> None:
    """Give a container another name."""
    door.change("POST", f"/containers/{name}/rename", name=new_name)
    door.done({"Name": new_name})


@verb("wait")
@containers()
def wait(door: Door, names: tuple[str, ...]) -> None:
    """Wait until containers have ended; print their exit codes."""
    for name in names:
        ended = door.client.post(f"/containers/{name}/wait")
        door.said(str(ended["StatusCode"]), ended)


@verb("ps", quiet=True)
@click.option("--all", "-a", "everything", is_flag=True, help="Those that do not run as well.")
@click.option("--no-trunc", is_flag=True)
@click.option("--filter", "-f", "filters", multiple=True, metavar="KEY=VALUE")
@click.option("--last", "-n", type=int, default=0)
def ps(door: Door, everything: bool, no_trunc: bool, filters: tuple[str, ...], last: int) -> None:
    """List containers."""
    words = ""
    if filters:  # the parsers of addresses need not be loaded for nothing
        from netkit.cli.wishes import filter_words

        words = filter_words(filters)
    found = door.client.get("/containers/json", all=everything, filters=words, limit=last or "")
    cut = None if no_trunc else 12
    if door.quiet and not door.as_json:
        for row in found:
            click.echo(row["Id"][:cut])
        return
    titles = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
    door.rows(titles, (_row(row, cut) for row in found), found)


@verb("port")
@containers(1)
@click.argument("port", default="")
def port(door: Door, name: str, port: str) -> None:
    """List where a container's ports are published."""
    ports = door.client.get(f"/containers/{name}/json")["NetworkSettings"]["Ports"] or {}
    wanted = port if "/" in port or not port else f"{port}/tcp"
    if wanted and not ports.get(wanted):
        raise NotFound(f"container {name} does not publish {wanted}", hint=f"netkit port {name}")
    if door.as_json:
        door.json(ports)
        return
    for inside, places in sorted(ports.items()):
        for place in places or () if wanted in {"", inside} else ():
            where = f"{place['HostIp']}:{place['HostPort']}"
            click.echo(where if wanted else f"{inside} -> {where}")


@verb("logs")
@containers(1)
@click.option("--follow", "-f", is_flag=True)
@click.option("--timestamps", "-t", is_flag=True)
@click.option("--tail", "-n", default="all", show_default=True)
@click.option("--since", default="", help="A time, or how long ago: 10m.")
@click.option("--until", default="")
def logs(door: Door, name: str, **given: Any) -> None:
    """Print what a container has written."""
    from netkit.cli.streams import copy_response

    terminal = door.client.get(f"/containers/{name}/json")["Config"]["Tty"]
    query = {**given, "stdout": True, "stderr": True}
    with door.client.open("GET", f"/containers/{name}/logs", query=query) as response:
        copy_response(response, terminal)


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _row(row: dict[str, Any], cut: int | None) -> tuple[str, ...]:
    command = row["Command"]
    if cut is not None and len(command) > 20:
        command = command[:19] + "…"
    command = json.dumps(command, ensure_ascii=False)
    names = ",".join(name.removeprefix("/") for name in row["Names"])
    ports = ", ".join(_ports(row["Ports"]))
    return row["Id"][:cut], row["Image"], command, age(row["Created"]), row["Status"], ports, names


def _ports(ports: Iterable[dict[str, Any]]) -> list[str]:
    words = []
    for each_ in ports:
        inside = f"{each_['PrivatePort']}/{each_['Type']}"
        outside = each_.get("PublicPort")
        words.append(f"{each_.get('IP', '')}:{outside}->{inside}" if outside else inside)
    return sorted(words)
