"""Fail points: places at which a test makes this process die or an operation fail.

`NETKIT_FAILPOINT=kill:7` kills the process with SIGKILL before its seventh operation counts as
done, `fail:7` makes that operation raise. Without the variable nothing happens. They exist so
that recovery can be tried at every operation of every plan, not at a few.

    >>> Failpoint.parse("").hit("- delete veth …")
"""

import os
import signal

from netkit.errors import ApplyError, SpecError


class Failpoint:
    """Counts operations and acts at the chosen one; number 0 is never reached."""

    def __init__(self, action: str, number: int) -> None:
        self._action = action
        self._left = number

    @classmethod
    def parse(cls, text: str) -> "Failpoint":
        """`kill:N`, `fail:N` or nothing. Raises SpecError."""
        if not text:
            return cls("", 0)
        action, _, number = text.partition(":")
        if action not in {"kill", "fail"} or not number.isdigit():
            raise SpecError(f"invalid fail point {text!r}", hint="kill:N or fail:N")
        return cls(action, int(number))

    def hit(self, operation: str) -> None:
        """One operation has happened."""
        self._left -= 1
        if self._left != 0 or not self._action:
            return
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ApplyError(f"fail point at {operation}", hint="NETKIT_FAILPOINT is set")
