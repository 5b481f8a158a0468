"""One client process: `python -m faults.client JOB`, where JOB is JSON; see `Job`.

Each send is written down before it begins and after it returned or raised.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass

from cardoon import chord
from cardoon.result import AsyncResult
from faults import ledger
from faults.tasks import app, gather, kill, work


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a client is to send."""

    kind: str = "work"
    """`work`, `kill`, `unknown` or `chord`."""
    count: int
    prefix: str = "task"
    seconds: float = 0.002
    """That each body takes."""
    countdown: float | None = None
    rate: float | None = None
    """Sends a second; None for as fast as it can."""
    size: int = 0
    """Header tasks of a chord."""
    killers: int = 0
    """How many of them kill their process in their first run."""
    times: int = 0
    """See `tasks.kill`."""


def send(job: Job, ident: str) -> str:
    """Send one task, or one chord; return the id of what is to end last."""
    match job.kind:
        case "work":
            return work.apply_async((ident, job.seconds), countdown=job.countdown).id
        case "kill":
            return kill.delay(ident, job.times).id
        case "unknown":
            return app.send_task("faults.nobody_has_this", (ident,)).id
        case "chord":
            headers = [
                kill.si(f"{ident}.{number}", 1)
                if number < job.killers
                else work.si(f"{ident}.{number}", job.seconds)
                for number in range(job.size)
            ]
            result: AsyncResult[int] = chord(headers)(gather.s(ident, job.size))
            return result.id
        case _:
            raise ValueError(f"client: kind {job.kind!r} is unknown")


def main(job: Job) -> None:
    """Send everything; what raises is written down, and the next one is sent."""
    begun = time.monotonic()
    for number in range(job.count):
        ident = f"{job.prefix}{number:05d}"
        if job.rate is not None:
            time.sleep(max(0.0, begun + number / job.rate - time.monotonic()))
        ledger.write("try", ident)
        try:
            task_id = send(job, ident)
        except Exception as error:  # whatever it is, a sender has to bear it
            ledger.write("failed", ident, f"{type(error).__name__}: {error}")
        else:
            ledger.write("sent", ident, task_id)


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
