"""What a killed worker held is given back by the next one of its name."""

from __future__ import annotations

import json

import pytest

from cardoon import brokers
from cardoon.broker import Outgoing
from cardoon.testing import FakeClock
from cardoon.worker import leasebook
from cardoon.worker.leasebook import LeaseBook, Left, give_back, read_left, release_unnoted

NAME = "one@host/with:odd*letters"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def broker(clock):
    return brokers.connect("memory://", clock=clock)


def take(broker, *names):
    broker.publish([Outgoing("q", name, b"x") for name in names], timeout=1)
    return broker.receive(["q"], limit=100, lease=30, timeout=0)


def open_book(folder):
    book = LeaseBook.open(folder / "nodes", NAME)
    assert book is not None
    return book


def killed(book):
    """Its file as a `kill -9` leaves it: the lock is free, and nothing was tidied up."""
    book.close()


def test_what_was_held_when_a_worker_was_killed_is_given_back(tmp_path, broker, clock):
    first = open_book(tmp_path)
    deliveries = take(broker, "a", "b", "c")
    first.note(deliveries)
    first.strike(deliveries[:1])
    killed(first)

    second = open_book(tmp_path)

    assert sorted(one.id for one in second.left) == ["b", "c"]
    assert give_back(broker, second) == 2
    assert broker.receive(["q"], limit=9, lease=30, timeout=0) == []
    clock.advance(leasebook.FIRST_PAUSE)
    again = broker.receive(["q"], limit=9, lease=30, timeout=0)
    assert [(one.id, one.crashes, one.attempt) for one in again] == [("b", 1, 2), ("c", 1, 2)]


def test_a_second_crash_has_a_longer_pause(tmp_path, broker, clock):
    for _ in range(2):
        book = open_book(tmp_path)
        give_back(broker, book)
        clock.advance(leasebook.FIRST_PAUSE)
        book.note(take(broker, "a"))
        killed(book)

    give_back(broker, open_book(tmp_path))

    clock.advance(leasebook.LATER_PAUSE - 0.1)
    assert broker.receive(["q"], limit=9, lease=30, timeout=0) == []
    clock.advance(0.1)
    assert len(broker.receive(["q"], limit=9, lease=30, timeout=0)) == 1


def test_what_another_worker_has_by_now_is_left_alone(tmp_path, broker, clock):
    book = open_book(tmp_path)
    book.note(take(broker, "a"))
    killed(book)
    clock.advance(31)
    broker.maintain()
    clock.advance(2)
    (held,) = broker.receive(["q"], limit=9, lease=30, timeout=0)

    assert give_back(broker, open_book(tmp_path)) == 0
    assert list(broker.extend([held], lease=30)) == [held]


def test_nobody_else_may_have_the_book_of_a_worker_that_lives(tmp_path, caplog):
    book = open_book(tmp_path)

    assert LeaseBook.open(tmp_path / "nodes", NAME) is None
    assert "another worker here is called" in caplog.text
    assert LeaseBook.open(tmp_path / "nodes", "two@host") is not None
    book.close()
    assert LeaseBook.open(tmp_path / "nodes", NAME) is not None


def test_what_could_not_be_given_back_stays_in_the_book(tmp_path, broker):
    first = open_book(tmp_path)
    first.note(take(broker, "a"))
    killed(first)

    second = open_book(tmp_path)
    second.note(take(broker, "b"))
    killed(second)  # before the broker answered

    assert sorted(one.id for one in open_book(tmp_path).left) == ["a", "b"]


class Recalled:
    """A broker on a server: it knows what each claimant took last."""

    def __init__(self, broker, claimant):
        self.broker, self.claimant, self.taken = broker, claimant, {}

    def recall(self, claimant):
        return self.taken.get(claimant, [])

    def __getattr__(self, name):
        return getattr(self.broker, name)


def test_what_a_claim_brought_that_was_not_noted_goes_back_unharmed(tmp_path, broker):
    first = open_book(tmp_path)
    noted, unnoted = take(broker, "noted", "unnoted")
    server = Recalled(broker, "second")
    server.taken["first"] = [noted, unnoted]
    first.begin("first")
    first.note([noted])
    killed(first)

    second = open_book(tmp_path)

    assert release_unnoted(server, second) == 1
    assert [(one.id, one.crashes) for one in take(broker)] == [("unnoted", 0)]
    assert second.claimant == "second"
    assert [one.id for one in second.left] == ["noted"]


def test_the_name_of_claims_outlives_a_book_that_is_written_anew(tmp_path, broker, monkeypatch):
    monkeypatch.setattr(leasebook, "MAX_BYTES", 500)
    book = open_book(tmp_path)
    book.begin("mine")
    for number in range(50):
        deliveries = take(broker, f"m{number}")
        book.note(deliveries)
        book.strike(deliveries)
    killed(book)

    assert open_book(tmp_path).claimant == "mine"


def test_a_long_life_does_not_make_a_long_book(tmp_path, broker, monkeypatch):
    monkeypatch.setattr(leasebook, "MAX_BYTES", 2000)
    book = open_book(tmp_path)
    (kept,) = take(broker, "kept")
    book.note([kept])
    for number in range(200):
        deliveries = take(broker, f"m{number}")
        book.note(deliveries)
        book.strike(deliveries)

    (path,) = (tmp_path / "nodes").glob("*.leases")
    assert path.stat().st_size < 3000
    assert [one.id for one in read_left(path).deliveries] == ["kept"]


@pytest.mark.parametrize(
    "cut",
    [
        b"[1, [[2]]]\n",
        b'[1, "x"]\n',
        b"\xff\n",
        b'[1, [[3, 1, "q", "c", 0',
        b'[1, [[3, 1, "q", "c", 0, 0, 0, 5]]]\nfram',
        b'[1, [[3, 1, "q", "c", 0, 0, 0, -1]]]\n',
        b'[1, [[3, 1, "q", "c", 0, 0, 0, 1e9]]]\n',
        b'[1, [[3, 1, "q", "c", 0]]]\n',
        b"[0, [[[], 1]]]\n",
        b"[" * 100_000,
    ],
)
def test_a_line_that_was_cut_off_or_is_nonsense_counts_for_nothing(tmp_path, cut):
    path = tmp_path / "book"
    path.write_bytes(json.dumps([1, [[1, 1, "q", "a", 0, 0, 0, 3]]]).encode() + b"\nabc" + cut)

    assert [(one.id, one.frame) for one in read_left(path).deliveries] == [("a", b"abc")]
    assert read_left(tmp_path / "none") == Left([])


def test_a_book_that_cannot_be_written_stops_nobody(tmp_path, broker, caplog):
    (tmp_path / "nodes").write_text("in the way")

    assert LeaseBook.open(tmp_path / "nodes", NAME) is None
    assert "lease book" in caplog.text


def test_a_book_whose_folder_is_gone_ends_quietly(tmp_path, broker, caplog, monkeypatch):
    monkeypatch.setattr(leasebook, "MAX_BYTES", 0)
    book = open_book(tmp_path)
    book.note(take(broker, "a"))
    for path in (tmp_path / "nodes").iterdir():
        path.unlink()
    (tmp_path / "nodes").rmdir()

    book.note(take(broker, "b"))
    book.strike(take(broker, "c"))

    assert "leases of a killed worker end by themselves" in caplog.text
    book.close()


def test_a_small_message_is_noted_whole_and_of_a_large_one_the_name(tmp_path, broker):
    frames = {"small": b"x" * leasebook.MAX_FRAME, "large": b"x" * (leasebook.MAX_FRAME + 1)}
    broker.publish([Outgoing("q", name, frame, 3) for name, frame in frames.items()], timeout=1)
    book = open_book(tmp_path)
    deliveries = broker.receive(["q"], limit=9, lease=30, timeout=0)
    book.note(deliveries)
    killed(book)

    left = {one.id: one for one in open_book(tmp_path).left}

    assert left["small"] == next(one for one in deliveries if one.id == "small")
    assert left["large"].frame == b""


def test_a_ticket_is_for_one_delivery_of_one_message_to_a_worker_of_one_name(tmp_path, broker):
    book = open_book(tmp_path)
    (delivery,) = take(broker, "a")
    ticket = book.ticket(delivery)
    others = [
        book.ticket(delivery._replace(attempt=2)),
        book.ticket(delivery._replace(receipt=12)),
        book.ticket(delivery._replace(frame=b"y")),
        LeaseBook.open(tmp_path / "nodes", "two@host").ticket(delivery),
    ]
    killed(book)

    assert open_book(tmp_path).ticket(delivery) == ticket
    assert len({ticket, *others}) == 5


def test_nobody_else_may_read_what_lies_beside_the_book(tmp_path, broker):
    book = open_book(tmp_path)
    book.note(take(broker, "a"))
    pages = book.journal.lend()

    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "nodes").iterdir()}

    assert modes == {0o600}
    pages.give_back()


def test_the_journal_of_a_worker_that_holds_nothing_ends_with_it(tmp_path, broker):
    book = open_book(tmp_path)
    deliveries = take(broker, "a")
    book.note(deliveries)
    book.journal.lend().give_back()
    book.close()
    assert len(list((tmp_path / "nodes").glob("*.outcomes"))) == 2, "it held something"

    book = open_book(tmp_path)
    give_back(broker, book)
    book.close()

    assert list((tmp_path / "nodes").glob("*.outcomes")) == []
