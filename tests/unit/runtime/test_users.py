"""Names to numbers, by the image's own files."""

import pytest

from netkit.errors import SpecError
from netkit.runtime.users import Identity, resolve


@pytest.fixture
def root(tmp_path):
    (tmp_path / "etc").mkdir()
    passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/var/www:\n+broken\n12:x:99:99::/odd:\n"
    (tmp_path / "etc/passwd").write_text(passwd)
    (tmp_path / "etc/group").write_text("root:x:0:\nadm:x:4:root,www\nwww:x:34:\nstaff:x:50:www\n")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("", Identity(0, 0, (4,), "/root")),
        ("www", Identity(33, 34, (4, 50), "/var/www")),
        ("33", Identity(33, 34, (4, 50), "/var/www")),
        ("www:staff", Identity(33, 50, (), "/var/www")),
        ("www:7", Identity(33, 7, (), "/var/www")),
        ("1000", Identity(1000, 0, (), "/")),
        ("1000:1000", Identity(1000, 1000, (), "/")),
        ("12", Identity(99, 99, (), "/odd")),  # a name that looks like a number is a name
    ],
)
def test_who_that_is(root, user, identity):
    assert resolve((root,), user) == identity


@pytest.mark.parametrize(("user", "word"), [("nobody", "user nobody"), ("www:none", "group none")])
def test_a_name_must_be_known(root, user, word):
    with pytest.raises(SpecError, match=f"unable to find {word}"):
        resolve((root,), user)


def test_the_topmost_layer_with_the_file_counts(root, tmp_path):
    top, bare = tmp_path / "top", tmp_path / "bare"
    (top / "etc").mkdir(parents=True)
    bare.mkdir()
    (top / "etc/passwd").write_text("www:x:77:77::/:\n")
    assert resolve((str(bare), str(top), root), "www").uid == 77


def test_an_image_without_users_has_root():
    assert resolve((), "") == Identity(0, 0, (), "/")


def test_a_link_in_an_image_does_not_lead_to_the_hosts_users(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/../../etc/passwd")
    with pytest.raises(SpecError):
        resolve((str(tmp_path),), "daemon")
