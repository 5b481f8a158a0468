"""What a consumer claims, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cardoon.contents import JSON
from cardoon.worker.opening import NO_BROADCASTS

UNKNOWN_GRACE = 60.0
"""Seconds for which a message may wait for a worker that knows its task: a rolling deploy."""


class Options(NamedTuple):
    """What a consumer needs of the settings."""

    queues: tuple[str, ...]
    lease: float
    hostname: str
    max_bytes: int
    result_codec: str = JSON
    """How results are written, before compression, which they share with their tasks."""
    unknown_grace: float = UNKNOWN_GRACE
    patience: float = 1.0
    """Seconds that one claim waits for messages, and a stop for that claim."""
    broadcasts: Mapping[str, str] = NO_BROADCASTS
    """The broadcast queues, by the worker's own queues behind them."""
