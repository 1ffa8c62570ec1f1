"""Images, overlays and mounted files against the real kernel."""

import errno
import gzip
import io
import lzma
import os
import tarfile
from pathlib import Path

import pytest

from netkit.errors import ApplyError, Conflict, NotFound, SpecError
from netkit.kernel import libc
from netkit.model.resource import File, Mount
from netkit.runtime.files import FileDriver
from netkit.runtime.images import Images
from netkit.runtime.overlay import OverlayDriver
from netkit.runtime.places import Places
from netkit.testing.images import busybox_tar
from tests.kernel.boxes import Boxes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def images(tmp_path):
    return Images(tmp_path / "images")


@pytest.fixture
def state(tmp_path):
    """A state folder whose mounts go away with the test."""
    folder = tmp_path / "a state, with: odd \\ name"
    folder.mkdir()
    driver = OverlayDriver(Places(folder))
    yield folder
    for mount in list(driver.observe(None)):
        driver.delete(mount)
    lines = Path("/proc/self/mountinfo").read_text()
    assert tmp_path.name not in lines


def tar(*entries, **kinds):
    """A tar of (name, type, fields) entries."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, fields in entries:
            entry = tarfile.TarInfo(name)
            data = fields.pop("data", b"")
            entry.type, entry.size = kind, len(data)
            for field, value in fields.items():
                setattr(entry, field, value)
            archive.addfile(entry, io.BytesIO(data))
    return io.BytesIO(stream.getvalue())


def small(text=b"hello"):
    return tar(("etc", tarfile.DIRTYPE, {"mode": 0o755}), ("etc/motd", tarfile.REGTYPE, {"data": text}))


def test_what_a_tar_holds_is_kept_with_owners_modes_and_links(images):
    capability = "\x01\x00\x00\x02\x00\x04\x00\x00" + "\x00" * 12  # cap_net_bind_service, as vfs_cap_data
    image = images.import_tar(
        tar(
            ("./", tarfile.DIRTYPE, {"mode": 0o751}),
            ("bin", tarfile.DIRTYPE, {"mode": 0o1777, "uid": 3}),
            ("bin/su", tarfile.REGTYPE, {"data": b"x", "mode": 0o4755, "mtime": 1000}),
            (
                "bin/ping",
                tarfile.REGTYPE,
                {"uid": 7, "gid": 8, "pax_headers": {"SCHILY.xattr.security.capability": capability}},
            ),
            ("bin/alias", tarfile.SYMTYPE, {"linkname": "/bin/su", "uid": 5}),
            ("bin/same", tarfile.LNKTYPE, {"linkname": "bin/su"}),
            ("pipe", tarfile.FIFOTYPE, {}),
            ("null", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 3, "mode": 0o666}),
        ),
        "box",
    )
    root = Path(image.lowers[0])
    su, ping = os.stat(root / "bin/su"), os.stat(root / "bin/ping")
    assert oct(os.stat(root).st_mode) == "0o40751"
    assert (oct(os.stat(root / "bin").st_mode), os.stat(root / "bin").st_uid) == ("0o41777", 3)
    assert (oct(su.st_mode), su.st_mtime, su.st_nlink) == ("0o104755", 1000, 2)
    assert (ping.st_uid, ping.st_gid) == (7, 8)
    assert os.getxattr(root / "bin/ping", "security.capability") == capability.encode()
    assert (os.readlink(root / "bin/alias"), os.lstat(root / "bin/alias").st_uid) == ("/bin/su", 5)
    assert os.stat(root / "null").st_rdev == os.makedev(1, 3)
    assert image.size == 1


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_any_packing_gives_the_same_image(images, pack):
    plain = images.import_tar(small(), "plain")
    packed = images.import_tar(io.BytesIO(pack(small().getvalue())), "packed")
    assert packed.id == plain.id
    assert images.get("packed").names == ("plain:latest", "packed:latest")


@pytest.mark.parametrize(
    "entries",
    [
        [("../out", tarfile.REGTYPE, {"data": b"x"})],
        [("a/../../out", tarfile.REGTYPE, {"data": b"x"})],
    ],
)
def test_a_path_that_leaves_the_root_is_refused(images, tmp_path, entries):
    with pytest.raises(SpecError, match="unsafe path"):
        images.import_tar(tar(*entries), "box")
    assert not (tmp_path / "out").exists()
    assert os.listdir(tmp_path / "images") == []


@pytest.mark.parametrize("target", ["/", "../../../../../../../..", "/nowhere"])
def test_links_lead_nowhere_but_inside(images, tmp_path, target):
    image = images.import_tar(
        tar(
            ("way", tarfile.SYMTYPE, {"linkname": target}),
            (f"way{tmp_path}/out", tarfile.REGTYPE, {"data": b"x"}),
            ("hard", tarfile.LNKTYPE, {"linkname": f"way{tmp_path}/out"}),
        ),
        "box",
    )
    assert not (tmp_path / "out").exists()
    assert Path(image.lowers[0], "hard").read_bytes() == b"x"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        tar().getvalue(),
        b"this is no tar",
        small().getvalue()[:700],
        gzip.compress(small().getvalue())[:90],
        b"BZh91AY",
    ],
    ids=["nothing", "empty", "text", "cut", "gzip cut", "bzip2"],
)
def test_what_is_no_tar_is_refused_and_leaves_nothing(images, tmp_path, data):
    with pytest.raises(SpecError):
        images.import_tar(io.BytesIO(data), "box")
    assert os.listdir(tmp_path / "images") == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    libc.mount("tmpfs", str(disk), "tmpfs", 0, "size=256k")
    try:
        with pytest.raises(ApplyError, match="disk is full"):
            Images(disk).import_tar(small(b"x" * 1_000_000), "box")
        assert os.listdir(disk) == []
    finally:
        libc.umount(str(disk))


def test_a_failing_source_leaves_nothing(images, tmp_path):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError(errno.EIO, "the line went dead")

    with pytest.raises(ApplyError, match="line went dead"):
        images.import_tar(Broken(), "box")
    assert os.listdir(tmp_path / "images") == []


def test_what_a_cut_short_import_left_goes_when_the_folder_is_opened(tmp_path):
    (tmp_path / ".import-x" / "rootfs").mkdir(parents=True)
    assert [image.names for image in Images(tmp_path).all()] == [("host:latest",)]
    assert os.listdir(tmp_path) == []


def test_names_and_ids_find_images(images):
    image = images.import_tar(small(), "box")
    for ref in ("box", "box:latest", "docker.io/library/box", image.id, image.id[7:], image.id[7:15]):
        assert images.get(ref) == image
    with pytest.raises(NotFound, match="No such image: bax:latest") as caught:
        images.get("bax")
    assert "'box'" in caught.value.hint


def test_a_name_moves_to_the_newer_image(images):
    old = images.import_tar(small(b"old"), "box")
    new = images.import_tar(small(b"new"), "box")
    assert images.get("box").id == new.id
    assert images.get(old.id).names == ()


def test_removing_takes_the_name_and_with_the_last_the_image(images, tmp_path):
    image = images.import_tar(small(), "box")
    images.tag("box", "other:1.0")
    assert images.remove("box", in_use={image.id: ["web"]}) == (["box:latest"], "")
    with pytest.raises(Conflict, match="in use"):
        images.remove("other:1.0", in_use={image.id: ["web"]})
    assert images.remove("other:1.0", in_use={}) == (["other:1.0"], image.id)
    assert os.listdir(tmp_path / "images") == []


def test_the_builtin_image_is_not_ours_to_change(images):
    with pytest.raises(Conflict):
        images.remove("host", in_use={})
    with pytest.raises(Conflict):
        images.import_tar(small(), "host")


def test_changes_are_kept_with_the_image(images):
    changes = ['CMD ["sh", "-l"]', "ENV A=1 B='2 3'", "EXPOSE 80 53/udp", "USER www", "LABEL x=y"]
    image = images.import_tar(small(), "box", changes)
    found = images.get("box")
    assert found == image
    assert (found.command, found.env, found.user) == (("sh", "-l"), ("A=1", "B=2 3"), "www")
    assert (found.exposed, found.labels) == (((53, "udp"), (80, "tcp")), {"x": "y"})
    assert images.import_tar(small(), "plain").id != image.id


def overlay(state, *lowers):
    folder = state / "containers" / "4f1c"
    return Mount(
        target=str(folder / "rootfs"),
        lowers=tuple(map(str, lowers)),
        upper=str(folder / "upper"),
        work=str(folder / "work"),
        owner="container/web",
    )


def test_an_overlay_is_observed_as_it_was_wanted(state):
    driver, lowers = OverlayDriver(Places(state)), [state / "one,two", state / "three:four"]
    for lower in lowers:
        lower.mkdir()
        (lower / "name").write_text(lower.name)
    wanted = overlay(state, *lowers)
    assert list(driver.observe([wanted])) == []
    driver.create(wanted)
    driver.create(wanted)  # as after a crash: it is there already
    assert list(driver.observe([wanted])) == [wanted]
    assert [mount.key for mount in driver.observe(None)] == [wanted.key]
    assert Path(wanted.target, "name").read_text() == "one,two"
    Path(wanted.target, "new").touch()
    with open(Path(wanted.target, "name")):  # somebody is in it
        driver.delete(wanted)
    driver.delete(wanted)
    assert list(driver.observe(None)) == []
    assert not Path(wanted.target).exists()
    assert Path(wanted.upper, "new").exists()  # a stopped container keeps its files


def test_a_missing_layer_is_named(state):
    with pytest.raises(ApplyError) as caught:
        OverlayDriver(Places(state)).create(overlay(state, state / "gone"))
    assert str(state / "gone") in caught.value.hint


def test_the_hosts_own_root_is_an_image_without_the_state_folder(state):
    driver, wanted = OverlayDriver(Places(state)), overlay(state, "/")
    driver.create(wanted)
    assert list(driver.observe([wanted])) == [wanted]
    assert Path(wanted.target, "etc/passwd").read_bytes() == Path("/etc/passwd").read_bytes()
    assert os.listdir(wanted.target + str(state)) == []
    Path(wanted.target, "etc/netkit-was-here").touch()
    assert not Path("/etc/netkit-was-here").exists()
    driver.delete(wanted)
    assert list(driver.observe(None)) == []
    assert "images/host" not in Path("/proc/self/mountinfo").read_text()


def test_the_hosts_root_that_a_crash_left_mounted_is_seen_and_removed(state):
    driver, wanted = OverlayDriver(Places(state)), overlay(state, "/")
    driver.create(wanted)
    libc.umount(wanted.target)
    (left,) = driver.observe(None)
    assert left.target == str(state / "images/host/root")
    driver.delete(left)
    assert list(driver.observe(None)) == []


def test_a_container_runs_on_the_hosts_root(tmp_path):
    boxes = Boxes(tmp_path)
    try:
        code, said = boxes.run("h", "sh", "-c", "grep ^root: /etc/passwd; touch /etc/x", lowers=("/",))
        assert (code, said.startswith("root:x:0:0")) == (0, True)
    finally:
        boxes.close()
    assert boxes.left() == []


def test_a_file_is_rewritten_in_place(tmp_path):
    driver = FileDriver(Places(tmp_path))
    path = tmp_path / "containers" / "4f1c" / "hosts"
    long = File(path=str(path), content="127.0.0.1 localhost\n" * 9, owner="container/web")
    short = File(path=str(path), content="::1 localhost\n", owner="container/web")
    old_mask = os.umask(0o077)
    try:
        driver.create(long)
    finally:
        os.umask(old_mask)
    inode = path.stat().st_ino
    assert oct(path.stat().st_mode) == "0o100644"
    driver.modify(long, short)
    assert (path.stat().st_ino, path.read_text()) == (inode, short.content)
    assert list(driver.observe([short])) == [short]
    assert [(each.key, each.content) for each in driver.observe(None)] == [(short.key, short.content)]
    driver.delete(short)
    driver.delete(short)
    assert list(driver.observe([short])) == []


def test_the_image_for_tests_has_programs(tmp_path):
    with tarfile.open(busybox_tar(tmp_path / "box.tar")) as archive:
        assert {"bin/busybox", "bin/sh", "etc/passwd"} <= set(archive.getnames())
