"""The errors of netkit, classed by whose turn it is.

    NetkitError
    ├── SpecError       the request is wrong: fix it             400, exit 2
    ├── NotFound        the thing named does not exist           404, exit 4
    ├── Conflict        it clashes with what is there            409, exit 5
    ├── Forbidden       it may not be done to this thing         403, exit 6
    ├── ApplyError      an operation failed and was undone       500, exit 7
    │   └── VerifyError the kernel does not show what was done   500, exit 8
    ├── Unsupported     this host lacks something                501, exit 9
    ├── PluginError     a backend misbehaved                     502, exit 10
    └── Unreachable     no daemon answers                        503, exit 11

The class fixes the HTTP status and the exit code. Every error says what happened, with which
value, and a hint says what to do next: `raise NotFound("no network named foo", hint="did you
mean foo1?")`.
"""

from collections.abc import Sequence


class NetkitError(Exception):
    """Something a person can act on: `message` says what, `hint` what to do next."""

    status = 500
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class SpecError(NetkitError):
    """The request itself is wrong: the user fixes the input."""

    status = 400
    exit_code = 2


class NotFound(NetkitError):
    """The container, network, image, link or exec that was named does not exist."""

    status = 404
    exit_code = 4


class Conflict(NetkitError):
    """A name, address, port, subnet or state is taken by somebody else."""

    status = 409
    exit_code = 5


class Forbidden(NetkitError):
    """The thing exists, but this must not be done to it (a network in use, the default one)."""

    status = 403
    exit_code = 6


class ApplyError(NetkitError):
    """An operation failed; `operation` names it, `undone` and `left` say what became of the rest.

    `passed`: all that does not wait for it was tried nevertheless.
    """

    status = 500
    exit_code = 7

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        undone: Sequence[str] = (),
        left: Sequence[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.operation = operation
        self.undone = tuple(undone)
        self.left = tuple(left)
        self.passed = False


class VerifyError(ApplyError):
    """Every operation succeeded and the kernel still shows something else; `diff` says what."""

    exit_code = 8

    def __init__(self, message: str, *, diff: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.diff = diff


class Unsupported(NetkitError):
    """This host lacks a program, a kernel feature or a permission; the hint names the mend."""

    status = 501
    exit_code = 9


class PluginError(NetkitError):
    """A backend raised, or answered with something that is not a resource."""

    status = 502
    exit_code = 10


class Unreachable(NetkitError):
    """No daemon answers on the socket, and none could be started."""

    status = 503
    exit_code = 11


def by_status(status: int) -> type[NetkitError]:
    """The class a client raises for an HTTP status; unknown statuses are plain errors."""
    classes = (SpecError, Forbidden, NotFound, Conflict, Unsupported, PluginError, Unreachable)
    return next((cls for cls in classes if cls.status == status), NetkitError)
