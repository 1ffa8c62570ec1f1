"""What all commands share: the options that each has, errors with hints, tables, plans.

A command is a function of a `Door` (the client and how to print) and its own options:

    @verb("ls")
    def ls(door: Door) -> None:
        door.rows(("NAME",), ((net["Name"],) for net in door.client.get("/networks")))
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from netkit.cli import completion
from netkit.client import Client
from netkit.errors import NetkitError, NotFound

_SHOWN_MAX = 50


class Planned(Exception):
    """The answer of a dry run: what would have been done. It ends the command."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.operations: list[Any] = (answer or {}).get("Operations") or []


class Door:
    """The daemon's client and the way to print, as the command line asks for them."""

    def __init__(self, host: str, as_json: bool, dry_run: bool, quiet: bool) -> None:
        self._words = " ".join(sys.argv[1:])
        self.client = Client(host, verb=self._words or "?")
        self.as_json = as_json
        self.dry_run = dry_run
        self.quiet = quiet

    def change(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """A request that changes something; with --dry-run it ends in `Planned` and changes nothing."""
        if self.dry_run:
            query["dry_run"] = True
        with self.waiting():
            answer = self.client.call(method, path, body=body, query=query)
        if self.dry_run:
            raise Planned(answer)
        return answer

    def waiting(self) -> contextlib.AbstractContextManager[None]:
        """Within it, what was typed and the seconds since are shown, once they are more than one."""
        shown = self._words if len(self._words) <= _SHOWN_MAX else self._words[: _SHOWN_MAX - 1] + "…"
        return waiting(f"netkit {shown}")

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

    def done(self, value: Any) -> None:
        """What was done, with --json; a person is told nothing where nothing went wrong."""
        if self.as_json:
            self.json(value)

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
            door = Door(host, as_json, dry_run, hush)
            try:
                function(door, **given)
            except Planned as planned:
                door.plan({"Operations": planned.operations})

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
        made_by: type[Command] = settings.pop("cls", Command)
        return made_by.make(name, made, settings)

    return wrap


_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Command(click.Command):
    """A command whose switches can be written as Docker's: `--rm`, `--rm=true`, `--rm=false`, `--no-rm`."""

    @classmethod
    def make(cls, name: str, function: Any, settings: dict[str, Any]) -> click.Command:
        return click.command(name, cls=cls, **settings)(function)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, self._plain(ctx, args))
        except click.NoSuchOption as err:
            import difflib

            known = [name for param in self.params for name in param.opts if name.startswith("--")]
            close = difflib.get_close_matches(err.option_name, known, n=1)
            raise click.NoSuchOption(err.option_name, possibilities=close, ctx=ctx) from err

    def _plain(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The words with switches as click knows them; those of a container's command are let be."""
        known = {name: param for param in self.get_params(ctx) for name in param.opts if name[0] == "-"}
        words, plain = list(args), list[str]()
        while words:
            word = words.pop(0)
            positional = word == "-" or not word.startswith("-")
            if word == "--" or (positional and not ctx.allow_interspersed_args):
                return [*plain, word, *words]
            plain += [word] if positional else _switch(word, known)
            if words and not positional and _wants_value(word, known):
                plain.append(words.pop(0))
        return plain


def _flag(param: click.Parameter | None) -> bool:
    return isinstance(param, click.Option) and param.is_flag


def _switch(word: str, known: Mapping[str, click.Parameter]) -> list[str]:
    """`--icc=false` as `--no-icc`, `--rm=false` and `--no-rm` as nothing, other words as they are."""
    name, separator, value = word.partition("=")
    truth = _TRUTHS.get(value.lower())
    if separator and truth is not None and _flag(known.get(name)):
        return [name] if truth else known[name].secondary_opts[:1]
    opposite = known.get("--" + word.removeprefix("--no-"))
    if word.startswith("--no-") and word not in known and opposite and not opposite.secondary_opts:
        return [] if _flag(opposite) else [word]
    return [word]


def _wants_value(word: str, known: Mapping[str, click.Parameter]) -> bool:
    """Whether the word after this one is its value: `--name x`, `-p 80`, `-itp 80`."""
    if word.startswith("--"):
        return word in known and not _flag(known[word])
    for place, letter in enumerate(word[1:], start=2):
        param = known.get(f"-{letter}")
        if not _flag(param):
            return param is not None and place == len(word)
    return False


class Lazy(click.Group):
    """A group whose commands are imported when they are used.

    `sections` maps a heading to commands, and those to where they are (`module:attribute`) and
    what they do, so that help need not load them all.
    """

    def __init__(
        self, *args: Any, sections: Mapping[str, Mapping[str, tuple[str, str]]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections or {}
        self._table = {name: place for part in self._sections.values() for name, (place, _) in part.items()}

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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])
        if not self._sections:
            super().format_commands(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as err:
            import difflib

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
        return _usage_code(err) if isinstance(err, click.UsageError) else err.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NetkitError as err:
        if os.environ.get("NETKIT_DEBUG"):
            raise
        return told(err)
    except (OSError, ValueError) as err:
        # A full disk, a file that is no text, a daemon that answers what is no JSON.
        if os.environ.get("NETKIT_DEBUG"):
            raise
        return told(NetkitError(str(err) or type(err).__name__, hint="NETKIT_DEBUG=1 shows where"))


def _usage_code(err: click.UsageError) -> int:
    """2, but 125 for `run`, whose other codes are its container's."""
    return 125 if err.ctx is not None and err.ctx.command.name == "run" else 2


def told(err: NetkitError) -> int:
    """Print an error and its hint; returns its exit code."""
    click.echo(f"netkit: {err.message}", err=True)
    if err.hint:
        click.echo(f"hint: {err.hint}", err=True)
    return err.exit_code


def each(
    door: Door, names: Iterable[str], act: Callable[[str], Any], *, missing_is_fine: bool = False
) -> None:
    """Do something to each of several things: all are tried, the exit code is the first failure's.

    The names of those done are printed; with --json a list of {"Name", "Error"}; with --dry-run
    one plan for all of them. What does not exist is only told where `missing_is_fine`.
    """
    failures: list[NetkitError] = []
    done: list[dict[str, str]] = []
    operations: list[Any] = []
    for name in names:
        said = ""
        try:
            act(name)
            if not door.as_json and not door.dry_run:
                click.echo(name)
        except Planned as planned:
            operations += planned.operations
        except NetkitError as err:
            said = err.message
            if missing_is_fine and isinstance(err, NotFound):
                told(err)
            else:
                failures.append(err)
        done.append({"Name": name, "Error": said})
    if door.dry_run and (operations or not failures):
        door.plan({"Operations": operations})
    elif door.as_json and not door.dry_run:
        door.json(done)
    failed(failures)


def failed(failures: Sequence[NetkitError]) -> None:
    """Print errors, and end with the first one's exit code; nothing where there are none."""
    for err in failures:
        told(err)
    if failures:
        raise click.exceptions.Exit(failures[0].exit_code)


def demand_terminal() -> None:
    """Refuse to give a container a terminal whose keys come from none. Raises NetkitError."""
    if not sys.stdin.isatty():
        raise NetkitError("the input device is not a TTY", hint="leave -t out")


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Say on stderr what is going on, at a terminal and once it lasts longer than a second."""
    if not sys.stderr.isatty():
        yield
        return
    import threading

    done = threading.Event()

    def tell() -> None:
        seconds = 0
        while not done.wait(1):
            seconds += 1
            click.echo(f"\r{text}: {seconds} s ", nl=False, err=True)
        if seconds:
            click.echo("\r\x1b[K", nl=False, err=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def containers(count: int = -1) -> Callable[[Any], Any]:
    """The argument `name`, or `names` for any number; a shell completes them."""
    name = "name" if count == 1 else "names"
    metavar = "CONTAINER" if count == 1 else "CONTAINER..."
    complete = completion.containers
    return click.argument(name, nargs=count, required=True, shell_complete=complete, metavar=metavar)


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
