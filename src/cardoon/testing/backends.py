"""What every ResultBackend driver must do, as a suite that its author runs.

    class TestMyBackend(BackendSuite):
        def make(self, clock):
            return MyBackend("localhost", clock=clock)

Each test gets a backend of its own, with an empty store. See `cardoon.backend` for the contract.
"""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.backend import ResultBackend, SealedResult
from cardoon.records import Recording
from cardoon.testing.clock import FakeClock
from cardoon.testing.recording import RecordingTests

LONG = 20.0
"""Seconds in real time after which a test gives up on something that should happen at once."""


def result(
    task_id: str, frame: bytes = b"frame", *, final: bool = True, expires_at: float | None = None
) -> SealedResult:
    """A result, final unless it says otherwise."""
    return SealedResult(task_id, frame, final, expires_at)


class BackendSuite(RecordingTests):
    """The contract of `ResultBackend`, and of the optional powers that the driver has."""

    def make(self, clock: FakeClock) -> ResultBackend:
        """A result backend with an empty store that lives by this clock."""
        raise NotImplementedError

    def pass_time(self, clock: FakeClock, seconds: float) -> None:
        """Let time pass for the driver; one that asks a server for the time has its own way."""
        clock.advance(seconds)

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def backend(self, clock: FakeClock) -> Iterator[ResultBackend]:
        backend = self.make(clock)
        yield backend
        backend.close()

    @pytest.fixture
    def recording(self, backend: ResultBackend) -> Recording:
        if not isinstance(backend, Recording):
            pytest.skip("this driver is not Recording")
        return backend

    def test_a_stored_result_is_loaded_whole(
        self, backend: ResultBackend, clock: FakeClock
    ) -> None:
        stored = result("☃ ' \" \\", bytes(range(256)), expires_at=clock.now() + 60)
        backend.store([stored])

        assert dict(backend.load([stored.task_id])) == {stored.task_id: stored}

    def test_an_empty_frame_and_a_large_one_are_loaded_whole(self, backend: ResultBackend) -> None:
        stored = [result("empty", b""), result("large", bytes(range(256)) * 4096)]
        backend.store(stored)

        assert dict(backend.load(["empty", "large"])) == {each.task_id: each for each in stored}

    def test_only_results_asked_for_are_loaded(self, backend: ResultBackend) -> None:
        backend.store([result("a"), result("b")])

        assert set(backend.load(["b", "unknown"])) == {"b"}
        assert backend.load([]) == {}

    def test_storing_nothing_is_nothing(self, backend: ResultBackend) -> None:
        backend.store([])

        assert backend.load(["a"]) == {}

    def test_the_first_final_result_stays(self, backend: ResultBackend) -> None:
        backend.store([result("a", b"first"), result("a", b"second")])
        backend.store([result("a", b"third"), result("a", b"late", final=False)])

        assert backend.load(["a"])["a"].frame == b"first"

    def test_a_state_is_replaced_until_the_final_one(self, backend: ResultBackend) -> None:
        seen = []
        for frame, final in ((b"started", False), (b"half", False), (b"done", True)):
            backend.store([result("a", frame, final=final)])
            seen.append(backend.load(["a"])["a"])

        assert [(each.frame, each.final) for each in seen] == [
            (b"started", False),
            (b"half", False),
            (b"done", True),
        ]

    def test_several_states_of_a_task_in_one_call_end_with_the_final_one(
        self, backend: ResultBackend
    ) -> None:
        backend.store([result("a", b"started", final=False), result("a", b"done")])
        backend.store([result("b", b"one", final=False), result("b", b"two", final=False)])

        assert backend.load(["a"])["a"].frame == b"done"
        assert backend.load(["b"])["b"].frame == b"two"

    def test_an_expired_result_is_gone(self, backend: ResultBackend, clock: FakeClock) -> None:
        backend.store([result("a", expires_at=clock.now() + 5), result("b")])

        self.pass_time(clock, 5)

        assert set(backend.load(["a", "b"])) == {"b"}

    def test_an_expired_result_gives_way(self, backend: ResultBackend, clock: FakeClock) -> None:
        backend.store([result("a", b"old", expires_at=clock.now() + 5)])
        self.pass_time(clock, 5)

        backend.store([result("a", b"new")])

        assert backend.load(["a"])["a"].frame == b"new"

    def test_a_forgotten_result_is_gone(self, backend: ResultBackend) -> None:
        backend.store([result("a"), result("b"), result("c")])

        backend.forget(["a", "c", "unknown"])
        backend.forget([])

        assert set(backend.load(["a", "b", "c"])) == {"b"}

    def test_waiting_yields_what_is_there(self, backend: ResultBackend) -> None:
        stored = [result(f"t{number}") for number in range(300)]
        backend.store([*stored, result("other")])

        arrived = list(backend.wait([each.task_id for each in stored], timeout=LONG))

        assert sorted(arrived) == sorted(stored)

    def test_waiting_yields_each_result_as_it_arrives(self, backend: ResultBackend) -> None:
        backend.store([result("a")])
        arriving = backend.wait(["a", "b", "c"], timeout=LONG)

        first = next(arriving)
        backend.store([result("c")])
        second = next(arriving)
        backend.store([result("b")])
        rest = list(arriving)

        assert [first.task_id, second.task_id] == ["a", "c"]
        assert [each.task_id for each in rest] == ["b"]

    def test_waiting_goes_on_until_another_thread_stores(self, backend: ResultBackend) -> None:
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(lambda: list(backend.wait(["a"], timeout=None)))
            backend.store([result("other")])
            backend.store([result("a")])

            assert [each.task_id for each in waiting.result(LONG)] == ["a"]

    def test_waiting_is_for_final_results(self, backend: ResultBackend) -> None:
        backend.store([result("a", b"started", final=False)])
        waiting = backend.wait(["a"], timeout=LONG)
        backend.store([result("a", b"half", final=False)])
        backend.store([result("a", b"done")])

        assert [each.frame for each in waiting] == [b"done"]

    def test_waiting_ends_after_its_timeout(self, backend: ResultBackend) -> None:
        backend.store([result("a"), result("b", final=False)])

        assert [each.task_id for each in backend.wait(["a", "b"], timeout=0.01)] == ["a"]
        assert list(backend.wait(["b"], timeout=0)) == []

    def test_waiting_for_nothing_ends_at_once(self, backend: ResultBackend) -> None:
        assert list(backend.wait([], timeout=None)) == []

    def test_two_may_wait_for_one_result(self, backend: ResultBackend) -> None:
        with ThreadPoolExecutor() as threads:
            waiting = [
                threads.submit(lambda: list(backend.wait(["a"], timeout=LONG))) for _ in range(2)
            ]
            backend.store([result("a")])

            assert [len(each.result(LONG)) for each in waiting] == [1, 1]

    def test_closing_twice_is_closing_once(self, backend: ResultBackend) -> None:
        backend.store([result("a")])

        backend.close()
        backend.close()
