"""Starting the monitor, which starts the OCI runtime, keeps the log and learns how it ends.

The monitor leaves our session and outlives us. It tells over a pipe what became of the runtime:
a line of JSON `{"pid": 4711}`, or `{"pid": -1, "message": "…"}` with what the runtime said. It
puts a file `oom` into its working folder, so it is started in the container's own, which also
keeps its paths short and free of the characters it splits at.

    pid = start(tools(), Launch(folder=path, id=container_id, root=root, options=("--stdin",)))
"""

import contextlib
import json
import os
import re
import select
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from netkit.errors import ApplyError, NetkitError, SpecError
from netkit.kernel.command import run
from netkit.runtime.detect import Tools

_TIMEOUT_S = 60.0
_LOGRUS = re.compile(r'msg="((?:[^"\\]|\\.)*)"')
_MISSING = ("executable file not found", "no such file or directory")
_FORBIDDEN = ("permission denied", "is a directory")


class NotRunnable(SpecError):
    """The program that the container was to run cannot be run: 127 it is not there, 126 it may not.

    The same codes and words as Docker gives, by which its client chooses its own exit code.
    """

    def __init__(self, message: str, container_exit_code: int, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.container_exit_code = container_exit_code


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One start: `folder` is where its files go, `name` what it is known by among processes."""

    folder: Path
    container: str
    name: str
    root: Path
    log: str
    options: tuple[str, ...] = ()

    def arguments(self, tools: Tools) -> list[str]:
        """The monitor's command line. `--full-attach` keeps its socket in the folder itself."""
        return [
            *("env", "-C", str(self.folder), tools.monitor, "--api-version=1"),
            *("--cid", self.container, "--cuuid", self.name),
            *("--runtime", tools.runtime, f"--runtime-arg=--root={self.root}"),
            *("--bundle", str(self.folder), "--full-attach", "--persist-dir", "."),
            *("--container-pidfile", "pidfile", "--conmon-pidfile", "conmon.pid"),
            *("--log-path", self.log, "--no-sync-log", *self.options),
        ]


class Pipes:
    """The pipes to a monitor. What it is not told of it must not inherit: a container would have it.

    `sync` gives its answers; for an attached exec `start` lets it go on and `ready` says that its
    socket is there. `theirs` are its ends, by the variables that name them to it.
    """

    def __init__(self, attached: bool) -> None:
        self.theirs: dict[str, int] = {}
        self.sync, self.theirs["_OCI_SYNCPIPE"] = os.pipe()
        self.start = self.ready = -1
        if attached:
            self.theirs["_OCI_STARTPIPE"], self.start = os.pipe()
            self.ready, self.theirs["_OCI_ATTACHPIPE"] = os.pipe()

    def handed_over(self) -> None:
        """Close the ends that the monitor has now: only then does its death end a read."""
        for descriptor in self.theirs.values():
            os.close(descriptor)
        self.theirs = {}

    def close(self) -> None:
        self.handed_over()
        for descriptor in (self.sync, self.start, self.ready):
            if descriptor >= 0:
                os.close(descriptor)

    def keep_sync(self) -> int:
        """Take the reading end of the sync pipe out of `close`."""
        descriptor, self.sync = self.sync, -1
        return descriptor


@contextlib.contextmanager
def launched(tools: Tools, launch: Launch, *, attached: bool = False) -> Iterator[Pipes]:
    """Start a monitor; its pipes are open within. An `attached` exec waits for two bytes to start."""
    pipes = Pipes(attached)
    try:
        if attached:
            os.write(pipes.start, b"1")  # the monitor reads one before it does anything
        words = {name: str(descriptor) for name, descriptor in pipes.theirs.items()}
        descriptors = tuple(pipes.theirs.values())
        run(launch.arguments(tools), env=words, pass_fds=descriptors, timeout_s=_TIMEOUT_S)
        pipes.handed_over()
        yield pipes
    finally:
        pipes.close()


def start(tools: Tools, launch: Launch) -> int:
    """Start a monitor and wait for the runtime's answer: the pid. Raises as `verdict` does."""
    with launched(tools, launch) as pipes:
        return verdict(read_line(pipes.sync), "create")


def read_line(descriptor: int, timeout_s: float = _TIMEOUT_S) -> str:
    """One line from a pipe; "" when it is closed first. Raises ApplyError when nothing comes."""
    text, deadline = b"", time.monotonic() + timeout_s
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise ApplyError(f"the monitor said nothing for {timeout_s:g} s", hint="is the host overloaded?")
        part = os.read(descriptor, 1)  # a byte at a time: the exit code may follow in the same pipe
        if not part:
            break
        text += part
    return text.decode(errors="replace")


def verdict(line: str, verb: str) -> int:
    """What the monitor's line says. Raises NotRunnable or ApplyError with the runtime's words."""
    if not line:
        raise ApplyError(
            "the monitor gave up without a word", hint="see the system log; run out of memory or disk?"
        )
    answer = json.loads(line, strict=False)
    number = int(answer["data"])
    if number < 0:
        raise refusal(str(answer.get("message", "")), verb)
    return number


def refusal(said: str, verb: str) -> NetkitError:
    """The runtime's words as an error: SpecError's kind where the program is at fault."""
    reason = spoken(said)
    message = f"OCI runtime {verb} failed: {reason}"
    exec_failed = "exec:" in reason or "exec " in reason or "chdir" in reason
    if exec_failed and any(words in reason for words in _MISSING):
        return NotRunnable(message, 127, hint="is the program in the image, and in its PATH?")
    if exec_failed and any(words in reason for words in _FORBIDDEN):
        return NotRunnable(message, 126, hint="is the file executable?")
    return ApplyError(message, hint="the words are the OCI runtime's own")


def spoken(said: str) -> str:
    """The message in a log line of the runtime, without time and level."""
    found = _LOGRUS.findall(said)
    text = found[-1].replace('\\"', '"').replace("\\\\", "\\") if found else said
    return " ".join(text.split()) or "it said nothing"


def command(tools: Tools, root: Path, words: Sequence[str], verb: str) -> str:
    """Run the OCI runtime itself to its end and give what it printed. Raises as `refusal`."""
    done = run([tools.runtime, "--root", str(root), *words], timeout_s=_TIMEOUT_S, check=False)
    if done.code != 0:
        raise refusal(done.stderr or done.stdout, verb)
    return done.stdout
