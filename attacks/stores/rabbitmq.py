"""AMQP to the server, and the companion's file for all that AMQP cannot keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pika

from attacks.stores.sqlite import SqliteStore

_ARGUMENTS = {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1}


class RabbitmqStore(SqliteStore):
    """The server's administrator, who writes the companion's file as well."""

    def __init__(self, url: str, companion: Path) -> None:
        super().__init__(companion)
        self._parameters = pika.URLParameters(url)
        self._parameters.heartbeat = 0
        self._line = pika.BlockingConnection(self._parameters)
        self._channel = self._line.channel()
        self._channel.confirm_delivery()

    def offer(self, id: str, frame: bytes, *, queue: str, priority: int = 0) -> None:
        """See `Store`."""
        self.publish(frame, queue=queue, priority=priority, headers={"id": id})

    def publish(
        self, frame: bytes, *, queue: str = "celery", priority: int = 0, **properties: Any
    ) -> None:
        """A message with any properties."""
        told = pika.BasicProperties(delivery_mode=2, **properties)
        name = f"cardoon.{priority}.{queue}"
        if priority:
            self._channel.queue_declare(name, durable=True, arguments=_ARGUMENTS)
            self.exchange("cardoon.levels", json.dumps([queue, priority]).encode())
        self._channel.basic_publish("", name, frame, told, mandatory=True)

    def exchange(self, name: str, content: bytes) -> None:
        """Say something to all who listen at an exchange."""
        self._channel.basic_publish(name, "", content)

    def close(self) -> None:
        """See `Store`."""
        super().close()
        if self._line.is_open:
            self._line.close()
