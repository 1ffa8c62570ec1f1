"""Reading what a container printed: the log its monitor writes, one line for each write.

    2026-01-31T12:00:00.123456789+00:00 stdout F hello
    2026-01-31T12:00:00.223456789+00:00 stderr P a line that goes o

`F` ends a line, `P` leaves it open; a line's parts are put together again, up to 16 KiB, as
Docker does. A log never shrinks while it is read.

    async for line in read(path, Wanted(tail=10), ended=lambda: True): …
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

_POLL_S = 0.05
_BLOCK_BYTES = 64 * 1024
_LINE_MAX = 16 * 1024
_STREAMS = {b"stdout": 1, b"stderr": 2}


class Line(msgspec.Struct, frozen=True):
    """One line: RFC 3339 `time` in UTC, `stream` 1 or 2, `data` with its newline if it had one."""

    time: str
    stream: int
    data: bytes


class Wanted(msgspec.Struct, frozen=True):
    """Which lines: the last `tail` (None is all) of those from `since` on and before `until`."""

    tail: int | None = None
    since: float = 0.0
    until: float | None = None

    def begun(self, line: Line) -> bool:
        return seconds(line.time) >= self.since

    def over(self, line: Line) -> bool:
        return self.until is not None and seconds(line.time) > self.until


class Joiner:
    """Puts the parts of lines together; each stream has its own open line."""

    def __init__(self) -> None:
        self._open: dict[int, Line] = {}

    def feed(self, text: bytes) -> Iterator[Line]:
        """Whole lines of the log file, to lines of output."""
        for entry in _split(text):
            part = parse(entry)
            if part is None:
                continue
            begun = self._open.pop(part.stream, None)
            line = (
                msgspec.structs.replace(part, time=begun.time, data=begun.data + part.data) if begun else part
            )
            if line.data.endswith(b"\n") or len(line.data) >= _LINE_MAX:
                yield line
            else:
                self._open[line.stream] = line

    def rest(self) -> Iterator[Line]:
        """What was never ended, when nothing more can come."""
        yield from sorted(self._open.values(), key=lambda line: line.time)
        self._open.clear()


def parse(entry: bytes) -> Line | None:
    """One line of the log file; None for one that is not in its form."""
    words = entry.split(b" ", 3)
    if len(words) != 4 or words[1] not in _STREAMS:
        return None
    data = words[3] if words[2] == b"F" else words[3].removesuffix(b"\n")
    return Line(_utc(words[0].decode()), _STREAMS[words[1]], data)


async def read(path: Path, wanted: Wanted, ended: Callable[[], bool]) -> AsyncIterator[Line]:
    """The wanted lines; then those that come, until `ended()` and all is read."""
    joiner = Joiner()
    try:
        log = path.open("rb")
    except FileNotFoundError:
        return
    with log:
        last = ended()  # asked before the read: what comes after the answer is read in the next round
        for line in _history(log, joiner, wanted, last):
            yield line
        while not last:
            await asyncio.sleep(_POLL_S)
            last = ended()
            for line in (*joiner.feed(_whole_lines(log)), *(joiner.rest() if last else ())):
                if wanted.over(line):
                    return
                if wanted.begun(line):
                    yield line


def _history(log: BinaryIO, joiner: Joiner, wanted: Wanted, last: bool) -> Iterator[Line]:
    """What is there now, from the beginning or from as far back as `tail` needs."""
    if wanted.tail is not None:
        _seek_tail(log, wanted.tail if wanted.until is None else 1 << 60)
    lines: Iterator[Line] = _lines(log, joiner, last)
    lines = (line for line in lines if wanted.begun(line) and not wanted.over(line))
    return iter(deque(lines, wanted.tail)) if wanted.tail is not None else lines


def _lines(log: BinaryIO, joiner: Joiner, last: bool) -> Iterator[Line]:
    while text := _whole_lines(log):
        yield from joiner.feed(text)
    if last:
        yield from joiner.rest()


def _whole_lines(log: BinaryIO) -> bytes:
    """The next block, up to a line's end; the rest is read again when it is complete."""
    text = log.read(_BLOCK_BYTES)
    if text and not text.endswith(b"\n"):
        end = text.rfind(b"\n") + 1
        log.seek(end - len(text), os.SEEK_CUR)
        text = text[:end]
    return text


def _seek_tail(log: BinaryIO, count: int) -> None:
    """Go back until `count` lines of output and one more have ended: the first may have parts before."""
    position, ends = log.seek(0, os.SEEK_END), 0
    while position > 0 and ends <= count + 1:
        size = min(_BLOCK_BYTES, position)
        position = log.seek(position - size)
        text = log.read(size)
        ends += text.count(b" stdout F ") + text.count(b" stderr F ")
    log.seek(position)
    if position:
        log.readline()


def _split(text: bytes) -> list[bytes]:
    """Lines that end with a newline and nothing else: a carriage return is part of the output."""
    return [part + b"\n" for part in text.split(b"\n") if part]


def _utc(text: str) -> str:
    """The monitor writes local time; netkit speaks UTC. Nanoseconds stay."""
    if text.endswith("+00:00"):
        return text[:-6] + "Z"
    whole, _, rest = text.partition(".")
    fraction, zone = rest[:9], rest[9:]
    moment = datetime.fromisoformat(f"{whole}{zone}").astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}Z"


def seconds(time: str) -> float:
    """A line's time in seconds since 1970."""
    return datetime.fromisoformat(f"{time[:26]}+00:00").timestamp()
