"""Beats of one stage, which can be killed at any step of their way to the store."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from cardoon.beat.rounds import Rounds
from cardoon.beat.sending import make_entry_calls
from cardoon.beat.service import make_rounds
from cardoon.beat.sources import TimetableSource
from cardoon.beat.ticks import Name
from cardoon.brokers.memory import MemoryBroker
from cardoon.clock import Clock
from cardoon.deployment import Deployment
from cardoon.producer import Producer
from tests.unit.stage import Stage, succeeded


class Killed(BaseException):
    """The process of a beat is killed."""


class Ahead:
    """A clock that is some seconds ahead of another one."""

    def __init__(self, clock: Clock, by: float) -> None:
        self._clock, self._by = clock, by

    def now(self) -> float:
        return self._clock.now() + self._by

    def monotonic(self) -> float:
        return self._clock.monotonic()


class Link(MemoryBroker):
    """A beat's own way to a broker in memory, whose state it shares.

    `strike` is called before and after each step with its name, and may raise.
    """

    def __init__(self, broker: MemoryBroker, strike: Callable[[str], None]) -> None:
        self.__dict__ = broker.__dict__
        broker.__dict__.setdefault("strikes", {})[id(self)] = strike

    def _around(self, name: str, step: Callable[[], Any]) -> Any:
        strike = self.__dict__["strikes"][id(self)]
        strike(f"before {name}")
        answer = step()
        strike(f"after {name}")
        return answer

    def publish(self, outgoing: Any, *, timeout: float) -> Any:
        return self._around(
            "publish", lambda: MemoryBroker.publish(self, outgoing, timeout=timeout)
        )

    def records(self, kind: str) -> Any:
        return self._around("records", lambda: MemoryBroker.records(self, kind))

    def put_record(self, kind: str, name: str, frame: bytes, *, revision: int) -> bool:
        def put() -> bool:
            return MemoryBroker.put_record(self, kind, name, frame, revision=revision)

        written: bool = self._around("put", put)
        return written


class Beats:
    """Several beats, and one worker that runs what they send."""

    def __init__(self, stage: Stage, count: int, *, seed: int = 0, deadliness: float = 0.0) -> None:
        self.stage = stage
        self.random = random.Random(seed)
        self.deadliness = deadliness
        self.deaths: list[str] = []
        self.ran: list[str] = []
        """The ids of the tasks that were carried out, in order."""
        self.clocks: list[Clock] = [stage.clock] * count
        self.roles = ["beat"] * count
        self.sees_copies = True
        """Whether the broker turns away copies of what has ended; otherwise workers do."""
        self.rounds: list[Rounds | None] = [None] * count
        for number in range(count):
            self.start(number)

    def start(self, number: int) -> Rounds:
        """Another process of a beat."""
        link = Link(self.stage.broker, self._strike)
        clock = self.clocks[number]
        deployment = Deployment(self.stage.settings, clock=clock, role=self.roles[number])
        producer = Producer(deployment, stores=(link, None))
        source = TimetableSource(lambda: self.stage.app.settings.beat_schedule)
        make_calls = partial(make_entry_calls, self.stage.app)
        made = make_rounds(producer, [source], make_calls, recording=link)
        made._terms = made._terms._replace(sees_copies=self.sees_copies)
        self.rounds[number] = made
        return made

    def step(self, number: int) -> None:
        """A round of one beat; if it dies of it, another one begins with its next round."""
        rounds = self.rounds[number] or self.start(number)
        try:
            rounds.step()
        except Killed as killed:
            self.deaths.append(str(killed))
            self.rounds[number] = None

    def work(self) -> None:
        """The worker runs what is there."""
        for job in self.stage.consume():
            self.ran.append(job.id)
            self.stage.settler.ended(job.key, succeeded())
        self.stage.flush()

    def _strike(self, step: str) -> None:
        if self.random.random() < self.deadliness:
            raise Killed(step)


def expected_ids(stage: Stage, entry: str, period: float, count: int, start: float) -> list[str]:
    """The ids of an entry's first ticks."""
    task = stage.app.settings.beat_schedule[entry].task
    begin = datetime.fromtimestamp(start, UTC)
    return [
        Name(
            stage.settings.security_domain, task, entry, begin + timedelta(seconds=period * n)
        ).task_id
        for n in range(1, count + 1)
    ]


def every(period: float, **wishes: Any) -> dict[str, Any]:
    """A schedule with one entry."""
    return {"e": {"task": "shop.pay", "schedule": period, "catch_up": "all", **wishes}}


def alive(beats: Beats) -> Iterator[Rounds]:
    """Those that run."""
    return (one for one in beats.rounds if one is not None)
