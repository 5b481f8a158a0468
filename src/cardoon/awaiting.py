"""Coroutines on top of a blocking core: sends that gather in batches, results that are awaited.

One thread each, however many coroutines: a thread per awaited result would run out.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import NamedTuple

from cardoon.exceptions import CardoonError, OperationalError
from cardoon.sender import Call, Handle, Receipt, Report, Sender

_GRACE = 0.25
"""Seconds by which the store's own error, which says more, may come later than it should."""


class _Sending(NamedTuple):
    """A call that somebody waits to hear of."""

    call: Call
    future: Future[Receipt]
    within: float
    deadline: float
    """By the monotonic clock."""


class SendQueue:
    """Publishes what coroutines send, in batches: all that gathered while the last one was stored."""

    def __init__(self, publish: Callable[[Sequence[Call]], Sequence[Receipt]]) -> None:
        self._publish = publish
        self._lock = threading.Lock()  # protects all below
        self._waiting: list[_Sending] = []
        self._storing: list[_Sending] = []
        self._running = False
        self._watcher: asyncio.AbstractEventLoop | None = None
        """The loop that looks after deadlines: one timer for all, as one each would be felt."""
        self._due = 0.0
        """When it does so next."""

    async def send(self, call: Call, *, within: float) -> Receipt:
        """Publish one call; returns its receipt when it is stored.

        Raises `OperationalError` after `within` seconds, those included that it spent behind another
        batch; one that still waits there is then not sent.
        """
        loop = asyncio.get_running_loop()
        future: Future[Receipt] = Future()
        sending = _Sending(call, future, within, time.monotonic() + within)
        with self._lock:
            self._waiting.append(sending)
            start = not self._running
            self._running = True
            watch = self._watcher is not loop or sending.deadline < self._due
            if watch:
                self._watcher, self._due = loop, sending.deadline
        if watch:
            loop.call_later(within + _GRACE, self._watch, loop)
        if start:
            threading.Thread(target=self._publish_all, name="cardoon-send", daemon=True).start()
        return await asyncio.wrap_future(future)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell those whose time is over. What waits yet is never sent; what is being stored may be."""
        now = time.monotonic()
        with self._lock:
            open_ones = [one for one in (*self._storing, *self._waiting) if not one.future.done()]
            for one in open_ones:
                if one.deadline <= now:
                    text = f"publish: not confirmed within {one.within:g} seconds"
                    _answer(one.future, error=OperationalError(text))
            later = [one.deadline for one in open_ones if one.deadline > now]
            self._watcher, self._due = (loop, min(later)) if later else (None, 0.0)
        if later:
            loop.call_later(min(later) - now + _GRACE, self._watch, loop)

    def _publish_all(self) -> None:
        while batch := self._take():
            self._publish_batch(batch)

    def _publish_batch(self, batch: Sequence[_Sending]) -> None:
        try:
            receipts = self._publish([one.call for one in batch])
        except OperationalError as error:
            for one in batch:
                _answer(one.future, error=error)
        except Exception as error:  # noqa: BLE001  # whatever it is, somebody waits to hear of it
            if len(batch) == 1:
                _answer(batch[0].future, error=error)
                return
            for one in batch:  # one caller's mistake must not be another's failure
                self._publish_batch([one])
        else:
            for one, receipt in zip(batch, receipts, strict=True):
                _answer(one.future, receipt)

    def _take(self) -> list[_Sending]:
        with self._lock:
            self._storing = [
                one
                for one in self._waiting
                if not one.future.done() and one.future.set_running_or_notify_cancel()
            ]
            self._waiting = []
            self._running = bool(self._storing)
            return self._storing


def _answer(
    future: Future[Receipt], receipt: Receipt = b"", *, error: Exception | None = None
) -> None:
    """Say how a send ended, unless that has been said: it may have taken too long meanwhile."""
    try:
        if error is None:
            future.set_result(receipt)
        else:
            future.set_exception(error)
    except InvalidStateError:
        return


class ResultQueue(Collection[Handle]):
    """Waits for the results of many coroutines at once."""

    def __init__(self, sender: Callable[[], Sender]) -> None:
        self._sender = sender
        self._lock = threading.Lock()  # protects the two below
        self._waiting: dict[Handle, list[Future[Report]]] = {}
        self._running = False

    async def wait_for(self, handle: Handle) -> Report:
        """The final result of one task."""
        future: Future[Report] = Future()
        with self._lock:
            self._waiting.setdefault(handle, []).append(future)
            start = not self._running
            self._running = True
        if start:
            threading.Thread(target=self._wait_all, name="cardoon-wait", daemon=True).start()
        else:
            # The result may have arrived between the waiter's last look and now.
            await asyncio.to_thread(self._look, handle)
        try:
            return await asyncio.wrap_future(future)
        finally:
            self._drop(handle, future)

    def __iter__(self) -> Iterator[Handle]:
        """The handles that are waited for at this moment; the waiter reads it anew each time."""
        with self._lock:
            return iter(list(self._waiting))

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, handle: object) -> bool:
        return handle in self._waiting

    def _wait_all(self) -> None:
        while True:
            try:
                for report in self._sender().wait(self, timeout=None):
                    self._deliver(report)
            except Exception as error:  # noqa: BLE001  # whatever it is, somebody waits to hear of it
                self._fail(error)
            with self._lock:
                if not self._waiting:
                    self._running = False
                    return

    def _look(self, handle: Handle) -> None:
        try:
            for report in self._sender().wait([handle], timeout=0.0):
                self._deliver(report)
        except Exception as error:  # noqa: BLE001  # as in `_wait_all`
            self._fail(error)

    def _deliver(self, report: Report) -> None:
        with self._lock:
            handles = [handle for handle in self._waiting if handle.task_id == report.task_id]
            futures = [future for handle in handles for future in self._waiting.pop(handle)]
        _settle(futures, lambda future: future.set_result(report))

    def _fail(self, error: Exception) -> None:
        with self._lock:
            futures = [future for several in self._waiting.values() for future in several]
            self._waiting.clear()
        failed = (
            error if isinstance(error, CardoonError) else OperationalError(f"results: {error!r}")
        )
        _settle(futures, lambda future: future.set_exception(failed))

    def _drop(self, handle: Handle, future: Future[Report]) -> None:
        with self._lock:
            rest = [other for other in self._waiting.get(handle, ()) if other is not future]
            if rest:
                self._waiting[handle] = rest
            else:
                self._waiting.pop(handle, None)


def _settle(futures: Sequence[Future[Report]], settle: Callable[[Future[Report]], None]) -> None:
    for future in futures:
        if future.set_running_or_notify_cancel():
            settle(future)
