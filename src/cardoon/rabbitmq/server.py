"""What a broker on RabbitMQ shares with a result backend that goes the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from cardoon.rabbitmq.queues import Names

if TYPE_CHECKING:  # which needs pika
    from cardoon.rabbitmq.line import Line


class Server(NamedTuple):
    """How a server is reached, and how things are named there."""

    names: Names
    open_line: Callable[[str, float], Line]
    """Given the purpose and the deadline."""
    account: str
    timeout: float
    """Seconds for one step."""


@runtime_checkable
class SharesServer(Protocol):
    """A broker on RabbitMQ."""

    @property
    def server(self) -> Server:
        """Its server."""
        ...
