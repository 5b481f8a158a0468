"""Sends that gather: what threads send at one time is signed and stored together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from cardoon.exceptions import CardoonError, OperationalError
from cardoon.sender import Call, Receipt


class GroupCommit:
    """Gathers what threads send at the same time into one batch: one signature, one transaction.

    Whoever finds nobody publishing leads: it publishes its own, and then hands the lead to the first of those
    that have come meanwhile, who publishes for all of them. Nothing is delayed on purpose, so a lone sender
    pays nothing (message-security 7.2).
    """

    def __init__(self, publish: Callable[[Sequence[Call], float], Sequence[Receipt]]) -> None:
        self._publish = publish
        self._lock = threading.Lock()  # protects the two below
        self._waiting: list[_Batch] = []
        self._led = False

    def commit(self, calls: Sequence[Call], *, timeout: float) -> Sequence[Receipt]:
        """Publish these calls, alone or with others; return their receipts."""
        batch = self._join(calls)
        if batch is None:
            try:
                return self._publish(calls, timeout)
            finally:
                self._hand_on(())
        self._wait(batch, timeout)
        if batch.leads:
            self._lead(timeout)
        if batch.error is not None:
            raise batch.error
        return batch.digests or ()

    def _join(self, calls: Sequence[Call]) -> _Batch | None:
        """Stand in line; None for whoever finds nobody publishing, and so leads."""
        with self._lock:
            if not self._led:
                self._led = True
                return None
            batch = _Batch(calls)
            self._waiting.append(batch)
            return batch

    def _wait(self, batch: _Batch, timeout: float) -> None:
        """Until it was published, or is to lead. An interrupted waiter must not keep the lead."""
        try:
            woken = batch.woken.wait(timeout)
        except BaseException:
            with self._lock:
                self._withdraw(batch)
            if batch.leads:
                self._hand_on([])
            raise
        if woken:
            return
        with self._lock:
            if batch.leads:
                return
            self._withdraw(batch)
        if not batch.woken.is_set():
            raise OperationalError(f"publish: not confirmed within {timeout:g} seconds")

    def _withdraw(self, batch: _Batch) -> None:
        if batch in self._waiting:
            self._waiting.remove(batch)

    def _lead(self, timeout: float) -> None:
        batches: list[_Batch] = []
        try:
            with self._lock:
                batches, self._waiting = self._waiting, []
            self._committogether(batches, timeout)
        finally:
            for one in batches:
                if one.digests is None and one.error is None:  # the leader raises what stopped it
                    one.error = OperationalError("publish: the thread that did it was interrupted")
            self._hand_on(batches)

    def _hand_on(self, batches: Sequence[_Batch]) -> None:
        with self._lock:
            heirs = self._waiting[:1]
            self._led = bool(heirs)
            for heir in heirs:
                heir.leads = True
        for batch in (*batches, *heirs):
            batch.woken.set()

    def _committogether(self, batches: Sequence[_Batch], timeout: float) -> None:
        try:
            digests = iter(self._publish(together([one.calls for one in batches]), timeout))
        except CardoonError as error:
            if len(batches) > 1 and not isinstance(error, OperationalError):
                for one in batches:  # one caller's mistake must not be another's failure
                    self._committogether([one], timeout)
                return
            for one in batches:
                one.error = error
        else:
            for one in batches:
                one.digests = [next(digests) for _ in one.calls]


def together(sent: Sequence[Sequence[Call]]) -> list[Call]:
    """Calls that were sent apart, and that name each other by their places, in one list."""
    calls: list[Call] = []
    for some in sent:
        start = len(calls)
        calls += (
            call._replace(after=tuple(start + place for place in call.after))
            if start and call.after
            else call
            for call in some
        )
    return calls


class _Batch:
    """What one caller wants published."""

    __slots__ = ("calls", "digests", "error", "leads", "woken")

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.digests: Sequence[Receipt] | None = None
        self.error: CardoonError | None = None
        self.leads = False
        self.woken = threading.Event()
