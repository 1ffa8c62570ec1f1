"""Logs: what conmon wrote down of a container's output, read back line by line.

The format is the one that Kubernetes fixed: `TIME STREAM P|F TEXT`, where P is a piece of a line
that goes on and F the end of one.

    async for line in read(path, follow=False, tail=10, since=0.0, until=None, alive=lambda: False): …
"""

import asyncio
import datetime
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

import msgspec

_STREAMS = {b"stdout": 1, b"stderr": 2}
_POLL_S = 0.05


class Line(msgspec.Struct, frozen=True):
    """A line or a piece of one: `time` in RFC 3339, `stream` 1 or 2, `data` with its newline."""

    time: str
    stream: int
    data: bytes

    @property
    def moment(self) -> float:
        """The time in seconds since the epoch."""
        return datetime.datetime.fromisoformat(self.time[:26] + "+00:00").timestamp()


async def read(
    path: Path,
    *,
    follow: bool,
    tail: int | None,
    since: float,
    until: float | None,
    alive: Callable[[], bool],
) -> AsyncIterator[Line]:
    """The lines of a log; with `follow` also those to come, until the container is not `alive`."""
    position, rest = 0, b""
    data = _from(path, position)
    position += len(data)
    complete, _, rest = data.rpartition(b"\n")
    for line in _tail(_wanted(_lines(complete), since, until), tail):
        yield line
    while follow and (until is None or datetime.datetime.now().timestamp() <= until):
        going_on = alive()  # asked first: what is written before the end is read after it
        data = _from(path, position)
        position += len(data)
        complete, newline, rest_ = (rest + data).rpartition(b"\n")
        rest = rest_ if newline else rest + data
        for line in _wanted(_lines(complete), since, until):
            yield line
        if not data and not going_on:
            return
        if not data:
            await asyncio.sleep(_POLL_S)


def _from(path: Path, position: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read()
    except FileNotFoundError:
        return b""


def _lines(data: bytes) -> Iterator[Line]:
    for raw in data.split(b"\n"):
        parts = raw.split(b" ", 3)
        if len(parts) == 4 and parts[1] in _STREAMS:
            ending = b"\n" if parts[2] == b"F" else b""
            yield Line(_utc(parts[0].decode()), _STREAMS[parts[1]], parts[3] + ending)


def _utc(text: str) -> str:
    """conmon writes the local offset; everybody else wants Z, with nanoseconds."""
    body, sign, offset = text[:29], text[29:30], text[30:]
    if sign in {"+", "-"} and offset.strip("0:"):
        moment = datetime.datetime.fromisoformat(body[:26] + sign + offset)
        moment = moment.astimezone(datetime.UTC)
        return f"{moment.strftime('%Y-%m-%dT%H:%M:%S.%f')}{body[26:29]}Z"
    return f"{body}Z"


def _wanted(lines: Iterable[Line], since: float, until: float | None) -> Iterator[Line]:
    if not since and until is None:
        yield from lines
        return
    for line in lines:
        if line.moment >= since and (until is None or line.moment <= until):
            yield line


def _tail(lines: Iterable[Line], count: int | None) -> Iterable[Line]:
    """The last `count` whole lines; pieces of one line count as one."""
    if count is None:
        return lines
    kept: deque[list[Line]] = deque(maxlen=count)
    current: list[Line] = []
    for line in lines:
        current.append(line)
        if line.data.endswith(b"\n"):
            kept.append(current)
            current = []
    if current:
        kept.append(current)
    return [line for pieces in kept for line in pieces]
