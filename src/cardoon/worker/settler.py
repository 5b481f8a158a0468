"""The settler: the one thread that writes what happened: results, settlements, sends of tasks.

It takes all that has gathered since its last commit, and has it signed as one batch and stored in one
transaction. Nothing is delayed on purpose: when one job ends alone, it is written at once.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from cardoon.backend import SealedResult
from cardoon.broker import Completion, Requeue
from cardoon.clock import Clock
from cardoon.exceptions import CardoonError, IdentityError, OperationalError
from cardoon.gathering import together
from cardoon.sender import Call, Receipt
from cardoon.worker.concluding import Conclusion, ResultState, conclude, dead
from cardoon.worker.held import Held, HeldTable
from cardoon.worker.ledger import Ledger
from cardoon.worker.notices import Notices, Watcher, tell_ended
from cardoon.worker.pool import Crashed, Ending, Failed, Killed, Retried, TimedOut
from cardoon.worker.vitals import Deed, Loop, Vitals

logger = logging.getLogger(__name__)

_MAX_BATCH = 512
_RETRY_DELAYS = (0.05, 0.1, 0.25, 0.5, 1.0)


class Ended(NamedTuple):
    """A job has ended."""

    held: Held
    ending: Ending


class Concluded(NamedTuple):
    """A message ends without having run."""

    held: Held
    conclusion: Conclusion


class Bare(NamedTuple):
    """A delivery ends that was never held: refused, or not due."""

    completion: Completion


class State(NamedTuple):
    """A task says how far it is."""

    held: Held
    result: ResultState


class Send(NamedTuple):
    """A task wants to send calls."""

    calls: Sequence[Call]
    deadline: float
    """By the monotonic clock."""
    done: Callable[[Sequence[Receipt] | CardoonError], None]


R = TypeVar("R")
Item = Ended | Concluded | Bare | State | Send


class _ToWrite(NamedTuple):
    """What was signed of some outcomes."""

    states: list[SealedResult]
    loose: list[Completion]
    """Of messages that were acknowledged before they ran."""
    fenced: list[Completion]


class Settler:
    """Collects items from every thread, and writes them in order."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        held: HeldTable,
        clock: Clock,
        notices: Notices | None = None,
        watchers: Sequence[Watcher] = (),
        rest: Callable[[float], object] = time.sleep,
        vitals: Vitals | None = None,
    ) -> None:
        self._ledger = ledger
        self._held = held
        self._clock = clock
        self._notices = notices
        self._watchers = watchers
        self._rest = rest
        """Waits between two tries, for so many seconds."""
        self.failing_since: float | None = None
        """By the monotonic clock, since when nothing could be written; None while all goes well."""
        self._vitals = vitals or Vitals(clock)
        self._changed = threading.Condition()  # protects the two below
        self._items: list[Item] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="settler", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, *items: Item) -> None:
        """Have these written; returns at once."""
        if not items:
            return  # nor is a thread woken for nothing
        with self._changed:
            if not self._items:  # otherwise nobody waits
                self._changed.notify()
            self._items.extend(items)

    def ended(self, key: int, ending: Ending) -> None:
        """A pool says how a job ended."""
        held = self._held.get(key)
        if held is not None:
            self.put(Ended(held, ending))

    def write_now(self) -> None:
        """Write all that has gathered in this thread, where none was started; raises what fails."""
        while self._items:
            batch, self._items = self._items[:_MAX_BATCH], self._items[_MAX_BATCH:]
            self._write(batch)

    @property
    def waiting(self) -> int:
        """How many items wait to be written."""
        return len(self._items)

    def stop(self, timeout: float) -> bool:
        """Write what is left, and end; whether that was done within `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._items and not self._stopping:
                    self._vitals.rest(Loop.SETTLER)
                    self._changed.wait()
                if not self._items:
                    return
                self._vitals.turn(Loop.SETTLER)
                batch, self._items = self._items[:_MAX_BATCH], self._items[_MAX_BATCH:]
            try:
                self._write(batch)
            except (
                Exception
            ):  # the loop must outlive any one batch; its leases bring the tasks back
                logger.exception("%d outcomes could not be written", len(batch))
                self._let_go(batch)

    def _write(self, batch: Sequence[Item]) -> None:
        now = self._clock.now()
        told: list[tuple[Held, ResultState]] = []
        endings: list[tuple[Held, Conclusion]] = []
        bare: list[Completion] = []
        sends: list[Send] = []
        for item in batch:
            match item:
                case Ended(held, ending):
                    endings.append((held, self._conclude(held, ending, now)))
                case Concluded(held, conclusion):
                    endings.append((held, conclusion))
                case Bare(completion):
                    bare.append(completion)
                case State(held, result):
                    told.append((held, result))
                case Send():
                    sends.append(item)
        if sends:
            self._send(sends)
        self._write_endings(told, endings, bare)

    def _conclude(self, held: Held, ending: Ending, now: float) -> Conclusion:
        if held.revoked is not None and isinstance(ending, Failed | Crashed | TimedOut):
            ending = Killed(held.revoked)  # however it took its being stopped
        if isinstance(ending, Failed | Retried):
            held.error = ending.error
        return conclude(held, ending, now=now)

    def _send(self, sends: Sequence[Send]) -> None:
        """Publish what tasks send, together; if that fails each alone, so that none pays for another."""
        calls = together([send.calls for send in sends])
        left = min(send.deadline for send in sends) - self._clock.monotonic()
        try:
            digests = iter(self._ledger.publish(calls, timeout=max(0.05, left)))
        except CardoonError as error:
            if len(sends) == 1:
                sends[0].done(error)
                return
            for send in sends:
                self._send([send])
        else:
            for send in sends:
                send.done([next(digests) for _ in send.calls])

    def _write_endings(
        self,
        told: Sequence[tuple[Held, ResultState]],
        endings: Sequence[tuple[Held, Conclusion]],
        bare: Sequence[Completion],
    ) -> None:
        """Write them together; if that cannot be, each by itself, so that none pays for another."""
        try:
            self._write_together(told, endings, bare)
        except (OperationalError, IdentityError):
            raise
        except CardoonError as error:  # what one of them says cannot be signed
            if len(told) + len(endings) > 1:
                self._write_together((), (), bare)
                for state in told:
                    self._write_endings([state], (), ())
                for ending in endings:
                    self._write_endings((), [ending], ())
                return
            logger.error("what a task says cannot be signed: %s", error)  # noqa: TRY400
            failures = [(held, dead(held, error, "it cannot be signed")) for held, _ in endings]
            self._write_together((), failures, bare)

    def _write_together(
        self,
        told: Sequence[tuple[Held, ResultState]],
        endings: Sequence[tuple[Held, Conclusion]],
        bare: Sequence[Completion],
    ) -> None:
        ledger = self._ledger
        for held, _ in endings:
            held.is_ending = True
        states, loose, fenced = self._insist(lambda: self._sign(told, endings))
        # What goes on may be received again as soon as it is written, by another thread.
        going = [end for end in endings if _goes_on(end)]
        self._tell_watchers(going)
        for held, conclusion in endings:
            ledger.note_refusal(held, conclusion)
        self._insist(lambda: ledger.store_states(states))
        self._insist(lambda: ledger.write_apart(loose))
        self._insist(lambda: ledger.complete([*bare, *fenced]))
        self._vitals.done(Deed.SETTLEMENT)
        for held, conclusion in endings:
            self._held.remove(held.key)
            ledger.note_end(held, conclusion)
            self._log(held, conclusion)
            if self._notices is not None:
                tell_ended(self._notices, held, conclusion)
        self._tell_watchers([end for end in endings if not _goes_on(end)] if going else endings)

    def _tell_watchers(self, ends: Sequence[tuple[Held, Conclusion]]) -> None:
        for watcher in self._watchers if ends else ():
            watcher.ended(ends)

    def _sign(
        self, told: Sequence[tuple[Held, ResultState]], endings: Sequence[tuple[Held, Conclusion]]
    ) -> _ToWrite:
        ledger = self._ledger
        kept = told if ledger.keeps_results else ()
        wanted = [one.result if self._wants(held, one) else None for held, one in endings]
        ends = [(held, one) for (held, _), one in zip(endings, wanted, strict=True) if one]
        sealed = ledger.seal([*kept, *ends])
        results = iter(sealed[len(kept) :])
        signed = _ToWrite(sealed[: len(kept)], [], [])
        for (held, conclusion), one in zip(endings, wanted, strict=True):
            completion = ledger.completion(held, conclusion, next(results) if one else None)
            (signed.loose if held.settled else signed.fenced).append(completion)
        return signed

    def _wants(self, held: Held, conclusion: Conclusion) -> bool:
        """Whether its result is to be signed: for clients, or for tasks that wait for it."""
        return (conclusion.keep and self._ledger.keeps_results) or held.is_awaited

    def _insist(self, write: Callable[[], R]) -> R:
        """Write, and while that cannot be try again: what tasks have done must not be lost.

        The store may be away, or what signs for us, or a new certificate may be late.
        """
        for attempt in itertools.count():
            try:
                written = write()
            except (OperationalError, IdentityError) as error:
                self._vitals.turn(Loop.SETTLER)
                if self.failing_since is None:
                    self.failing_since = self._clock.monotonic()
                if attempt == 0:
                    logger.warning("outcomes cannot be written, trying again: %s", error)
                with self._changed:
                    if self._stopping and attempt >= len(_RETRY_DELAYS):
                        raise
                self._rest(_RETRY_DELAYS[min(attempt, len(_RETRY_DELAYS) - 1)])
            else:
                self.failing_since = None
                if attempt:
                    logger.warning("outcomes are written again")
                return written
        raise AssertionError  # for the type checker

    def _log(self, held: Held, conclusion: Conclusion) -> None:
        if logger.isEnabledFor(logging.INFO):
            took = self._clock.monotonic() - held.taken_at
            kind = type(conclusion.settlement).__name__
            outcome = conclusion.result.state if conclusion.result is not None else kind
            told = (held.task, held.id, outcome.lower(), took)
            logger.info("task %s[%s] %s in %.4fs", *told, extra=held.log_extra)

    def _let_go(self, batch: Sequence[Item]) -> None:
        for item in batch:
            match item:
                case Ended(held) | Concluded(held):
                    self._held.remove(held.key)
                case Send():
                    item.done(OperationalError("the worker could not write"))
                case Bare() | State():
                    pass


def _goes_on(end: tuple[Held, Conclusion]) -> bool:
    """Whether the task will be received again under its id: put back, or as a message in its place."""
    _, conclusion = end
    return isinstance(conclusion.settlement, Requeue) or bool(conclusion.calls)
