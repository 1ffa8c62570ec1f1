"""Times in the forms that clients read: seconds, RFC 3339, and "5 minutes" for people.

>>> spell(301.0)
'5 minutes'
"""

import datetime
import re

from netkit.errors import SpecError

NEVER = "0001-01-01T00:00:00Z"
_UNITS = ((3600 * 24 * 365, "years"), (3600 * 24 * 30, "months"), (3600 * 24 * 7, "weeks"))
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def seconds(text: str) -> float:
    """RFC 3339 as seconds since 1970; "" and the zero time are 0."""
    if not text or text.startswith("0001-"):
        return 0.0
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()


def stamp(at: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat().replace("+00:00", "Z")


def parse_moment(text: str, now: float) -> float:
    """`since=` and `until=`: seconds, RFC 3339, or a Go duration before now. Raises SpecError."""
    try:
        return float(text)
    except ValueError:
        parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return now - sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        return seconds(text)
    except ValueError as err:
        raise SpecError(f"invalid time {text!r}", hint="seconds, 10m or 2026-01-31T12:00:00Z") from err


def spell(span: float) -> str:
    """A span of time as Docker's clients print it."""
    if span < 1:
        return "Less than a second"
    if span < 60:
        return "1 second" if int(span) == 1 else f"{int(span)} seconds"
    minutes, hours = int(span / 60), int(span / 3600 + 0.5)
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for length, unit in _UNITS:
        if span >= 2 * length:
            return f"{int(span / length)} {unit}"
    return f"{hours // 24} days"
