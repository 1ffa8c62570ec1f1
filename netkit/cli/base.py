"""What all commands share: the options that each has, errors with hints, tables, plans.

A command is a function of a `Door` (the client and how to print) and its own options:

    @verb("ls")
    def ls(door: Door) -> None:
        door.rows(("NAME",), ((net["Name"],) for net in door.client.get("/networks")))
"""

import difflib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from netkit.client import Client
from netkit.errors import NetkitError


class Door:
    """The daemon's client and the way to print, as the command line asks for them."""

    def __init__(self, host: str, as_json: bool, dry_run: bool, quiet: bool) -> None:
        self.client = Client(host, verb=" ".join(sys.argv[1:]) or "?")
        self.as_json = as_json
        self.dry_run = dry_run
        self.quiet = quiet

    def change(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """A request that changes something; with --dry-run its plan is printed and the command ends."""
        if not self.dry_run:
            return self.client.call(method, path, body=body, query=query)
        answer = self.client.call(method, path, body=body, query={**query, "dry_run": True})
        self.plan(answer)
        raise click.exceptions.Exit(0)

    def plan(self, answer: Any) -> None:
        """Print operations, or that there are none."""
        operations = answer["Operations"]
        if self.as_json:
            self.json(answer)
        elif not operations:
            click.echo("nothing to change")
        for operation in () if self.as_json else operations:
            click.echo(operation["Text"])

    def json(self, value: Any) -> None:
        click.echo(json.dumps(value, indent=2))

    def said(self, text: str, value: Any = None) -> None:
        """One line for a person, or the value behind it with --json."""
        if self.as_json:
            self.json(value if value is not None else {"Name": text})
        else:
            click.echo(text)

    def rows(self, titles: Sequence[str], rows: Iterable[Sequence[Any]], raw: Any = None) -> None:
        """A table with aligned columns; the answer itself with --json."""
        if self.as_json:
            self.json(raw)
            return
        lines = [tuple(titles), *(tuple(str(cell) for cell in row) for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
        for line in lines:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            click.echo("   ".join(padded).rstrip())


def verb(name: str, *, changes: bool = False, quiet: bool = False, **settings: Any) -> Callable[[Any], Any]:
    """A command with -H and --json; with --dry-run where it changes something; with -q on demand."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        def run(host: str, as_json: bool, **given: Any) -> None:
            dry_run, hush = given.pop("dry_run", False), given.pop("hush", False)
            function(Door(host, as_json, dry_run, hush), **given)

        run.__doc__ = function.__doc__
        run.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
        shared: list[Callable[[Any], Any]] = [
            click.option("--host", "-H", default="", metavar="URL", help="The daemon's socket."),
            click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        ]
        if changes:
            shared.append(click.option("--dry-run", is_flag=True, help="Show the plan, change nothing."))
        if quiet:
            shared.append(click.option("--quiet", "-q", "hush", is_flag=True, help="Print ids only."))
        made: Any = run
        for option in shared:
            made = option(made)
        return Command.make(name, made, settings)

    return wrap


_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Command(click.Command):
    """A command that takes `--flag=true|false`, and whose usage errors name the nearest option."""

    @classmethod
    def make(cls, name: str, function: Any, settings: dict[str, Any]) -> click.Command:
        return click.command(name, cls=cls, **settings)(function)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, [self._plain(word) for word in args])
        except click.NoSuchOption as err:
            known = [name for param in self.params for name in param.opts if name.startswith("--")]
            close = difflib.get_close_matches(err.option_name, known, n=1)
            raise click.NoSuchOption(err.option_name, possibilities=close, ctx=ctx) from err

    def _plain(self, word: str) -> str:
        """`--icc=false` as `--no-icc`."""
        name, separator, value = word.partition("=")
        for param in self.params:
            if separator and name in param.opts and param.secondary_opts and value.lower() in _TRUTHS:
                return name if _TRUTHS[value.lower()] else param.secondary_opts[0]
        return word


class Lazy(click.Group):
    """A group whose commands are imported when they are used: `name` → `module:attribute`."""

    def __init__(self, *args: Any, table: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self._table, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        place = self._table.get(name)
        if place is None:
            return super().get_command(ctx, name)
        import importlib

        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(f"netkit.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as err:
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not close or args[0].startswith("-"):
                raise
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {close[0]!r}?", ctx) from err


def guarded(function: Callable[[], Any]) -> int:
    """Run the command line; errors go to stderr with their hints, and decide the exit code."""
    try:
        return int(function() or 0)
    except click.exceptions.Exit as err:
        return err.exit_code
    except click.ClickException as err:
        err.show()
        return 2 if isinstance(err, click.UsageError) else err.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NetkitError as err:
        if os.environ.get("NETKIT_DEBUG"):
            raise
        return told(err)


def told(err: NetkitError) -> int:
    """Print an error and its hint; returns its exit code."""
    click.echo(f"netkit: {err.message}", err=True)
    if err.hint:
        click.echo(f"hint: {err.hint}", err=True)
    return err.exit_code


def each(door: Door, names: Iterable[str], act: Callable[[str], Any]) -> None:
    """Do something to each of several things; go on after an error, and end with the first one."""
    failures: list[NetkitError] = []
    for name in names:
        try:
            act(name)
            if not door.as_json:
                click.echo(name)
        except NetkitError as err:
            failures.append(err)
            told(err)
    if failures:
        raise click.exceptions.Exit(failures[0].exit_code)


def mapping(pairs: Iterable[str], what: str) -> dict[str, str]:
    """`key=value` words as a mapping. Raises a usage error."""
    found = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not key:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint=what)
        found[key] = value if separator else ""
    return found


def age(stamp: float) -> str:
    """How long ago, as people say it."""
    import time

    seconds = max(0, int(time.time() - stamp))
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count != 1 else ''} ago"
    return "just now"
