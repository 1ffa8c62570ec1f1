"""The container programs are looked for once, and again when they have gone."""

import pytest

from netkit.errors import Unsupported
from netkit.runtime import detect


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.setattr(detect, "_PATH", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    detect._tools.cache_clear()
    for name in ("crun", "runc", "conmon"):
        (tmp_path / name).touch(mode=0o755)
    yield tmp_path
    detect._tools.cache_clear()


def test_a_program_that_was_removed_is_named_and_found_again(programs):
    before = detect.tools()
    assert before.monitor == str(programs / "conmon")
    (programs / "conmon").unlink()
    with pytest.raises(Unsupported, match="conmon is not installed") as told:
        detect.tools()
    assert told.value.hint == "apt-get install conmon"
    (programs / "conmon").touch(mode=0o755)
    assert detect.tools() == before
    for name in ("crun", "runc"):
        (programs / name).unlink()
    with pytest.raises(Unsupported, match="runc is not installed"):
        detect.tools()
