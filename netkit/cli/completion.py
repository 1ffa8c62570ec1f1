"""What a shell offers for a word that is being typed: names that the daemon knows, files, fixed words.

Each is a click `shell_complete`. The daemon is the one that the line names, before or after the
verb; none is ever started because somebody pressed the tab key, and none means no names.

    click.argument("image", shell_complete=completion.images)
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from netkit.client import Client
from netkit.errors import NetkitError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[Any]]


def known(names: Callable[[Client, click.Context], Iterable[str]]) -> Complete:
    """A completion from what the daemon answers."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        os.environ["NETKIT_AUTOSTART"] = "0"
        host = ctx.params.get("host") or ctx.find_root().params.get("host") or ""
        with contextlib.suppress(NetkitError, OSError):
            return sorted(name for name in names(Client(host), ctx) if name.startswith(incomplete))
        return []

    return complete


def _containers(client: Client, ctx: click.Context) -> Iterator[str]:
    found = client.get("/containers/json", all=True)
    return (name.removeprefix("/") for row in found for name in row["Names"])


def _images(client: Client, ctx: click.Context) -> Iterator[str]:
    found = client.get("/images/json")
    return (name.removesuffix(":latest") for row in found for name in row["RepoTags"])


def _networks(client: Client, ctx: click.Context) -> Iterator[str]:
    return (row["Name"] for row in client.get("/networks"))


def _bridges(client: Client, ctx: click.Context) -> Iterator[str]:
    return (row["Name"] for row in client.get("/netkit/bridges"))


def _everything(client: Client, ctx: click.Context) -> Iterator[str]:
    kinds = {"container": _containers, "network": _networks, "image": _images}
    wanted = ctx.params.get("kind")
    for kind, names in kinds.items():
        if wanted in {None, kind}:
            yield from names(client, ctx)


def _links(client: Client, ctx: click.Context) -> Iterator[str]:
    """The aliases of the links of the parent that was named before."""
    return (row["Alias"] for row in client.get("/netkit/links") if row["Parent"] == ctx.params.get("parent"))


def fixed(*words: str) -> Complete:
    """A completion from a few words that are always the same."""
    return lambda ctx, param, incomplete: [word for word in words if word.startswith(incomplete)]


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Files, which the shell knows itself."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


containers = known(_containers)
images = known(_images)
networks = known(_networks)
bridges = known(_bridges)
everything = known(_everything)
links = known(_links)
targets = known(lambda client, ctx: (f"{name}:" for name in _containers(client, ctx)))
