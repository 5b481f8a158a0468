"""Where Celery's messages come from: the contract of the two readers, and the real libraries."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

from cardoon.exceptions import ImproperlyConfigured

MAX_BATCH_BYTES = 32 << 20
"""A batch ends behind the message that exceeds it."""
TIMEOUT = 5.0
"""Seconds for each answer of a server of Celery's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One message as it came; nothing of it is decoded, and all of it may be anybody's."""

    queue: str
    body: bytes
    content_type: str = ""
    content_encoding: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    """Why it is no message at all; then the body is what lay in the queue."""


class Source(Protocol):
    """Takes messages in batches, one batch at a time. For one thread.

    A message that was received and not acknowledged is delivered again, whoever dies. Every method
    raises `OperationalError` within seconds where the server does not answer; then what was received
    before is not ours any more, and the next `receive` connects anew.
    """

    def receive(self, *, limit: int, timeout: float) -> Sequence[Received]:
        """Up to `limit` messages, the first of them within `timeout` seconds; none is no error."""
        ...

    def hold(self) -> None:
        """Keep what was received; call it at least every few seconds meanwhile."""
        ...

    def acknowledge(self) -> None:
        """All that was received is done."""
        ...

    def close(self) -> None:
        """Give back what is held, and let go of the connection; raises nothing, safe twice."""
        ...


def import_real(name: str) -> ModuleType:
    """A module of Celery's or kombu's; `ImproperlyConfigured` where it is not there or a stand-in."""
    try:
        root = importlib.import_module(name.partition(".")[0])
        if type(root).__module__.startswith("cardoon"):
            raise ImproperlyConfigured(
                f"{name} is Cardoon's stand-in in this process, and the bridge needs the real one; use "
                "an app whose modules do not call cardoon.compat.celery.install()"
            )
        return importlib.import_module(name)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"{name} is not installed, and it is needed beside Celery; pip install 'cardoon[celery]'"
        ) from error
