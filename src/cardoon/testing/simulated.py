"""The parts of a simulation: a broker that says what comes next, a worker without threads, a link.

`cardoon.testing.simulation` puts them together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from cardoon.brokers.memory import MemoryBroker
from cardoon.clock import Clock
from cardoon.context import current_request
from cardoon.exceptions import CardoonError, InvalidTaskError
from cardoon.producer import Producer
from cardoon.sender import NOT_IN_TASKS, Call, Handle, Receipt, Report, Revocation
from cardoon.worker.concluding import ResultState
from cardoon.worker.pool import Ending, Job, Pool
from cardoon.worker.pools.stepping import SteppingPool
from cardoon.worker.settler import Send, State
from cardoon.worker.worker import LEASE, Worker


class Waiter(Protocol):
    """Lets simulated time pass for someone who waits."""

    def __call__(self, task_ids: Sequence[str], deadline: float | None, *, in_task: bool) -> bool:
        """Run what comes next, by the monotonic `deadline`; False when that has passed.

        Raises where these results will never come.
        """
        ...


class SimulatedBroker(MemoryBroker):
    """The memory broker, which can be asked what comes next."""

    def next_due(self) -> float | None:
        """When the next message falls due that is not due now; in seconds since the epoch."""
        now = self._clock.now()
        return min((one.due for one in self._waiting() if one.due > now), default=None)

    def due_queues(self) -> set[str]:
        """The queues with messages that are due."""
        now = self._clock.now()
        return {one.queue for one in self._waiting() if one.due <= now}


class SimulatedWorker(Worker):
    """A real worker but for its threads and its pool: it claims, runs and writes when it is told to."""

    def claim(self, broker: SimulatedBroker, *, limit: int, only: frozenset[str] | None) -> bool:
        """Claim what is due, in the queues of `only` or in all; whether there was anything."""
        copies = self.consumer.broadcasts
        queues = {
            queue
            for queue in broker.due_queues()
            if only is None or copies.get(queue, queue) in only
        }
        if not queues:
            return False
        if unknown := queues.difference(self.consumer.sources):
            self.queues = tuple(sorted(unknown.union(self.queues)))
            self.consumer.consume_from(sorted(set(self.queues).difference(copies.values())))
        deliveries = broker.receive(sorted(queues), limit=limit, lease=LEASE, timeout=0)
        if deliveries:
            self.consumer.admit(deliveries)
            self.settler.write_now()
        return bool(deliveries)

    def step(self) -> tuple[Job, Ending] | None:
        """Run one job that was claimed, and write how it ended."""
        done = self.stepping.step()
        self.settler.write_now()
        return done

    def close(self) -> None:
        """Hand back what was claimed, and stop; the stores stay."""
        self.stepping.drain(soft=0, hard=0)
        self.settler.write_now()
        self.stepping.close()
        self._shut_down()

    def _make_pool(self) -> Pool:
        assert self._app is not None
        self.stepping = SteppingPool(self._app, clock=self.clock, on_ended=self.settler.ended)
        return self.stepping


class SimulatedLink:
    """The Sender of an app within a simulation.

    Code outside of tasks sends as a client does, and waits by letting simulated time pass. Task code
    sends through the worker, signed as the worker.
    """

    def __init__(
        self, worker: SimulatedWorker, client: Producer, *, clock: Clock, run: Waiter
    ) -> None:
        self._worker = worker
        self._client = client
        self._clock = clock
        self._run = run

    def send(self, calls: Sequence[Call], *, timeout: float) -> Sequence[Receipt]:
        """Sign and publish."""
        if not calls:
            return []
        if not _in_task():
            return self._client.send(calls, timeout=timeout)
        answers: list[Sequence[Receipt] | CardoonError] = []
        settler = self._worker.settler
        settler.put(Send(calls, self._clock.monotonic() + timeout, answers.append))
        settler.write_now()
        [answer] = answers
        if isinstance(answer, CardoonError):
            raise answer
        return answer

    def load(self, handles: Sequence[Handle]) -> Mapping[str, Report]:
        """Present states."""
        return self._client.load(handles)

    def wait(self, handles: Collection[Handle], *, timeout: float | None) -> Iterator[Report]:
        """Final results; outside of tasks, simulated time passes meanwhile."""
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        pending = {handle.task_id: handle for handle in handles}
        while True:
            for report in list(self._client.wait(list(pending.values()), timeout=0)):
                del pending[report.task_id]
                yield report
            if not pending or not self._run(list(pending), deadline, in_task=_in_task()):
                return

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete results."""
        self._client.forget(task_ids)

    def revoke(self, revocation: Revocation) -> None:
        """Tell the worker."""
        self._client.revoke(revocation)

    def update_state(self, task_id: str, state: str, codec: str, body: bytes) -> None:
        """Store a state of the task that runs."""
        for held in self._worker.held.with_id(task_id):
            self._worker.settler.put(State(held, ResultState(state, codec, body)))
            self._worker.settler.write_now()
            return
        self._client.update_state(task_id, state, codec, body)

    def save_group(self, group_id: str, codec: str, body: bytes) -> None:
        """See `GroupKeeper`."""
        self._client.save_group(group_id, codec, body)

    def load_group(self, group_id: str) -> Report | None:
        """See `GroupKeeper`."""
        return self._client.load_group(group_id)

    def find(self, task_ids: Sequence[str]) -> Mapping[str, str]:
        """See `Finder`."""
        return self._client.find(task_ids)

    def purge(self) -> int:
        """See `Purger`; task code must not, as in production."""
        if _in_task():
            raise InvalidTaskError(NOT_IN_TASKS)
        return self._client.purge()


def _in_task() -> bool:
    running = current_request()
    return running is not None and running.hostname is not None
