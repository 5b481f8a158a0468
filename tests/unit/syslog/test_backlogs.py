"""Backlogs in memory and on disk: what was sent may have to be sent again, and a disk outlives its process."""

from __future__ import annotations

import gc
import stat

import pytest

from cardoon.exceptions import ImproperlyConfigured
from cardoon.syslog.backlog import MemoryBacklog
from cardoon.syslog.messages import Frame
from cardoon.syslog.spool import SpoolBacklog

MIB = 1 << 20


def frames(first, end, size=0):
    return [Frame(n, False, b"%d" % n + b"." * size) for n in range(first, end)]


def spool(folder, *, stream="a", server="tls://h:6514", most_bytes=MIB):
    return SpoolBacklog(folder, server=server, stream=stream, most_bytes=most_bytes)


@pytest.fixture(params=["memory", "disk"])
def backlog(request, tmp_path):
    made = MemoryBacklog() if request.param == "memory" else spool(tmp_path / "spool")
    yield made
    made.close()


def numbers(messages):
    return [int(one.rstrip(b".")) for one in messages]


def test_messages_are_taken_in_order_and_by_size(backlog):
    backlog.add(frames(0, 3, 100))
    backlog.add(frames(3, 5, 100))

    assert numbers(backlog.take(150, 1.0)) == [0, 1]
    assert not backlog.is_sent()
    assert numbers(backlog.take(10_000, 1.0)) == [2, 3, 4]
    assert backlog.take(10_000, 1.0) == []
    assert backlog.is_sent()


def test_after_a_broken_connection_all_is_sent_again(backlog):
    backlog.add(frames(0, 5))
    backlog.take(3, 1.0)
    backlog.take(10_000, 2.0)

    backlog.rewind(None)

    assert numbers(backlog.take(10_000, 3.0)) == [0, 1, 2, 3, 4]


def test_after_an_orderly_end_only_the_latest_are_sent_again(backlog):
    backlog.add(frames(0, 5))
    backlog.take(3, 1.0)
    backlog.take(10_000, 90.0)

    backlog.rewind(50.0)
    assert numbers(backlog.take(10_000, 91.0)) == [3, 4]

    backlog.rewind(200.0)
    assert backlog.is_sent()


def test_a_second_break_before_anything_was_sent_loses_nothing(backlog):
    backlog.add(frames(0, 3))
    backlog.take(10_000, 1.0)
    backlog.rewind(None)
    backlog.rewind(0.5)

    assert numbers(backlog.take(10_000, 2.0)) == [0, 1, 2]


def test_memory_keeps_no_more_of_what_was_sent_than_it_may():
    backlog = MemoryBacklog(replay_bytes=1000)
    backlog.add(frames(0, 100, 98))
    while backlog.take(300, 1.0):
        pass

    backlog.rewind(None)

    assert 5 <= len(backlog.take(10_000, 2.0)) <= 10


def test_what_was_sent_one_by_one_is_kept_in_few_pieces_and_in_order():
    backlog = MemoryBacklog()
    gc.collect()
    before = len(gc.get_objects())
    for number in range(5000):
        backlog.add(frames(number, number + 1, 100))
        backlog.take(64 << 10, number / 1000)

    assert len(gc.get_objects()) - before < 100
    backlog.rewind(None)
    found = []
    while taken := backlog.take(64 << 10, 6.0):
        found += numbers(taken)
    assert found == list(range(5000))


def test_a_second_break_sends_again_what_was_sent_again_first():
    backlog = MemoryBacklog()
    backlog.add(frames(0, 90, 100))
    while backlog.take(1000, 1.0):
        pass
    backlog.rewind(None)
    backlog.take(2000, 2.0)

    backlog.rewind(None)

    assert numbers(backlog.take(100_000, 3.0)) == list(range(90))


def test_memory_takes_no_more_than_it_has_room_for():
    backlog = MemoryBacklog(room=10)
    backlog.add(frames(0, 10))

    assert not backlog.has_room()
    backlog.take(1, 1.0)
    assert backlog.has_room()


def test_what_a_dead_process_has_left_is_sent_by_the_next_one(tmp_path):
    first = spool(tmp_path)
    first.add(frames(0, 5))
    first.take(3, 1.0)
    first.rewind(None)
    first.close()  # as it is left with messages that wait

    second = spool(tmp_path, stream="b")
    second.add(frames(5, 7))

    assert numbers(second.take(10_000, 1.0)) == [0, 1, 2, 3, 4, 5, 6]
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_keeps_its_own(tmp_path):
    first, second = spool(tmp_path), spool(tmp_path, stream="b")
    first.add(frames(0, 5))

    assert second.is_sent()
    first.close()
    second.close()
    third = spool(tmp_path, stream="c")
    assert not third.is_sent()
    third.close()


def test_a_spool_of_one_server_is_not_sent_to_another(tmp_path):
    first = spool(tmp_path)
    first.add(frames(0, 5))
    first.close()

    other = spool(tmp_path, stream="b", server="tls://other:6514")
    assert other.is_sent()
    other.close()


@pytest.mark.parametrize("harm", ["torn", "changed", "absurd"])
def test_a_record_that_is_not_whole_is_left_out_with_what_follows(tmp_path, harm):
    first = spool(tmp_path)
    first.add(frames(0, 3, 50))
    first.close()
    [path] = tmp_path.glob("*.000001")
    octets = bytearray(path.read_bytes())
    match harm:
        case "torn":
            del octets[-1:]
        case "changed":
            octets[-1] ^= 1
        case _:
            octets[2 * len(octets) // 3 :] = b"\xff" * 20
    path.write_bytes(octets)

    second = spool(tmp_path, stream="b")

    assert numbers(second.take(10_000, 1.0)) == [0, 1]
    second.close()


def test_a_full_spool_has_no_room_and_drops_the_oldest_that_nobody_needs(tmp_path):
    backlog = spool(tmp_path, most_bytes=MIB)
    number = 0
    while backlog.has_room():
        backlog.add(frames(number, number + 50, 1000))
        number += 50
        assert number < 2000

    seen = []
    while found := backlog.take(64 << 10, 1.0):
        seen += numbers(found)

    assert seen == list(range(number))
    assert backlog.has_room()
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) <= 1.2 * MIB
    backlog.close()


def test_nobody_else_can_read_a_spool(tmp_path):
    backlog = spool(tmp_path / "spool")
    backlog.add(frames(0, 1))

    modes = {stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "spool").iterdir()}
    assert (modes, stat.S_IMODE((tmp_path / "spool").stat().st_mode)) == ({0o600}, 0o700)
    backlog.close()


def test_a_spool_that_others_may_write_to_is_refused(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)

    with pytest.raises(ImproperlyConfigured, match="chmod 700"):
        spool(folder)


def test_what_the_disk_does_not_take_is_sent_from_memory(tmp_path):
    backlog = spool(tmp_path / "spool")
    (tmp_path / "spool").rename(tmp_path / "gone")

    backlog.add(frames(0, 3))

    assert not backlog.has_room()
    assert numbers(backlog.take(10_000, 1.0)) == [0, 1, 2]
    assert backlog.is_sent()
    backlog.close()
