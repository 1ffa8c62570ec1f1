"""Questions that tests ask of containers: does a connection come through, what answers."""

LISTENER = ("nc", "-ll", "-p", "{port}", "-e", "echo", "{word}")


def serve(lab, name, *options, port=80, word=None):
    """A container that answers every TCP connection on `port` with `word` (its name)."""
    argv = [part.format(port=port, word=word or name) for part in LISTENER]
    lab.netkit("run", "-d", "--name", name, *options, "box", *argv)


def idle(lab, name, *options):
    """A container that does nothing."""
    lab.netkit("run", "-d", "--name", name, *options, "box", "sleep", "100000")


def ask(lab, name, address, port=80, wait=2):
    """What a TCP connection from a container gets to read; None where it does not come through."""
    script = f"nc -w {wait} {address} {port} </dev/null"
    done = lab.netkit("exec", name, "sh", "-c", script, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def ask_from(space, address, port, wait=2):
    """The same from a host."""
    done = space.sh(f"busybox nc -w {wait} {address} {port} </dev/null; true", check=False)
    return done.strip() or None


def eventually(check, seconds=15):
    """The first true answer of `check`, or its last one."""
    import time

    deadline = time.monotonic() + seconds
    while not (answer := check()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer
