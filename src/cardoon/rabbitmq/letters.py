"""Results as messages of RabbitMQ: what stands beside the frame, and the queues that they go to.

Nothing of this is signed, so nothing of it is believed: the reader knows from the frame what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pika

from cardoon.backend import SealedResult
from cardoon.message.protocol import MAX_ID, MAX_MILLISECONDS

CONTENT_TYPE = "application/vnd.cardoon.result"

QUEUE_SECONDS = 600
"""How long a queue of results is there for a process that has lost its connection, or its life."""

_FINAL, _EXPIRES = "final", "expires"
"""Headers: whether it is the last word, and when it may be forgotten, in milliseconds."""

QUEUE_ARGUMENTS: Mapping[str, Any] = {
    # A queue of its own on one node: results are transient, so copies of them on others are none too.
    "x-queue-type": "classic",
    "x-expires": QUEUE_SECONDS * 1000,
    "x-max-length": 1_000_000,
    "x-max-length-bytes": 256 * 2**20,
}
"""Of a queue of results. What is too much drops the oldest."""


def write_properties(result: SealedResult) -> pika.BasicProperties:
    """What stands beside a result on its way."""
    headers: dict[str, Any] = {_FINAL: result.final}
    if result.expires_at is not None:
        headers[_EXPIRES] = min(MAX_MILLISECONDS, round(result.expires_at * 1000))
    return pika.BasicProperties(
        content_type=CONTENT_TYPE, correlation_id=result.task_id, delivery_mode=1, headers=headers
    )


def read_letter(properties: Any, frame: bytes) -> SealedResult | None:
    """The result that has come; None for what makes no sense, for anyone may have sent it."""
    task_id = properties.correlation_id
    headers = properties.headers or {}
    final, expires = headers.get(_FINAL), headers.get(_EXPIRES)
    if not isinstance(task_id, str) or not 0 < len(task_id.encode(errors="replace")) <= MAX_ID:
        return None
    if not isinstance(final, bool) or not isinstance(expires, int | None):
        return None
    return SealedResult(task_id, frame, final, None if expires is None else expires / 1000)
