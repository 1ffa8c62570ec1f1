"""A host that lacks something, a user who may not, a daemon started wrongly: told with the mend."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.lab import NETKIT

SPEC, CONFLICT, UNSUPPORTED, UNREACHABLE = 2, 5, 9, 11

DAEMONS = [
    (("--bip", "10.0.0.0"), SPEC, "10.0.0.0", ""),
    (("--mtu", "x"), SPEC, "x", "integer"),
    (("-b", "an-overlong-interface"), SPEC, "an-overlong-interface", "15"),
    (("--default-address-pool", "nonsense"), SPEC, "nonsense", "base="),
    (("--ip", "x"), SPEC, "'x'", "192.168"),
]


@pytest.mark.parametrize(("argv", "code", "message", "hint"), DAEMONS, ids=[row[0][0] for row in DAEMONS])
def test_a_daemon_with_bad_options_touches_nothing(lab, argv, code, message, hint):
    state = lab.folder / "other"
    words = ("daemon", "-H", f"unix://{lab.folder}/other.sock", "--state-dir", str(state))
    done = subprocess.run(lab.outside.argv(NETKIT, *words, *argv), capture_output=True, text=True, timeout=20)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert hint in done.stderr
    assert not state.exists()


def test_a_second_daemon_is_told_who_is_there(lab):
    """One for each namespace and for each state folder, however often one tries."""
    elsewhere = (lab.folder / "some/where", "namespace")
    for state, named in [(lab.state, "state folder"), elsewhere, elsewhere, elsewhere]:
        done = subprocess.run(
            lab.host.argv(NETKIT, "daemon", "-H", f"unix://{lab.folder}/o.sock", "--state-dir", str(state)),
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == CONFLICT
        assert named in done.stderr
        assert str(lab.daemon.pid) in done.stderr
        assert "hint:" in done.stderr
        assert not elsewhere[0].parent.exists()


@pytest.mark.parametrize("missing", ["iptables", "runc", "conmon"])
def test_a_daemon_without_its_programs_names_the_package(lab, missing):
    """The program is hidden from the daemon alone, in a mount namespace of its own."""
    hide = f'for p in $(which -a {missing}); do mount --bind /dev/null "$p" || exit 99; done; exec "$@"'
    words = ("daemon", "-H", f"unix://{lab.folder}/p.sock", "--state-dir", str(lab.folder / "less"))
    done = subprocess.run(
        lab.outside.argv("unshare", "-m", "sh", "-c", hide, "sh", NETKIT, *words),
        capture_output=True,
        text=True,
        timeout=20,
    )
    message, _, mend = done.stderr.partition("hint:")
    assert done.returncode == UNSUPPORTED, done.stderr
    assert f"{missing} is not installed" in message
    assert "apt-get install" in mend
    assert missing in mend
    assert not (lab.folder / "less").exists()


def nobody(lab, *argv, **env):
    words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-m"]
    return subprocess.run(
        lab.host.argv(*words, "netkit.cli.main", *argv),
        capture_output=True,
        text=True,
        timeout=20,
        env=lab.environment(**env),
        cwd="/",
    )


def test_whoever_is_not_root_is_told_so(lab):
    with readable(sys.executable):
        asked = nobody(lab, "ps")
        assert asked.returncode == UNREACHABLE, asked.stderr
        assert "permission" in asked.stderr
        assert "hint:" in asked.stderr
        served = nobody(lab, "daemon", "--state-dir", "/tmp/nkt-nobody")
        assert served.returncode == UNSUPPORTED, served.stderr
        assert "root" in served.stderr
        assert "sudo" in served.stderr
    assert not Path("/tmp/nkt-nobody").exists()


@contextlib.contextmanager
def readable(program):
    """Skip where nobody else may run our interpreter."""
    probe = ["setpriv", "--reuid", "65534", "--clear-groups", program, "-c", "import netkit.cli.main"]
    if subprocess.run(probe, capture_output=True, cwd="/").returncode:
        pytest.skip("the interpreter is not for everyone to run")
    yield
