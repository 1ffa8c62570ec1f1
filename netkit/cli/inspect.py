"""`netkit inspect`: containers, networks and images in full, or one field of them.

netkit inspect -f '{{.NetworkSettings.IPAddress}}' web
"""

import json
import re
from typing import Any

import click

from netkit.cli.base import Door, verb
from netkit.errors import NotFound, SpecError

_PLACES = {"container": "/containers/{}/json", "network": "/networks/{}", "image": "/images/{}/json"}
_FIELD = re.compile(r"\{\{\s*(json\s+)?((?:\.\w+)+|\.)\s*\}\}")


@verb("inspect")
@click.argument("names", nargs=-1, required=True)
@click.option("--format", "-f", "template", default="", help="A template such as '{{.State.Pid}}'.")
@click.option("--type", "kind", type=click.Choice(sorted(_PLACES)), default=None)
def inspect(door: Door, names: tuple[str, ...], template: str, kind: str | None) -> None:
    """Show containers, networks or images in full."""
    found = [_find(door, name, [kind] if kind else list(_PLACES)) for name in names]
    if not template:
        door.json(found)
        return
    for value in found:
        click.echo(fill(template, value))


def fill(template: str, value: Any) -> str:
    """A template with its `{{.A.B}}` and `{{json .A}}` filled in. Raises SpecError for others."""
    filled = _FIELD.sub(lambda match: _shown(_at(value, match[2]), bool(match[1])), template)
    if left := re.search(r"\{\{.*?\}\}", filled):
        raise SpecError(f"{left[0]} is not understood", hint="{{.A.B}} and {{json .A}} are")
    return filled


def _at(value: Any, path: str) -> Any:
    for word in filter(None, path.split(".")):
        if not isinstance(value, dict) or word not in value:
            raise SpecError(f"there is no {path}", hint="look at the whole: netkit inspect NAME")
        value = value[word]
    return value


def _shown(value: Any, as_json: bool) -> str:
    return str(value) if isinstance(value, str) and not as_json else json.dumps(value)


def _find(door: Door, name: str, kinds: list[str]) -> Any:
    for kind in kinds:
        try:
            return door.client.get(_PLACES[kind].format(name))
        except NotFound as err:
            missing = err
    if len(kinds) == 1:
        raise missing
    raise NotFound(f"no such container, network or image: {name}", hint="netkit ps -a")
