"""Attach, exec and logs against real containers; what is awaited has an end of its own."""

import asyncio
import os
import signal
import socket
import time

import pytest

from netkit.errors import Conflict
from netkit.runtime.attach import Session
from netkit.runtime.execution import Command
from netkit.runtime.monitor import NotRunnable
from tests.kernel.boxes import Boxes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
_PATIENCE_S = 20.0


@pytest.fixture
def boxes(tmp_path):
    made = Boxes(tmp_path)
    try:
        yield made
    finally:
        made.close()
        assert made.left() == []


def play(scene):
    return asyncio.run(asyncio.wait_for(scene, _PATIENCE_S))


async def everything(session):
    said = {1: b"", 2: b""}
    async for stream, data in session.output():
        said[stream] += data
    await session.close()
    return said


async def up_to(session, text):
    said = b""
    async for _, data in session.output():
        said += data
        if text in said:
            return said
    raise AssertionError(f"{text!r} never came, but {said!r}")


def test_attached_before_there_is_a_container_nothing_is_lost(boxes):
    async def scene():
        box = boxes.container("a", "sh", "-c", "echo out; echo err >&2; seq 20000")
        sessions = [await boxes.runtime.attach(box.id) for _ in range(3)]
        await asyncio.to_thread(boxes.create, "a", *box.command)
        await asyncio.to_thread(boxes.runtime.start, box.id)
        return await asyncio.gather(*map(everything, sessions))  # one that is not read holds up all

    for said in play(scene()):
        assert said[1].split() == [b"out", *(b"%d" % n for n in range(1, 20001))]
        assert said[2] == b"err\n"


@pytest.mark.parametrize("clients", [1, 3])
def test_nothing_is_lost_by_a_monitor_that_is_slow_to_take_its_clients(boxes, clients):
    async def scene():
        box = boxes.container("a", "sh", "-c", "echo out")
        sessions = [await boxes.runtime.attach(box.id) for _ in range(clients)]
        await asyncio.to_thread(boxes.create, "a", *box.command)
        monitor = int((boxes.places.folder(box.id) / "conmon.pid").read_text())
        os.kill(monitor, signal.SIGSTOP)
        starting = asyncio.create_task(asyncio.to_thread(boxes.runtime.start, box.id))
        await asyncio.sleep(0.2)
        os.kill(monitor, signal.SIGCONT)
        await starting
        return await asyncio.gather(*map(everything, sessions))

    assert [said[1] for said in play(scene())] == [b"out\n"] * clients


def test_attached_between_creation_and_start_and_while_it_runs(boxes):
    async def scene():
        box = boxes.create("a", "sh", "-c", "echo first; read line; echo $line", stdin=True, stdin_once=True)
        early = await boxes.runtime.attach(box.id)
        await asyncio.to_thread(boxes.runtime.start, box.id)
        await up_to(early, b"first")
        late = await boxes.runtime.attach(box.id, stdin=True)
        await late.write(b"second\n")
        return await asyncio.gather(everything(early), everything(late))

    early, late = play(scene())
    assert early[1] == late[1] == b"second\n"


def test_the_end_of_stdin_ends_a_program_that_reads_it(boxes):
    async def scene():
        box = boxes.create("a", "wc", "-c", stdin=True, stdin_once=True)
        session = await boxes.runtime.attach(box.id, stdin=True)
        await asyncio.to_thread(boxes.runtime.start, box.id)
        await session.write(b"x" * 300_000)  # more than a pipe and a packet hold
        await session.close_stdin()
        return await everything(session)

    assert play(scene())[1].strip() == b"300000"


def test_stdin_of_a_container_kept_for_later_outlives_a_client(boxes):
    async def scene():
        box = boxes.create("a", "sh", "-c", "while read line; do echo got $line; done", stdin=True)
        await asyncio.to_thread(boxes.runtime.start, box.id)
        for word in (b"one", b"two"):
            session = await boxes.runtime.attach(box.id, stdin=True)
            await session.write(word + b"\n")
            await up_to(session, b"got " + word)
            await session.close_stdin()
            await session.close()
        return boxes.runtime.status(box.id).status

    assert play(scene()) == "running"


def test_one_who_only_looks_leaves_stdin_alone(boxes):
    async def scene():
        box = boxes.create("a", "cat", stdin=True, stdin_once=True)
        looks = await boxes.runtime.attach(box.id)
        await asyncio.to_thread(boxes.runtime.start, box.id)
        await looks.write(b"nothing")
        await looks.close_stdin()
        writes = await boxes.runtime.attach(box.id, stdin=True)
        await writes.write(b"hello\n")
        await writes.close_stdin()
        await everything(writes)
        return await everything(looks)

    assert play(scene())[1] == b"hello\n"


def test_a_terminal_has_a_size_and_both_streams_in_one(boxes):
    async def scene():
        script = "read go; stty size; test -t 0 && echo tty; echo err >&2"
        box = boxes.create("a", "sh", "-c", script, terminal=True, stdin=True, stdin_once=True)
        session = await boxes.runtime.attach(box.id, stdin=True)
        await asyncio.to_thread(boxes.runtime.start, box.id)
        boxes.runtime.resize(box.id, 33, 77)
        await asyncio.sleep(0.1)
        await session.write(b"go\n")
        return await everything(session)

    said = play(scene())
    assert said[1].split(b"\r\n")[1:] == [b"33 77", b"tty", b"err", b""]
    assert said[2] == b""


def test_who_waits_for_a_start_that_never_comes_is_let_go(boxes):
    async def scene():
        session = await boxes.runtime.attach("a" * 64)
        boxes.runtime.give_up("a" * 64)
        return await everything(session)

    assert play(scene()) == {1: b"", 2: b""}


def monitored(tmp_path):
    """A monitor's socket in a folder, and the session that is connected to it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "attach"))
    listener.listen()
    session = Session()
    session.connect(tmp_path)
    monitor, _ = listener.accept()
    listener.close()
    return monitor, session


def test_output_before_a_reset_is_not_lost(tmp_path):
    async def scene():
        monitor, session = monitored(tmp_path)
        await session.write(b"nobody reads this")
        monitor.send(b"\x02out")
        monitor.send(b"\x03err")
        monitor.close()
        said = [part async for part in session.output()]
        await session.close()
        return said

    assert play(scene()) == [(1, b"out"), (2, b"err")]


def test_resizing_what_does_not_run_is_refused(boxes):
    with pytest.raises(Conflict):
        boxes.runtime.resize("a" * 64, 1, 1)


@pytest.fixture
def running(boxes):
    box = boxes.create("a", "sleep", "1000", env=("FOO=own", "BAR=own"), workdir="/tmp")
    boxes.runtime.start(box.id)
    return box


def execute(boxes, box, *argv, feed=b"", **fields):
    async def scene():
        command = Command(argv=argv, stdin=bool(feed), **fields)
        execution = await boxes.runtime.execute(box.id, f"e{time.monotonic_ns()}", command)
        if feed:
            await execution.write(feed)
            await execution.close_stdin()
        said = await everything(execution)
        return await execution.wait(), said

    return play(scene())


def test_exec_runs_a_program_in_the_container(boxes, running):
    code, said = execute(boxes, running, "sh", "-c", "echo out; echo err >&2; hostname; exit 9")
    assert (code, said[2]) == (9, b"err\n")
    assert said[1].split() == [b"out", running.id[:12].encode()]


def test_exec_has_the_containers_surroundings_and_its_own(boxes, running):
    script = "echo $FOO $BAR $HOME; pwd; id -u; id -G"
    said = execute(boxes, running, "sh", "-c", script, env=("BAR=new",), user="www")[1][1]
    assert said.split(b"\n")[:4] == [b"own new /var/www", b"/tmp", b"33", b"33 4 50"]
    assert execute(boxes, running, "pwd", workdir="/var")[1][1] == b"/var\n"


def test_exec_reads_stdin_to_its_end(boxes, running):
    assert execute(boxes, running, "wc", "-c", feed=b"y" * 200_000)[1][1].strip() == b"200000"


def test_exec_with_a_terminal(boxes, running):
    async def scene():
        command = Command(argv=("sh", "-c", "read x; stty size"), terminal=True, stdin=True)
        execution = await boxes.runtime.execute(running.id, "e1", command)
        execution.resize(21, 63)
        await asyncio.sleep(0.1)
        await execution.write(b"\n")
        said = await everything(execution)
        return await execution.wait(), said

    code, said = play(scene())
    assert code == 0
    assert b"21 63" in said[1]


def test_a_detached_exec_has_a_code_and_no_output(boxes, running):
    code, said = execute(boxes, running, "sh", "-c", "echo x; exit 4", attached=False)
    assert (code, said) == (4, {1: b"", 2: b""})


def test_an_exec_that_a_signal_ends(boxes, running):
    assert execute(boxes, running, "sh", "-c", "kill -9 $$")[0] == 137


@pytest.mark.parametrize(("program", "code"), [("nowhere", 127), ("/etc/plain", 126)])
@pytest.mark.parametrize("terminal", [False, True])
def test_an_exec_that_cannot_run(boxes, running, program, code, terminal):
    with pytest.raises(NotRunnable) as caught:
        execute(boxes, running, program, terminal=terminal)
    assert caught.value.container_exit_code == code


def test_privileges_of_an_exec(boxes, running):
    plain, more = (
        execute(boxes, running, "grep", "CapEff", "/proc/self/status", privileged=on)[1][1].split()[1]
        for on in (False, True)
    )
    assert int(plain, 16) == 0xA80425FB
    assert int(more, 16) & ~int(plain, 16)


def test_execs_end_with_their_container_and_leave_nothing(boxes, running):
    async def scene():
        execution = await boxes.runtime.execute(running.id, "e1", Command(argv=("sleep", "1000")))
        await asyncio.to_thread(boxes.processes.delete, boxes.resources(running)[2])
        await everything(execution)
        return await execution.wait()

    assert play(scene()) == 137
    assert not (boxes.places.folder(running.id) / "exec").exists()


def test_no_exec_in_what_does_not_run(boxes):
    box = boxes.create("a", "sleep", "1000")
    with pytest.raises(Conflict):
        execute(boxes, box, "true")


def logs(boxes, box, **wanted):
    async def scene():
        return [line async for line in boxes.runtime.logs(box.id, **wanted)]

    return play(scene())


def test_logs_have_streams_and_times(boxes):
    box = boxes.create("a", "sh", "-c", "echo out; echo err >&2; printf rest")
    boxes.runtime.start(box.id)
    boxes.runtime.wait(box.id, 10)
    lines = logs(boxes, box)
    assert sorted((line.stream, line.data) for line in lines) == [(1, b"out\n"), (1, b"rest"), (2, b"err\n")]
    assert all(line.time.endswith("Z") for line in lines)
    assert [line.data for line in logs(boxes, box, tail=1)] == [b"rest"]
    assert logs(boxes, box, since=time.time() + 60) == []


def test_followed_logs_end_with_the_container(boxes):
    async def scene():
        box = boxes.create("a", "sh", "-c", "echo one; sleep 0.3; echo two; sleep 0.3; printf three")
        await asyncio.to_thread(boxes.runtime.start, box.id)
        return [line.data async for line in boxes.runtime.logs(box.id, follow=True)]

    assert play(scene()) == [b"one\n", b"two\n", b"three"]


def test_logs_of_what_never_ran_are_empty(boxes):
    assert logs(boxes, boxes.container("a", "true"), follow=True) == []
