"""Labs for end-to-end tests, and the image they run."""

import os

import pytest

from netkit.testing.images import busybox_tar
from tests.e2e.lab import Lab


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def box_tar(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "box.tar"
    busybox_tar(path)
    return path


@pytest.fixture(scope="module")
def lab(box_tar):
    """A host with a running daemon and the image `box`, shared by the tests of a file."""
    lab = Lab()
    try:
        lab.start()
        lab.netkit("image", "import", str(box_tar), "box")
        yield lab
    finally:
        lab.close()


@pytest.fixture
def fresh_lab(box_tar):
    """A host of one's own whose daemon the test starts."""
    lab = Lab()
    lab.box_tar = box_tar
    try:
        yield lab
    finally:
        lab.close()
