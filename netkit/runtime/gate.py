"""Letting a created container's process go: what `runc start` does, in no time.

The runtime's init waits before it becomes the container's program: it opens the runtime's
`exec.fifo` for writing, which takes until somebody reads it. The program takes 10 ms for that, a
twentieth of a short container's life (docs/decisions/0009). crun's init reads instead: not for it.

    let_go(runtime_state / "exec.fifo", pid)
"""

import os
import select
from pathlib import Path

from netkit.errors import ApplyError
from netkit.runtime.folder import gone_descriptor

_WAITS_S = 5.0


def let_go(fifo: Path, pid: int, timeout_s: float = _WAITS_S) -> None:
    """Let the init `pid` behind `fifo` go on. Raises ApplyError where none waits there or it has ended."""
    try:
        link = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as err:
        raise ApplyError("no created container waits to be let go", hint="netkit reconcile") from err
    gone = gone_descriptor(pid)
    try:
        poll = select.poll()
        poll.register(link, select.POLLIN)
        poll.register(gone, select.POLLIN)
        ready = dict(poll.poll(timeout_s * 1000))
        # The program may have run to its end by now: what it wrote before that counts.
        if gone in ready and not os.read(link, 1):
            raise ApplyError("the container's process ended before it was let go", hint="was it killed?")
        # Nothing within seconds: a daemon that was killed at this point let it go before.
    finally:
        os.close(gone)
        os.close(link)
    fifo.unlink(missing_ok=True)
