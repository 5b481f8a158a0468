"""What a task waited for, as the worker sees it: states and sizes of verified results, unparsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

from cardoon import states
from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.headers import parse_headers
from cardoon.message.protocol import MAX_SECONDS, Take
from cardoon.security.gate import VerifiedMessage


class Inputs(NamedTuple):
    """The results that a task takes something of."""

    take: Take
    results: Sequence[VerifiedMessage]
    """Those that are there, in order."""
    failure: VerifiedMessage | None
    """The first that is not a success."""
    is_complete: bool
    ended_at: float
    """When the last of them ended, as signed; seconds since the epoch."""

    @property
    def can_run(self) -> bool:
        """Whether the task has what it was to be given."""
        if self.take is Take.FAILURE:
            return self.failure is not None
        return self.is_complete and self.failure is None


def read_inputs(
    message: VerifiedMessage, inputs: Sequence[VerifiedMessage | None]
) -> Inputs | None:
    """Judge the results that a message waited for; None for one that waited for nothing.

    `RefusedError` for an errback whose task has succeeded: somebody else than a worker woke it. One whose
    task is gone without a result cannot run.
    """
    compose = message.claims.compose
    if compose is None:
        return None
    results = [one for one in inputs if one is not None]
    failure = None
    ended_at = 0.0
    for one in results:
        told = parse_headers(one.claims.headers)
        done = told.get("done")
        if not states.is_final(str(told.get("state"))) or not _is_moment(done):
            raise RefusedError(Refusal.WRONG_INPUT, f"task {one.claims.id} has not ended")
        if failure is None and told["state"] != states.SUCCESS:
            failure = one
        ended_at = max(ended_at, float(done))
    if compose.take is Take.FAILURE and results and failure is None:
        raise RefusedError(Refusal.WRONG_INPUT, "an errback of a task that has not failed")
    is_complete = len(results) == len(inputs)
    return Inputs(compose.take, results, failure, is_complete, ended_at)


def describe_inputs(inputs: Inputs) -> tuple[dict[str, Any], bytes]:
    """The part of a job's head, and the bodies one after the other, that tell a process of inputs.

    Of a failed group only the failure: the task will not run, and its error names it.
    """
    told = inputs.results
    head: dict[str, Any] = {"take": int(inputs.take)}
    if inputs.failure is not None:
        claims = inputs.failure.claims
        told = [inputs.failure]
        head["failed"] = {"id": claims.id, "task": claims.task, "retries": claims.retries or 0}
    codecs = sorted({one.claims.codec for one in told})
    head["codecs"] = codecs
    head["parts"] = [(len(one.body), codecs.index(one.claims.codec)) for one in told]
    return head, b"".join(one.body for one in told)


def _is_moment(value: object) -> TypeGuard[float]:
    """Whether it is seconds since the epoch, which JSON's numbers need not be."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 <= value <= MAX_SECONDS
