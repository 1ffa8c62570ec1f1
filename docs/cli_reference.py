"""Writes docs/cli.md from the commands themselves: `python docs/cli_reference.py > docs/cli.md`."""

import click

from netkit.cli.main import cli

HEAD = """# Commands

Made from the commands themselves: `python docs/cli_reference.py > docs/cli.md`.

Every client command has `-H/--host URL` (or `NETKIT_HOST`), before or after the verb, and, after it, `--json`; whatever changes
something has `--dry-run`; what lists or makes containers, networks, bridges and images has `-q`. Switches take `--icc`, `--no-icc` and `--icc=false`.
A daemon is started where none answers (`NETKIT_AUTOSTART=0`: not), with its state in `NETKIT_STATE_DIR`.

Exit codes: 2 the request is wrong · 4 not found · 5 conflict · 6 forbidden · 7 an operation failed and was undone · 8 the kernel
shows something else · 9 this host lacks something · 11 no daemon; 1 and 3 mean what a command says of them. `run` and `exec` end with the process' own code, or as
`docker run` does with 125, 126, 127.
"""


def main() -> None:
    print(HEAD)
    context = click.Context(cli, info_name="netkit")
    for name in cli.list_commands(context):
        describe(cli.get_command(context, name), f"netkit {name}")


def describe(command: click.Command, path: str) -> None:
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            describe(command.get_command(context, name), f"{path} {name}")
        return
    arguments = [
        p.make_metavar(click.Context(command)) for p in command.params if isinstance(p, click.Argument)
    ]
    print(f"## {' '.join([path, *arguments])}\n")
    print((command.help or "").strip() + "\n")
    options = [p for p in command.params if isinstance(p, click.Option) and p.name not in {"host", "as_json"}]
    for option in options:
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        print(f"- {names}{': ' + option.help if option.help else ''}")
    print()


if __name__ == "__main__":
    main()
