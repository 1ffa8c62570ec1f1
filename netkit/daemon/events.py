"""Events: what has happened, for whoever listens now or asks a little later.

The last thousand are kept, for `since=`. `publish` may be called from any thread; `subscribe`
runs on an event loop. A listener that falls ten thousand events behind is let go.

    events.publish("network", "create", network.id, {"name": "br0", "type": "bridge"})
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

import msgspec

KEPT = 1000
_BEHIND_MAX = 10_000
FILTERS = frozenset(
    "config container daemon event image label network node plugin scope secret service type volume".split()
)
_STATUS_TYPES = ("container", "image")

Filters = Mapping[str, Collection[str]]


class Event(msgspec.Struct, frozen=True):
    """One thing that happened to the actor `id`; `at_ns` in nanoseconds since 1970."""

    type: str
    action: str
    id: str
    attributes: Mapping[str, str]
    at_ns: int

    def shape(self) -> dict[str, Any]:
        """As GET /events has it, with the fields of old for containers and images."""
        body: dict[str, Any] = {
            "Type": self.type,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": dict(self.attributes)},
            "scope": "local",
            "time": self.at_ns // 1_000_000_000,
            "timeNano": self.at_ns,
        }
        if self.type in _STATUS_TYPES:
            body |= {"status": self.action, "id": self.id, "from": self.attributes.get("image", "")}
        return body


class Events:
    """The events of one daemon."""

    def __init__(self) -> None:
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._listeners: set[_Listener] = set()
        self._lock = threading.Lock()

    def publish(self, type: str, action: str, id: str, attributes: Mapping[str, str] | None = None) -> None:
        """Tell everybody. Any thread; never waits for a listener."""
        event = Event(type, action, id, dict(attributes or {}), time.time_ns())
        with self._lock:
            self._kept.append(event)
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener.offer(event)

    async def subscribe(
        self, since: float | None, until: float | None, filters: Filters
    ) -> AsyncIterator[Event]:
        """Events from `since` (None: from now) to `until` (None: for ever), in seconds since 1970."""
        listener = _Listener()
        with self._lock:
            past = tuple(self._kept) if since is not None or until is not None else ()
            self._listeners.add(listener)
        try:
            for event in past:
                at = event.at_ns / 1e9
                if (since or 0.0) <= at and (until is None or at <= until) and matches(event, filters):
                    yield event
            while (coming := await listener.next(until)) is not None:
                if matches(coming, filters):
                    yield coming
        finally:
            with self._lock:
                self._listeners.discard(listener)


class _Listener:
    """A queue on one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def offer(self, event: Event) -> None:
        """From any thread; a loop that has closed listens no more."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, event)

    async def next(self, until: float | None) -> Event | None:
        """The next event, or None when the time is over or the listener is too slow."""
        if until is None:
            return await self._queue.get()
        try:
            return await asyncio.wait_for(self._queue.get(), max(until - time.time(), 0.0))
        except TimeoutError:
            return None

    def _put(self, event: Event) -> None:
        self._queue.put_nowait(event if self._queue.qsize() < _BEHIND_MAX else None)


def matches(event: Event, filters: Filters) -> bool:
    """Whether an event passes: every filter named, any of its values."""
    return all(any(_passes(event, name, value) for value in values) for name, values in filters.items())


def _passes(event: Event, name: str, value: str) -> bool:
    match name:
        case "type":
            return event.type == value
        case "event":
            return event.action == value or event.action.startswith(f"{value}:")
        case "scope":
            return value == "local"
        case "label":
            key, equals, wanted = value.partition("=")
            found = event.attributes.get(key)
            return found is not None and (not equals or found == wanted)
        case "image":
            image = event.attributes.get("image", "") if event.type == "container" else event.id
            return value in {image, image.rpartition(":")[0], event.attributes.get("name", "")}
        case "container" if event.type == "network":
            return event.attributes.get("container", "").startswith(value)
        case _:
            named = value.removeprefix("/") == event.attributes.get("name")
            return event.type == name and (named or (bool(value) and event.id.startswith(value)))
