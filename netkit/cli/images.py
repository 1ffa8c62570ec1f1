"""`netkit image`, `images`, `rmi`.

netkit image import box.tar box
"""

import json
import os
import sys
import time
from typing import Any, BinaryIO

import click

from netkit.cli import completion
from netkit.cli.base import Door, Lazy, age, each, verb
from netkit.cli.inspect import show, with_template
from netkit.errors import ApplyError, NotFound


class Upload:
    """A file that tells on stderr how far it has been read, once that takes more than a second."""

    def __init__(self, file: BinaryIO, total: int) -> None:
        self._file, self._total, self._done = file, total, 0
        self._began = time.monotonic()
        self._shown = ""

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._done += len(data)
        if sys.stderr.isatty() and time.monotonic() - self._began > 1:
            part = f"{100 * self._done // self._total} %" if self._total else f"{self._done >> 20} MiB"
            text = f"\rimporting {part}" + ("" if data else "\n")
            if text != self._shown:  # a terminal may be slower than the disk
                sys.stderr.write(text)
                self._shown = text
        return data

    def __iter__(self) -> Any:
        return iter(lambda: self.read(1 << 18), b"")


@click.group("image", cls=Lazy)
def image() -> None:
    """Images that containers start from."""


@verb("import", changes=True)
@click.argument("file", metavar="FILE.tar", shell_complete=completion.files)
@click.argument("name", metavar="NAME[:TAG]")
def import_(door: Door, file: str, name: str) -> None:
    """Make an image from a tar of a root file system; - reads it from stdin."""
    repository, _, tag = name.partition(":")
    try:
        source = sys.stdin.buffer if file == "-" else open(file, "rb")  # noqa: SIM115
    except OSError as err:
        raise NotFound(f"cannot read {file}: {err.strerror}", hint="name a tar file, or - for stdin") from err
    query = {"fromSrc": "-", "repo": repository, "tag": tag}
    if door.dry_run:
        source.close()
        door.change("POST", "/images/create", **query)
    total = 0 if file == "-" else os.path.getsize(file)
    stream: Any = Upload(source, total)
    with source, door.client.open("POST", "/images/create", stream=stream, query=query) as response:
        lines = [json.loads(line) for line in response.read().splitlines() if line.strip()]
    if failed := next((line for line in lines if "error" in line), None):
        raise ApplyError(failed["error"], hint=failed.get("hint", ""))
    door.said(next((line["status"] for line in lines if "status" in line), name), lines)


@verb("ls", quiet=True)
@click.argument("name", default="", metavar="[NAME[:TAG]]", shell_complete=completion.images)
def ls(door: Door, name: str) -> None:
    """List images."""
    filters = json.dumps({"reference": [name]}) if name else ""
    found = door.client.get("/images/json", filters=filters)
    if door.quiet and not door.as_json:
        for each_ in found:
            click.echo(each_["Id"][7:19])
        return
    rows = (
        (*_split(tag), each_["Id"][7:19], age(each_["Created"]), f"{each_['Size'] / 1e6:.1f} MB")
        for each_ in found
        for tag in each_["RepoTags"] or ["<none>:<none>"]
    )
    door.rows(("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"), rows, found)


@verb("rm", changes=True)
@click.argument("names", nargs=-1, required=True, shell_complete=completion.images)
@click.option("--force", "-f", is_flag=True)
def rm(door: Door, names: tuple[str, ...], force: bool) -> None:
    """Remove images."""
    each(door, names, lambda name: door.change("DELETE", f"/images/{name}", force=force))


@verb("inspect")
@click.argument("names", nargs=-1, required=True, shell_complete=completion.images)
@with_template
def inspect(door: Door, names: tuple[str, ...], template: str) -> None:
    """Show images in full."""
    show(door, names, template, ["image"])


def _split(tag: str) -> tuple[str, str]:
    repository, _, version = tag.rpartition(":")
    return repository, version


for _command in (import_, ls, rm, inspect):
    image.add_command(_command)
