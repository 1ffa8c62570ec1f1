"""All drivers together: who works beside whom, who waits for whom, and how failures end."""

import threading

import pytest

from netkit.engine.drivers import Drivers, Progress
from netkit.engine.failpoint import Failpoint
from netkit.errors import ApplyError
from netkit.model.operation import Operation
from netkit.model.resource import Bridge, Mount, Namespace, Veth

PATIENCE_S = 10
HOME = Namespace(path="/n/web", owner="container/web")
BR0 = Bridge(name="br0", mtu=1500, owner="network/br0")
ROOT = Mount(target="/m/web", lowers=("/l",), upper="/u", work="/w", owner="container/web")
WIRE = Veth(
    name="nk1",
    bridge="br0",
    mtu=1500,
    namespace="/n/web",
    peer="eth0",
    mac="02:42:0a:00:00:02",
    cidr="10.0.0.2/24",
    owner="container/web/br0",
)


class Recorder:
    """A driver that notes in `log` when it begins and ends each operation; `during` is called between."""

    def __init__(self, kind, log, *, waits=False, during=lambda: None):
        self.kinds = frozenset({kind})
        self.waits = waits
        self._kind, self._log, self._during = kind, log, during

    def observe(self, scope):
        self._during()
        return list(scope or ())

    def execute(self, operations):
        for operation in operations:
            self._log.append(f"{self._kind} begins")
            self._during()
            self._log.append(f"{self._kind} ends")
            yield operation


def create(*resources):
    return [Operation(None, resource) for resource in resources]


def raises(message):
    def during():
        raise ApplyError(message)

    return during


def carry_out(drivers, operations):
    progress = Progress()
    Drivers(drivers, Failpoint.parse("")).execute(operations, progress)
    return progress


def test_a_driver_that_waits_works_beside_the_next():
    log, made = [], threading.Event()
    slow = Recorder("mount", log, waits=True, during=lambda: made.wait(PATIENCE_S))
    quick = Recorder("bridge", log, during=made.set)
    progress = carry_out([slow, quick], create(ROOT, BR0))
    assert log.index("bridge begins") < log.index("mount ends")
    assert {op.resource for op in progress.done} == {ROOT, BR0}


def test_one_that_does_not_is_waited_for():
    log = []
    carry_out([Recorder("mount", log), Recorder("bridge", log)], create(ROOT, BR0))
    assert log == ["mount begins", "mount ends", "bridge begins", "bridge ends"]


def test_what_is_needed_is_waited_for():
    log = []
    held = threading.Timer(0.2, lambda: None)
    held.start()
    slow = Recorder("namespace", log, waits=True, during=held.join)
    carry_out([slow, Recorder("veth", log)], create(HOME, WIRE))
    assert log.index("namespace ends") < log.index("veth begins")


def test_a_deletion_waits_for_those_that_need_it():
    log = []
    held = threading.Timer(0.2, lambda: None)
    held.start()
    slow = Recorder("veth", log, waits=True, during=held.join)
    carry_out([slow, Recorder("namespace", log)], [Operation(WIRE, None), Operation(HOME, None)])
    assert log.index("veth ends") < log.index("namespace begins")


def test_a_driver_is_never_used_twice_at_a_time():
    log = []
    slow = Recorder("mount", log, waits=True)
    other = Mount(target="/m/db", lowers=("/l",), upper="/v", work="/x", owner="container/db")
    carry_out([slow, Recorder("bridge", log)], create(ROOT, BR0, other))
    mounts = [line for line in log if line.startswith("mount")]
    assert mounts == ["mount begins", "mount ends"] * 2


@pytest.mark.parametrize("who", ["mount", "bridge"])
def test_a_failure_is_told_when_the_others_have_ended(who):
    log = []
    slow = Recorder("mount", log, waits=True, during=raises("no") if who == "mount" else lambda: None)
    quick = Recorder("bridge", log, during=raises("no") if who == "bridge" else lambda: None)
    progress, operations = Progress(), create(ROOT, BR0)
    with pytest.raises(ApplyError, match="no"):
        Drivers([slow, quick], Failpoint.parse("")).execute(operations, progress)
    assert progress.failed.resource.kind == who
    assert [op.resource.kind for op in progress.missing(operations)] == [who]


def test_drivers_that_wait_look_beside_the_others():
    looked = threading.Event()
    slow = Recorder("mount", [], waits=True, during=lambda: looked.wait(PATIENCE_S))
    quick = Recorder("bridge", [], during=looked.set)
    found = Drivers([slow, quick], Failpoint.parse("")).observe([ROOT, BR0])
    assert looked.is_set()
    assert set(found.values()) == {ROOT, BR0}
