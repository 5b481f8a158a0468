"""A counter: a stage whose worker has a clerk, and a client that asks it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cardoon.message.claims import parse_claims
from cardoon.message.envelope import parse_frame
from cardoon.worker.autoscaling import Autoscaler
from cardoon.worker.clerk import Clerk
from cardoon.worker.looking import Looker
from cardoon.worker.sizing import Placement
from cardoon.worker.steering import Steerer
from tests.unit.stage import PATIENCE, RecordingPool, Stage

NAME = "cardoon@here"


class SizedPool(RecordingPool):
    """A pool that runs nothing, and can be asked and resized."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.size = size
        self.waiting = 0
        self.renewed = 0
        self.begun: set[int] = set()

    def placements(self) -> dict[int, Placement]:
        return {
            job.key: Placement(4711, 5.0) if job.key in self.begun else Placement(None, None)
            for job in self.jobs
        }

    def describe(self) -> dict[str, Any]:
        return {"implementation": "sized", "max-concurrency": self.size}

    def resize(self, size: int) -> None:
        self.size = size

    def renew(self) -> int:
        self.renewed += 1
        return self.size


class Counter:
    """The clerk of a stage, and what it has changed."""

    def __init__(self, stage: Stage, *, events: Any = None, others: Any = None) -> None:
        self.stage = stage
        self.pool = SizedPool()
        stage.pool = self.pool
        stage.consumer._pool = self.pool  # a stage is made with a pool of its own
        self.stopped = threading.Event()
        self.checked: list[tuple[str, ...]] = []
        self.waiting = 0
        self.autoscaler = Autoscaler(
            self.pool, backlog=lambda: self.waiting, clock=stage.clock, keepalive=30.0
        )
        self.steerer = Steerer(
            settings=stage.settings,
            broker=stage.broker,
            consumer=stage.consumer,
            catalogue=stage.catalogue,
            revoked=stage.revoked,
            pool=self.pool,
            autoscaler=self.autoscaler,
            hostname=NAME,
            queues=("celery",),
            check_queues=lambda queues: self.checked.append(tuple(queues)),
            stop=self.stopped.set,
            events=events,
        )
        self.looker = Looker(
            settings=stage.settings,
            held=stage.held,
            revoked=stage.revoked,
            catalogue=stage.catalogue,
            pool=self.pool,
            clock=stage.clock,
            hostname=NAME,
            urls=("redis://user:secret@broker.example:6379/0", ""),
            queues=lambda: self.steerer.queues,
            heard=lambda: stage.keeper.heard,
        )
        self.clerk = Clerk(
            {**self.looker.handlers, **self.steerer.handlers},
            listen=stage.keeper.listen,
            broker=stage.broker,
            signer=stage.deployment.make_signer(stage.settings.result_serializer),
            audit=stage.audit,
            clock=stage.clock,
            worker=NAME,
            others=others,
        )
        stage.keeper.listen(at_first=True)
        stage.keeper.on_command = self.clerk.take

    @property
    def control(self) -> Any:
        """`app.control` of the client."""
        return self.stage.app.control

    def open(self) -> None:
        """Begin to answer."""
        self.clerk.start()

    def close(self) -> None:
        """End the clerk's thread."""
        self.clerk.stop(PATIENCE)

    def ask(self, command: str, **arguments: Any) -> Any:
        """What the worker answers."""
        self.open()
        [told] = self.control.broadcast(command, arguments, reply=True, limit=1, timeout=PATIENCE)
        return told[NAME]

    @contextmanager
    def asked(self, command: str = "ping", *, limit: int = 1, **options: Any) -> Iterator[Asked]:
        """Meanwhile a client waits for an answer, and the worker gives none until it is opened."""
        before = len(self.stage.broker.heard(0))
        asked = Asked(
            lambda: self.control.inspect(timeout=PATIENCE, limit=limit, **options), command
        )
        try:
            wait_for(lambda: len(self.stage.broker.heard(0)) > before)
            asked.frame = self.stage.broker.heard(0)[-1][1]
            yield asked
        finally:
            self.open()
            asked.join()


class Asked:
    """A question that is on its way."""

    frame: bytes

    def __init__(self, make: Callable[[], Any], command: str) -> None:
        self.inspect = make()
        self.answer: Any = None
        self._command = command
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    @property
    def claims(self) -> Any:
        """What the command signs."""
        return parse_claims(parse_frame(self.frame).claims)

    @property
    def channel(self) -> str:
        """Where it is answered."""
        return f"reply.{self.claims.id}"

    def join(self) -> None:
        """Wait until it has its answer."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _ask(self) -> None:
        self.answer = self.inspect.ask(self._command)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
