"""What threads send at the same time is published together, and one's trouble is one's own."""

from __future__ import annotations

import threading
import time

import pytest

from cardoon.exceptions import EncodeError, OperationalError
from cardoon.gathering import GroupCommit
from cardoon.message.serializers import JSON
from cardoon.sender import Call
from tests.unit.stage import PATIENCE


class Interrupted(BaseException):
    """As KeyboardInterrupt: nothing that a publish is expected to raise."""


class Store:
    """Publishes when it is let; a call's name says how that ends."""

    def __init__(self):
        self.batches = []
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.let_go.set()

    def publish(self, calls, timeout):
        self.begun.set()
        assert self.let_go.wait(PATIENCE)
        names = [call.id for call in calls]
        self.batches.append(names)
        for start, error in (
            ("bad", EncodeError),
            ("away", OperationalError),
            ("int", Interrupted),
        ):
            if any(name.startswith(start) for name in names):
                raise error(start)
        return [name.encode() for name in names]


class Senders:
    """Threads that commit at the same time, and what became of each."""

    def __init__(self):
        self.store = Store()
        self.commits = GroupCommit(self.store.publish)
        self.ends = {}
        self.threads = []

    def send(self, *names, timeout=PATIENCE):
        """Commit in this thread."""
        return self.commits.commit(
            [Call("t", name, "q", JSON, b"") for name in names], timeout=timeout
        )

    def start(self, *names):
        begun = threading.Event()

        def run():
            begun.set()
            try:
                self.ends[names[0]] = self.send(*names)
            except BaseException as error:  # noqa: BLE001  # what it is is what is asked
                self.ends[names[0]] = error

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        assert begun.wait(PATIENCE)

    def join(self):
        self.store.let_go.set()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def behind_a_slow_one(self, *names):
        """Send these while another one is being published; returns how each ended.

        Whether a thread waits already cannot be seen from outside, so it is tried until they did.
        """
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.store = Store()
            self.commits = GroupCommit(self.store.publish)
            self.ends, self.threads = {}, []
            self.store.let_go.clear()
            self.start("first")
            assert self.store.begun.wait(PATIENCE)
            for name in names:
                self.start(name)
            time.sleep(0.005)
            self.join()
            if sorted(self.store.batches[1]) == sorted(names):
                return self.ends
        raise AssertionError(f"never published together: {self.store.batches}")


@pytest.fixture
def senders():
    made = Senders()
    yield made
    made.join()


def test_one_that_is_alone_waits_for_nobody(senders):
    assert list(senders.send("a", "b")) == [b"a", b"b"]
    assert senders.store.batches == [["a", "b"]]


def test_those_who_wait_are_published_together(senders):
    ends = senders.behind_a_slow_one("a", "b", "c", "d")

    assert len(senders.store.batches) == 2
    assert {name: list(end) for name, end in ends.items()} == {
        name: [name.encode()] for name in ("first", "a", "b", "c", "d")
    }


def test_everyone_gets_the_digests_of_ones_own_calls(senders):
    senders.store.let_go.clear()
    for number in range(5):
        senders.start(*(f"{number}-{call}" for call in range(number + 1)))
    senders.join()

    for number in range(5):
        wanted = [f"{number}-{call}".encode() for call in range(number + 1)]
        assert list(senders.ends[f"{number}-0"]) == wanted


def test_the_mistake_of_one_is_not_the_failure_of_another(senders):
    ends = senders.behind_a_slow_one("a", "bad", "b")

    assert (list(ends["a"]), list(ends["b"])) == ([b"a"], [b"b"])
    assert isinstance(ends["bad"], EncodeError)
    # What was tried together is tried apart, each once.
    assert sorted(senders.store.batches[2:]) == [["a"], ["b"], ["bad"]]


def test_a_store_that_is_away_is_asked_once_for_all(senders):
    ends = senders.behind_a_slow_one("a", "away", "b")

    assert [type(ends[name]) for name in ("a", "away", "b")] == [OperationalError] * 3
    assert len(senders.store.batches) == 2
    assert list(senders.send("later")) == [b"later"]


def test_a_leader_that_is_interrupted_leaves_nobody_waiting(senders):
    ends = senders.behind_a_slow_one("int", "a", "b")

    kinds = sorted(type(ends[name]).__name__ for name in ("int", "a", "b"))
    assert kinds == ["Interrupted", "OperationalError", "OperationalError"]
    assert list(senders.send("later")) == [b"later"]


def test_who_leads_next_is_not_harmed_by_the_end_of_the_last(senders):
    senders.store.let_go.clear()
    senders.start("int")
    assert senders.store.begun.wait(PATIENCE)
    senders.start("a")
    senders.join()

    assert isinstance(senders.ends["int"], Interrupted)
    # Whether or not it waited at that moment, it was published or told why not.
    assert isinstance(senders.ends["a"], OperationalError) or list(senders.ends["a"]) == [b"a"]
    assert list(senders.send("later")) == [b"later"]


def test_one_that_was_not_published_in_time_is_not_published_later(senders):
    senders.store.let_go.clear()
    senders.start("slow")
    assert senders.store.begun.wait(PATIENCE)

    with pytest.raises(OperationalError, match=r"not confirmed within 0.02 seconds"):
        senders.send("late", timeout=0.02)
    senders.join()
    senders.send("next")

    assert senders.store.batches == [["slow"], ["next"]]


def test_the_time_that_is_left_is_passed_on():
    told = []
    commits = GroupCommit(lambda calls, timeout: told.append(timeout) or [b"" for _ in calls])

    commits.commit([Call("t", "a", "q", JSON, b"")], timeout=3)

    assert told == [3]


def test_many_threads_lose_nothing(senders):
    for number in range(40):
        senders.start(f"t{number}")
    senders.join()

    assert {name: list(end) for name, end in senders.ends.items()} == {
        f"t{number}": [f"t{number}".encode()] for number in range(40)
    }
    published = [name for batch in senders.store.batches for name in batch]
    assert sorted(published) == sorted(senders.ends)
