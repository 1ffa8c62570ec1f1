"""The whole: plan, reconcile, blame, explain, doctor, events, versions.

netkit plan
"""

import json
import os
from typing import Any

import click

from netkit import __version__
from netkit.cli import completion as completions
from netkit.cli.base import Command, Door, verb
from netkit.errors import ApplyError


@verb("plan")
@click.option("--exit-code", is_flag=True, help="Exit with 3 when there is something to change.")
def plan(door: Door, exit_code: bool) -> None:
    """Show what a reconcile would change now."""
    with door.waiting():
        answer = door.client.get("/netkit/plan")
    door.plan(answer)
    if exit_code and answer["Operations"]:
        raise click.exceptions.Exit(3)


def _reconcile(door: Door) -> None:
    """Mend whatever differs from what was asked for.

    What is not netkit's is not touched.
    """
    door.plan(door.change("POST", "/netkit/reconcile"))


reconcile = verb("reconcile", changes=True)(_reconcile)
gc = verb("gc", changes=True)(_reconcile)


@verb("teardown", changes=True)
def teardown(door: Door) -> None:
    """Remove every container and network, and all that netkit made."""
    answer = door.change("POST", "/netkit/teardown")
    door.said(f"{len(answer['Operations'])} things removed", answer)


class _Rule(Command):
    """A command whose words may be a rule as iptables prints it, in quotes or not."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [part for word in args for part in word.split()])


@verb("blame", cls=_Rule, context_settings={"ignore_unknown_options": True})
@click.argument("words", metavar="RULE|ADDRESS|LINK|PORT", nargs=-1, required=True)
def blame(door: Door, words: tuple[str, ...]) -> None:
    """Say which verb, when and by whom, asked for something in the kernel."""
    what = " ".join(words)
    found = door.client.get("/netkit/blame", what=what)
    rows = ((row["Time"][:19], row["User"], row["Verb"], row["Owner"], row["Resource"]) for row in found)
    door.rows(("TIME", "USER", "VERB", "OWNER", "RESOURCE"), rows, found)
    if not found:
        click.echo(f"nothing of netkit's has to do with {what}", err=True)
        raise click.exceptions.Exit(4)


@verb("journal")
@click.option("--limit", "-n", type=int, default=20, show_default=True)
def journal(door: Door, limit: int) -> None:
    """List the latest changes, newest first."""
    found = door.client.get("/netkit/journal", limit=limit)
    rows = (
        (row["Id"], row["Time"][:19], row["User"], row["State"], len(row["Operations"]), row["Verb"])
        for row in found
    )
    door.rows(("ID", "TIME", "USER", "STATE", "OPERATIONS", "VERB"), rows, found)


@verb("explain")
@click.argument("source", shell_complete=completions.containers)
@click.argument("target", shell_complete=completions.containers)
@click.option("--port", "-p", type=int, default=0)
@click.option("--protocol", type=click.Choice(["tcp", "udp", "icmp"]), default=None)
def explain(door: Door, source: str, target: str, port: int, protocol: str | None) -> None:
    """Say whether a packet arrives, and which rule decides.

    SOURCE and TARGET are containers or host; TARGET may be an address as well, and SOURCE a link
    of the host, for a machine behind it. Rules of others are weighed too. Ends with 1 where the
    packet does not arrive, with 3 where a rule on its way cannot be weighed and may decide otherwise.
    """
    query = {"source": source, "target": target, "port": port or "", "protocol": protocol or ""}
    answer = door.client.get("/netkit/explain", **query)
    if door.as_json:
        door.json(answer)
    else:
        for step in answer["Steps"]:
            click.echo(f"  {step}")
        for doubt in answer["Doubts"]:
            click.echo(f"cannot weigh: {doubt}")
        where = (
            f"arrives at {answer['Place']} ({answer['Address']})" if answer["Arrives"] else "does not arrive"
        )
        unless = ", unless what cannot be weighed decides" if answer["Doubts"] else ""
        click.echo(f"{where}{unless}: {answer['Reason']}")
    raise click.exceptions.Exit(3 if answer["Doubts"] else 0 if answer["Arrives"] else 1)


@verb("doctor")
def doctor(door: Door) -> None:
    """Look for what is missing or mixed on this host. Ends with 1 on an error."""
    with door.waiting():
        found = door.client.get("/netkit/doctor")
    door.rows(("", "WHAT", "MEND"), ((row["Severity"], row["What"], row["Mend"]) for row in found), found)
    if any(row["Severity"] == "error" for row in found):
        raise click.exceptions.Exit(1)


@verb("events")
@click.option("--since", default="")
@click.option("--until", default="")
@click.option("--filter", "-f", "filters", multiple=True, metavar="KEY=VALUE")
def events(door: Door, since: str, until: str, filters: tuple[str, ...]) -> None:
    """Print what happens, as it happens."""
    from netkit.cli.wishes import filter_words

    query = {"since": since, "until": until, "filters": filter_words(filters)}
    with door.client.open("GET", "/events", query=query) as response:
        for line in response:
            if door.as_json:
                click.echo(line.decode().rstrip())
                continue
            event = json.loads(line)
            attributes = ", ".join(f"{k}={v}" for k, v in event["Actor"]["Attributes"].items())
            click.echo(f"{event['Type']} {event['Action']} {event['Actor']['ID'][:12]} ({attributes})")


@verb("version")
def version(door: Door) -> None:
    """Print the client's and the daemon's versions."""
    answer = door.client.get("/version")
    if door.as_json:
        door.json(answer)
        return
    click.echo(f"client {__version__}")
    click.echo(f"daemon {answer['Version']} (API {answer['ApiVersion']}, kernel {answer['KernelVersion']})")


@verb("info")
def info(door: Door) -> None:
    """Print what the daemon says of itself and its host."""
    door.json(door.client.get("/info"))


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script for a shell.

    For bash: eval "$(netkit completion bash)".
    """
    from click.shell_completion import get_completion_class

    from netkit.cli.main import cli

    cls: Any = get_completion_class(shell)
    if cls is None:
        raise ApplyError(f"no completion for {shell}", hint=f"your shell is {os.environ.get('SHELL')}")
    click.echo(cls(cli, {}, "netkit", "_NETKIT_COMPLETE").source())
