"""isolated: a process for each task. It serves one job, answers, and waits to be killed."""

from __future__ import annotations

import contextlib
import sys

from cardoon.app import Cardoon
from cardoon.exceptions import EncodeError
from cardoon.message.serializers import JSON, decode_body, encode_body
from cardoon.sandbox.witness import Witness
from cardoon.worker.ipc import FROM_WORKER, Channel, Frame, FrameReader, FrameType, pack_frame
from cardoon.worker.jobs import Answer, answer_codec, failure
from cardoon.worker.pools.prefork import SerialRunner
from cardoon.worker.reporting import Reporter
from cardoon.worker.task_log import TaskLogHandler

_SAMPLE = {"key": 0, "task": "", "headers": {}, "eta": None, "attempt": 1, "queue": "celery"}


class IsolatedRunner:
    """Runs one job. `most` is how many bytes its outcome may take."""

    def __init__(
        self, app: Cardoon, channel: Channel, *, most: int, witness: Witness | None = None
    ) -> None:
        self._channel = channel
        self._reporter = Reporter(channel, max_memory_kib=None)
        self._serial = SerialRunner(app, channel, self._reporter)
        self._serial.witness = witness
        self._most = most
        self.link = self._serial.link

    def listen(self) -> None:
        """Have limits and revocations interrupt the job, in this process and its forks."""
        self._serial.listen()

    def hear(self, log: TaskLogHandler) -> None:
        """Have the end of the job say what of its log was not sent."""
        self._reporter.log = log

    def serve(self) -> None:
        """Run a job, and do no more till the end. `IpcError` when the worker is gone."""
        frame = self._serial.next_job()
        if frame is None:
            return
        with self._reporter.timed(frame) as report:
            report.answer = self._bounded(frame, self._serial.run(frame))
            _flush_output()
        while True:  # the worker kills us, whatever else runs here
            self._channel.receive()

    def _bounded(self, frame: Frame, answer: Answer) -> Answer:
        """What the worker would not take is the task's failure, and not the end of its process."""
        if len(answer.body) <= self._most:
            return answer
        error = EncodeError(
            f"the outcome takes {len(answer.body)} bytes, more than output={self._most} of its "
            "sandbox; return a reference to where it is stored"
        )
        return failure(error, codec=answer_codec(frame.head))


def reseed() -> None:
    """Forget the random state that all processes of a nest begin with; Python does so for `random`."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def warm() -> None:
    """Go once through what stands between a job and its task.

    The first use of a page after a fork copies it; this has happened when the job comes.
    """
    packed = pack_frame(FrameType.JOB, _SAMPLE, encode_body([[], {}, {}], JSON))
    for frame in FrameReader(FROM_WORKER).feed(packed):
        decode_body(JSON, frame.body, max_bytes=1024, unpickle=False)


def _flush_output() -> None:
    """Have in the pipe what the task has written, before the worker hears that it has ended."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # whatever the task has put in its place
            stream.flush()
