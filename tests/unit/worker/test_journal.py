"""What task processes write down of how jobs ended, and what of it is believed."""

from __future__ import annotations

import os

import pytest

from cardoon.worker import journal
from cardoon.worker.ipc import FrameType, pack_frame
from cardoon.worker.journal import MAX_OUTCOME, Journal, Writer
from cardoon.worker.pool import Succeeded

TICKET, OTHER = "11" * 16, "22" * 16


def outcome(body=b"5", **head):
    return pack_frame(
        FrameType.OUTCOME, {"key": 1, "runtime": 0.1, "kind": "succeeded", **head}, body
    )


def key(ticket):
    return bytes.fromhex(ticket)


@pytest.fixture
def kept(tmp_path):
    return Journal(tmp_path, "one")


@pytest.fixture
def writer(kept):
    pages = kept.lend()
    yield Writer(*pages.files)
    pages.give_back()


def test_what_a_process_wrote_is_read_by_its_ticket(kept, writer):
    writer.write(TICKET, outcome(b"5"))
    writer.write(OTHER, outcome(b"6"))

    assert kept.read([key(TICKET)]) == {key(TICKET): Succeeded(b"5")}
    assert kept.read([key(TICKET), key(OTHER)])[key(OTHER)] == Succeeded(b"6")
    assert kept.read([bytes(16)]) == {}


def test_what_a_process_says_twice_of_a_job_counts_once(kept, writer):
    writer.write(TICKET, outcome(b"first"))
    writer.write(TICKET, outcome(b"second"))

    assert kept.read([key(TICKET)]) == {key(TICKET): Succeeded(b"first")}


def test_two_processes_write_into_files_of_their_own(kept, tmp_path):
    first, second = kept.lend(), kept.lend()
    Writer(*first.files).write(TICKET, outcome())
    Writer(*second.files).write(OTHER, outcome())

    assert len(list(tmp_path.iterdir())) == 4
    assert len(kept.read([key(TICKET), key(OTHER)])) == 2
    first.give_back()
    kept.lend().give_back()
    assert len(list(tmp_path.iterdir())) == 4, "the next process goes on where a dead one ended"
    second.give_back()


@pytest.mark.parametrize("cut", [1, 10, 19, 20, 30])
def test_half_a_record_counts_for_nothing_and_hides_nothing_behind_it(kept, tmp_path, cut):
    pages = kept.lend()
    Writer(*pages.files).write(OTHER, outcome())
    whole = os.fstat(pages.files[0]).st_size
    Writer(*pages.files).write(TICKET, outcome())
    os.ftruncate(pages.files[0], whole + cut)
    pages.give_back()
    assert kept.read([key(TICKET), key(OTHER)]).keys() == {key(OTHER)}

    pages = kept.lend()
    Writer(*pages.files).write(TICKET, outcome())

    assert kept.read([key(TICKET), key(OTHER)]).keys() == {key(TICKET), key(OTHER)}
    pages.give_back()


@pytest.mark.parametrize(
    "said",
    [
        b"garbage",
        b"",
        outcome(kind="rich"),
        outcome(kind="unreadable", reason="because"),
        outcome() + outcome(),
        outcome()[:-1],
        pack_frame(FrameType.SEND, {"n": 1}),
        pack_frame(FrameType.OUTCOME, {}),
    ],
)
def test_what_makes_no_sense_is_no_outcome(kept, writer, said):
    writer.write(TICKET, said)
    writer.write(OTHER, outcome())

    assert kept.read([key(TICKET), key(OTHER)]) == {key(OTHER): Succeeded(b"5")}


def test_files_stay_small_and_keep_what_was_written_last(kept, writer, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "MAX_BYTES", 2000)
    tickets = [f"{number:032x}" for number in range(500)]

    for ticket in tickets:
        writer.write(ticket, outcome())
        assert key(ticket) in kept.read([key(ticket)])

    assert all(path.stat().st_size < 2200 for path in tmp_path.iterdir())
    assert len(kept.read([key(one) for one in tickets[-15:]])) == 15


def test_the_next_process_goes_on_in_the_file_that_is_not_full(kept, monkeypatch):
    monkeypatch.setattr(journal, "MAX_BYTES", 100)
    pages = kept.lend()
    Writer(*pages.files).write(TICKET, outcome(bytes(100)))
    pages.give_back()

    pages = kept.lend()
    Writer(*pages.files).write(OTHER, outcome())

    assert os.fstat(pages.files[1]).st_size > 0
    assert len(kept.read([key(TICKET), key(OTHER)])) == 2
    pages.give_back()


def test_a_large_outcome_is_not_written_down(kept, writer, tmp_path):
    writer.write(TICKET, outcome(bytes(MAX_OUTCOME)))

    assert all(path.stat().st_size == 0 for path in tmp_path.iterdir())


def test_a_full_disk_ends_the_journal_of_a_process_and_nothing_else():
    full = os.open("/dev/full", os.O_WRONLY)
    writer = Writer(full, full)

    writer.write(TICKET, outcome())
    writer.write(TICKET, outcome())

    os.close(full)


def test_a_folder_that_is_gone_means_no_journal(tmp_path, caplog):
    gone = Journal(tmp_path / "gone", "one")

    assert gone.lend() is None
    assert gone.read([key(TICKET)]) == {}
    assert "outcome journal" in caplog.text


def test_what_a_process_makes_of_its_file_is_not_read_without_end(kept, tmp_path, monkeypatch):
    pages = kept.lend()
    os.ftruncate(pages.files[0], 1 << 40)
    pages.give_back()

    kept.lend().give_back()

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1 << 20
