"""Fail points: places at which a test makes this process die or an operation fail.

`NETKIT_FAILPOINT=kill:7` kills the process with SIGKILL right after its seventh operation, before
anybody takes note of it; `fail:7` makes that operation raise. `kill:7@network create` counts only
the operations of changes whose caller's verb begins with these words, so that what a start of the
daemon mends by itself is left out. `kill:saved` kills it once the change is saved, before anybody
hears of it and before a process that was made is let go. Without the variable nothing happens.
They exist so that recovery can be tried at every operation of every plan, not at a few.

    >>> Failpoint.parse("").hit("- delete veth …")
"""

import os
import signal
import threading

from netkit.errors import ApplyError, SpecError


class Failpoint:
    """Counts operations of verbs that begin with `verb` and acts at the chosen one; 0 is never reached."""

    def __init__(self, action: str, number: int, verb: str = "") -> None:
        self._action = action
        self._left = number
        self._verb = verb
        self._at_save = False
        self._counts = True
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, text: str) -> "Failpoint":
        """`kill:N`, `fail:N`, `kill:saved`, each with or without `@VERB`, or nothing. Raises SpecError."""
        if not text:
            return cls("", 0)
        point, _, verb = text.partition("@")
        action, _, number = point.partition(":")
        if point == "kill:saved":
            made = cls(action, 0, verb)
            made._at_save = True
            return made
        if action not in {"kill", "fail"} or not number.isdigit():
            raise SpecError(f"invalid fail point {text!r}", hint="kill:N, kill:saved or fail:N, and @VERB")
        return cls(action, int(number), verb)

    def begin(self, verb: str) -> None:
        """A change by a caller with this verb begins."""
        self._counts = verb.startswith(self._verb)

    def saved(self) -> None:
        """The change has been carried out and saved."""
        if self._at_save and self._counts:
            os.kill(os.getpid(), signal.SIGKILL)

    def hit(self, operation: str) -> None:
        """One operation has happened."""
        if not self._counts:
            return
        with self._lock:  # operations may happen side by side
            self._left -= 1
            reached = self._left == 0
        if not reached or not self._action:
            return
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ApplyError("fail point", operation=operation, hint="NETKIT_FAILPOINT is set")
