"""Running one more program in a container, under a monitor of its own.

The program has the container's namespaces, environment and limits. Attached, its session is
connected before it starts, so that nothing it prints is lost; detached, only its end is followed.
Its files lie in `exec/ID` of the container's folder until it has ended.

    execution = await begin(folder, exec_id, Command(argv=("ls",)))
    async for stream, data in execution.output(): …
    code = await execution.wait()
"""

import asyncio
import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from netkit.runtime import attach, detect, monitor, users
from netkit.runtime.attach import Session
from netkit.runtime.folder import Folder
from netkit.runtime.places import write_private


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. An empty `user` or `workdir` is the container's; `env` is added to its own."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    terminal: bool = False
    stdin: bool = False
    privileged: bool = False
    attached: bool = True


class Execution(Session):
    """A program that runs in a container; a detached one has no output."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.pid = 0
        self.exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._place = place

    async def wait(self) -> int:
        """Its exit code, 128 and the signal's number where one ended it."""
        return await asyncio.shield(self.exit_code)

    def resize(self, height: int, width: int) -> None:
        """Size its terminal, in characters. Raises Conflict where it has ended."""
        attach.resize(self._place, height, width)

    def follow(self, pid: int, sync: int) -> None:
        """The program runs as `pid`; its exit code will come through the pipe `sync`."""
        self.pid = pid
        os.set_blocking(sync, False)
        self._loop.add_reader(sync, self._ended, sync)

    def _ended(self, sync: int) -> None:
        with contextlib.suppress(BlockingIOError):
            text = os.read(sync, 4096)
            self._loop.remove_reader(sync)
            os.close(sync)
            answer = json.loads(text, strict=False) if text else {}
            if not self.exit_code.done():
                self.exit_code.set_result(int(answer.get("data", 255)))
            shutil.rmtree(self._place, ignore_errors=True)


async def begin(box: Folder, exec_id: str, command: Command) -> Execution:
    """Start a program in a running container. Raises NotRunnable, SpecError, ApplyError."""
    place = box.path / "exec" / exec_id
    execution = Execution(place)
    try:
        pid, sync = await asyncio.to_thread(_begin, box, place, command, execution)
    except BaseException:
        await execution.abandon()
        shutil.rmtree(place, ignore_errors=True)
        raise
    execution.follow(pid, sync)
    return execution


def _begin(box: Folder, place: Path, command: Command, session: Session) -> tuple[int, int]:
    config = json.loads(box.read("config.json"))
    place.mkdir(parents=True)
    spec = process(config["process"], command, box.path / "rootfs")
    write_private(place / "process.json", json.dumps(spec).encode())
    with monitor.launched(detect.tools(), _launch(box, place, command), attached=command.attached) as pipes:
        if not command.attached:
            session.give_up()
        elif monitor.read_line(pipes.ready):
            session.connect(place)
            os.write(pipes.start, b"2")
        pid = monitor.verdict(monitor.read_line(pipes.sync), "exec")
        return pid, pipes.keep_sync()


def process(base: dict[str, Any], command: Command, rootfs: Path) -> dict[str, Any]:
    """The OCI process: the container's own with what the command changes. Raises SpecError."""
    spec = {**base, "args": list(command.argv), "terminal": command.terminal}
    words = [*base["env"], *(["TERM=xterm"] if command.terminal else []), *command.env]
    if command.user:
        who = users.resolve((str(rootfs),), command.user)
        spec["user"] = {"uid": who.uid, "gid": who.gid, "additionalGids": list(who.groups)}
        words = [word for word in words if not word.startswith("HOME=")] + [f"HOME={who.home}"]
    spec["env"] = [
        f"{key}={value}" for key, value in dict(w.split("=", 1) for w in words if "=" in w).items()
    ]
    spec["cwd"] = command.workdir or base["cwd"]
    spec["capabilities"] = _capabilities(base, command, spec["user"]["uid"])
    return spec


def _capabilities(base: dict[str, Any], command: Command, uid: int) -> dict[str, list[str]]:
    """Root's are those the container may have; anybody else has them only from programs."""
    all_of_them = sorted(detect.capabilities())
    bounding = all_of_them if command.privileged else base["capabilities"]["bounding"]
    held = bounding if uid == 0 or command.privileged else []
    return {"bounding": bounding, "permitted": held, "effective": held, "inheritable": [], "ambient": []}


def _launch(box: Folder, place: Path, command: Command) -> monitor.Launch:
    flags = {
        "--exec-attach": command.attached,
        "--terminal": command.terminal,
        "--stdin": command.stdin,
    }
    options = ("--exec", "--exec-process-spec", "process.json", *(flag for flag, on in flags.items() if on))
    return monitor.Launch(
        folder=place,
        container=box.id,
        name=place.name,
        root=box.runtime_root,
        log="none",
        options=options,
    )
