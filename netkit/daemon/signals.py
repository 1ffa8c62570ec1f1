"""Signals by name or number, as users write them.

>>> signal_number("TERM"), signal_number("SIGTERM"), signal_number("15")
(15, 15, 15)
"""

import signal as signals

from netkit.errors import SpecError


def signal_number(signal: str) -> int:
    """`KILL`, `SIGKILL` or `9`. Raises SpecError."""
    if signal.isdigit() and 0 < int(signal) <= 64:
        return int(signal)
    name = signal.upper()
    try:
        return signals.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError as err:
        raise SpecError(f"unknown signal {signal!r}", hint="a name such as SIGTERM, or a number") from err
