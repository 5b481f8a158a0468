"""LocalLink: the Sender of tasks that run in the worker's own process (pool `solo`).

What they send goes the same way as from any other pool: through the settler, signed as the worker.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence

from cardoon.clock import Clock
from cardoon.contents import is_pickle
from cardoon.exceptions import CardoonError, InvalidTaskError, OperationalError
from cardoon.producer import Producer
from cardoon.sender import Call, Handle, Receipt, Report, Revocation
from cardoon.worker.concluding import ResultState
from cardoon.worker.held import HeldTable
from cardoon.worker.origins import on_behalf_of
from cardoon.worker.settler import Send, Settler, State
from cardoon.worker.wire import NO_PICKLES


class LocalLink:
    """Sends through the settler, and reads through a producer."""

    def __init__(
        self, *, settler: Settler, held: HeldTable, reader: Producer, clock: Clock
    ) -> None:
        self._settler = settler
        self._held = held
        self._reader = reader
        self._clock = clock

    def send(self, calls: Sequence[Call], *, timeout: float) -> Sequence[Receipt]:
        """Have the settler sign and publish."""
        if not calls:
            return []
        for call in calls:
            if is_pickle(call.codec):
                raise InvalidTaskError(f"{call.task}: {NO_PICKLES}")
        written = threading.Event()
        answers: list[Sequence[Receipt] | CardoonError] = []

        def done(answer: Sequence[Receipt] | CardoonError) -> None:
            answers.append(answer)
            written.set()

        sent = on_behalf_of(calls, self._held.all())
        self._settler.put(Send(sent, self._clock.monotonic() + timeout, done))
        if not written.wait(timeout):
            raise OperationalError(f"publish: not confirmed within {timeout:g} seconds")
        match answers[0]:
            case CardoonError() as error:
                raise error
            case digests:
                return digests

    def load(self, handles: Sequence[Handle]) -> Mapping[str, Report]:
        """Present states."""
        return self._reader.load(handles)

    def wait(self, handles: Collection[Handle], *, timeout: float | None) -> Iterator[Report]:
        """Final results as they come."""
        return self._reader.wait(handles, timeout=timeout)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete results."""
        self._reader.forget(task_ids)

    def revoke(self, revocation: Revocation) -> None:
        """Broadcast a revocation."""
        self._reader.revoke(revocation)

    def save_group(self, group_id: str, codec: str, body: bytes) -> None:
        """Sign and store which results a group consists of."""
        self._reader.save_group(group_id, codec, body)

    def load_group(self, group_id: str) -> Report | None:
        """What was saved under the id."""
        return self._reader.load_group(group_id)

    def find(self, task_ids: Sequence[str]) -> Mapping[str, str]:
        """Where messages lie."""
        return self._reader.find(task_ids)

    def update_state(self, task_id: str, state: str, codec: str, body: bytes) -> None:
        """Store a state of a task that runs here."""
        for held in self._held.with_id(task_id):
            self._settler.put(State(held, ResultState(state, codec, body)))
            return
        raise InvalidTaskError(f"update_state: task {task_id} does not run here")
