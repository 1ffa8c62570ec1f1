"""`netkit inspect`: containers, networks and images in full, or one field of them.

netkit inspect -f '{{.NetworkSettings.IPAddress}}' web
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from netkit.cli import completion
from netkit.cli.base import Door, failed, verb
from netkit.errors import NotFound

PLACES = {"container": "/containers/{}/json", "network": "/networks/{}", "image": "/images/{}/json"}


def with_template(function: Callable[..., Any]) -> Callable[..., Any]:
    """The -f option of everything that can be inspected."""
    text = "A template such as '{{.State.Pid}}'."
    return click.option("--format", "-f", "template", default="", help=text)(function)


@verb("inspect")
@click.argument("names", nargs=-1, required=True, shell_complete=completion.everything)
@with_template
@click.option("--type", "kind", type=click.Choice(sorted(PLACES)), default=None)
def inspect(door: Door, names: tuple[str, ...], template: str, kind: str | None) -> None:
    """Show containers, networks or images in full."""
    show(door, names, template, [kind] if kind else list(PLACES))


def show(door: Door, names: Iterable[str], template: str, kinds: Sequence[str]) -> None:
    """Print what is known of each name, as JSON or through a template; then fail for the missing."""
    found, failures = [], []
    for name in names:
        try:
            found.append(_find(door, name, kinds))
        except NotFound as err:
            failures.append(err)
    if template:
        from netkit.cli.template import fill

        for value in found:
            click.echo(fill(template, value))
    else:
        door.json(found)
    failed(failures)


def _find(door: Door, name: str, kinds: Sequence[str]) -> Any:
    for kind in kinds:
        try:
            return door.client.get(PLACES[kind].format(name or "?"))
        except NotFound as err:
            missing = err
    if len(kinds) == 1:
        raise missing
    raise NotFound(f"no such container, network or image: {name}", hint="netkit ps -a")
