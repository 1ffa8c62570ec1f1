"""The log format, line by line; only the files of the test are read."""

import asyncio

from netkit.runtime.logs import Joiner, Line, Wanted, parse, read, seconds

ZONE = "2026-01-31T12:00:0{}.123456789+00:00"


def entry(second, stream, flag, text):
    return f"{ZONE.format(second)} {stream} {flag} {text}\n".encode()


def lines_of(path, ended=lambda: True, **wanted):
    async def scene():
        return [line async for line in read(path, Wanted(**wanted), ended)]

    return asyncio.run(asyncio.wait_for(scene(), 10))


def test_a_line_has_time_stream_and_text():
    line = parse(entry(1, "stderr", "F", "a b  c"))
    assert line == Line("2026-01-31T12:00:01.123456789Z", 2, b"a b  c\n")


def test_a_time_of_another_zone_becomes_utc():
    line = parse(b"2026-01-31T13:30:00.000000001+01:30 stdout F x\n")
    assert line.time == "2026-01-31T12:00:00.000000001Z"
    assert seconds(line.time) == 1769860800.0


def test_what_is_not_in_the_form_is_passed_over():
    assert parse(b"rubbish\n") is None
    (line,) = Joiner().feed(b"rubbish\n" + entry(1, "stdout", "F", "x"))
    assert line.data == b"x\n"


def test_parts_are_put_together_by_stream():
    joiner = Joiner()
    text = entry(1, "stdout", "P", "one ") + entry(2, "stderr", "P", "err") + entry(3, "stdout", "F", "two")
    assert list(joiner.feed(text)) == [Line("2026-01-31T12:00:01.123456789Z", 1, b"one two\n")]
    assert [line.data for line in joiner.rest()] == [b"err"]
    assert list(joiner.rest()) == []


def test_a_line_without_end_is_given_out_in_pieces():
    joiner, part = Joiner(), entry(1, "stdout", "P", "x" * 8192)
    assert [len(line.data) for line in joiner.feed(part * 5)] == [16384, 16384]


def test_carriage_returns_belong_to_the_text(tmp_path):
    log = tmp_path / "ctr.log"
    log.write_bytes(entry(1, "stdout", "F", "one\rtwo\r") + entry(2, "stdout", "F", ""))
    assert [line.data for line in lines_of(log)] == [b"one\rtwo\r\n", b"\n"]


def test_tail_counts_lines_of_output_not_of_the_file(tmp_path):
    log = tmp_path / "ctr.log"
    parts = [entry(1, "stdout", "P", "a") + entry(1, "stdout", "P", "b") + entry(1, "stdout", "F", str(n))
             for n in range(5000)]  # fmt: skip
    log.write_bytes(b"".join(parts))
    for count in (0, 1, 3, 999, 4999):
        wanted = [b"ab%d\n" % n for n in range(5000)][5000 - count :]
        assert [line.data for line in lines_of(log, tail=count)] == wanted
    assert len(lines_of(log, tail=9999)) == len(lines_of(log)) == 5000


def test_since_and_until(tmp_path):
    log = tmp_path / "ctr.log"
    log.write_bytes(b"".join(entry(n, "stdout", "F", n) for n in range(10)))
    start = 1769860800.0
    found = lines_of(log, since=start + 3, until=start + 6)
    assert [line.data for line in found] == [b"3\n", b"4\n", b"5\n"]
    assert [line.data for line in lines_of(log, until=start + 6, tail=2)] == [b"4\n", b"5\n"]


def test_following_waits_for_whole_lines_and_reads_to_the_end(tmp_path):
    log, rounds = tmp_path / "ctr.log", []
    whole = entry(2, "stdout", "F", "second")
    log.write_bytes(entry(1, "stdout", "F", "first") + whole[:20])

    def ended():
        rounds.append(1)
        if len(rounds) == 3:
            with log.open("ab") as more:
                more.write(whole[20:] + entry(3, "stdout", "P", "third"))
        return len(rounds) == 4

    assert [line.data for line in lines_of(log, ended)] == [b"first\n", b"second\n", b"third"]


def test_a_log_that_is_not_there_is_empty(tmp_path):
    assert lines_of(tmp_path / "none", lambda: False) == []
