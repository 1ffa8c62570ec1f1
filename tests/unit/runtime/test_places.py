"""Nobody but the owner enters what belongs to containers, be it new or made by an older netkit."""

from netkit.runtime.places import Places, write_private


def mode(path):
    return path.stat().st_mode & 0o777


def test_folders_and_secrets_are_closed_whatever_they_were(tmp_path):
    places = Places(tmp_path / "state")
    box = places.folder("4f1c")
    box.mkdir(parents=True)
    places.containers.chmod(0o711)
    (box / "config.json").write_text("PASSWORD=1")
    (box / "config.json").chmod(0o644)
    (box / "hosts").touch(0o644)
    places.shut()
    for name in ("containers", "images", "netns"):
        assert mode(tmp_path / "state" / name) == 0o700
    assert mode(box / "config.json") == 0o600
    assert mode(box / "hosts") == 0o644  # mounted into the container, for everybody in it


def test_a_private_file_is_private_even_where_it_was_not(tmp_path):
    (tmp_path / "old").write_text("a longer text")
    (tmp_path / "old").chmod(0o644)
    for name in ("old", "new"):
        write_private(tmp_path / name, b"short")
        assert mode(tmp_path / name) == 0o600
        assert (tmp_path / name).read_bytes() == b"short"
