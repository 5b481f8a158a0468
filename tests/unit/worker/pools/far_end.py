"""The worker's end of a channel to a runner that serves in a thread of the test."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from cardoon.message.serializers import JSON, encode_body
from cardoon.worker.ipc import FROM_CHILD, FROM_WORKER, Channel, Frame, FrameType, IpcError
from cardoon.worker.pool import Ending, parse_ending
from cardoon.worker.reporting import Reporter
from tests.unit.stage import MAX_BYTES, PATIENCE


def job_head(key: int, task: str, *, task_id: str = "", **changes: Any) -> dict[str, Any]:
    """The head of a job, as the consumer makes it."""
    return {
        "key": key,
        "task": task,
        "id": task_id or f"t{key}",
        "codec": JSON,
        "max_bytes": MAX_BYTES,
        "retries": 0,
        "max_retries": 3,
        "eta": None,
        "expires": None,
        "root": None,
        "parent": None,
        "headers": {},
        "queue": "celery",
        "attempt": 1,
        "hostname": "w1",
        "origin": "alice",
        **changes,
    }


class FarEnd:
    """Hands jobs to a runner, and reads what it answers."""

    def __init__(self, make: Callable[[Channel, Reporter], Any], near: Any, far: Any) -> None:
        far.settimeout(PATIENCE)
        self.channel = Channel(far, FROM_CHILD)
        inner = Channel(near, FROM_WORKER)
        self.runner = make(inner, Reporter(inner, max_memory_kib=None))
        self.error: IpcError | None = None
        self._near = near
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        try:
            self.runner.serve()
        except IpcError as error:
            self.error = error

    def give(self, key: int, task: str, *args: Any, **changes: Any) -> None:
        """A job for the runner."""
        body = changes.pop("body", None) or encode_body([list(args), {}, {}], JSON)
        self.channel.send(FrameType.JOB, job_head(key, task, **changes), body)

    def tell(self, kind: FrameType, **head: Any) -> None:
        """Something else for the runner."""
        self.channel.send(kind, head)

    def hear(self) -> Frame:
        """What the runner says next."""
        frame = self.channel.receive()
        assert frame is not None
        return frame

    def endings(self, count: int) -> dict[int, Ending]:
        """How that many jobs ended, by key, in the order in which they did."""
        frames = [self.hear() for _ in range(count)]
        assert {frame.type for frame in frames} <= {FrameType.OUTCOME}
        return {frame.head["key"]: parse_ending(frame) for frame in frames}

    def stop(self) -> None:
        """Have it end, and wait until it has."""
        self.tell(FrameType.STOP)
        self.join()

    def join(self) -> None:
        """Wait until it has ended."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def hang_up(self) -> None:
        """The worker dies."""
        with contextlib.suppress(OSError):
            self.channel.socket.shutdown(2)


@contextlib.contextmanager
def released(*events: threading.Event) -> Iterator[None]:
    """Let tasks that wait for these go on, whatever happens."""
    try:
        yield
    finally:
        for event in events:
            event.set()
