"""Celery's messages on RabbitMQ, by kombu's connection and its raw messages.

kombu's own `Message` decompresses a body as its headers say, whatever size comes out, before anybody can
look at it; so the channel is asked for what py-amqp has read.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator, Sequence
from typing import Any

from cardoon.contrib.celery.source import MAX_BATCH_BYTES, TIMEOUT, Received, import_real
from cardoon.endpoints import Endpoint, Tls
from cardoon.exceptions import ImproperlyConfigured, OperationalError

PREFETCH = 256
"""Messages that the server sends ahead, and so the most that one batch has."""
HEARTBEAT = 30
_MORE = 0.005
"""Seconds that a batch waits for its next message."""


class AmqpSource:
    """Consumes queues that are there already; never declares one, so it can change none."""

    def __init__(self, endpoints: Sequence[Endpoint], queues: Sequence[str]) -> None:
        self._kombu = import_real("kombu")
        self._servers = [(one, tls_options(one.tls, one.host)) for one in endpoints]
        self._queues = tuple(queues)
        self._turn = 0
        self._connection: Any = None
        self._channel: Any = None
        self._arrived: list[Any] = []
        self._last_tag: int | None = None

    def receive(self, *, limit: int, timeout: float) -> Sequence[Received]:
        """A batch; see `Source.receive`."""
        with self._failing():
            if self._channel is None:
                self._connect()
            self._connection.heartbeat_check()
            deadline = time.monotonic() + timeout
            while len(self._arrived) < limit and self._size() < MAX_BATCH_BYTES:
                left = _MORE if self._arrived else max(0.001, deadline - time.monotonic())
                try:
                    self._connection.drain_events(timeout=left)
                except TimeoutError:
                    break
        batch = self._arrived[:limit]
        del self._arrived[:limit]  # the channel appends to this very list
        if batch:
            self._last_tag = batch[-1].delivery_tag
        return [self._received(one) for one in batch]

    def hold(self) -> None:
        """Answer the server's heartbeats."""
        if self._connection is not None:
            with self._failing():
                self._connection.heartbeat_check()

    def acknowledge(self) -> None:
        """One acknowledgement for the batch: tags rise, and batches are taken in their order."""
        if self._last_tag is None:
            return
        with self._failing():
            self._channel.basic_ack(self._last_tag, multiple=True)
        self._last_tag = None

    def close(self) -> None:
        """Let go of the connection, so that the server takes back what is held; safe twice."""
        connection, self._connection, self._channel = self._connection, None, None
        self._arrived, self._last_tag = [], None  # a new list: the old channel knows the old one
        if connection is not None:
            with contextlib.suppress(Exception):  # one that is lost may raise anything as it goes
                connection.collect(socket_timeout=1.0)

    def _connect(self) -> None:
        endpoint, tls = self._servers[self._turn % len(self._servers)]
        self._turn += 1
        self._connection = self._kombu.Connection(
            hostname=endpoint.host,
            port=endpoint.port,
            userid=endpoint.username or "guest",
            password=endpoint.password or "guest",
            virtual_host=endpoint.path or "/",
            transport="pyamqp",
            ssl=tls,
            heartbeat=HEARTBEAT,
            connect_timeout=TIMEOUT,
            transport_options={
                "max_retries": 0,
                "read_timeout": TIMEOUT,
                "write_timeout": TIMEOUT,
            },
        )
        self._connection.ensure_connection(max_retries=0, timeout=TIMEOUT)
        channel = self._connection.channel()
        channel.auto_decode = False
        channel.basic_qos(0, PREFETCH, False)
        for queue in self._queues:
            channel.queue_declare(queue, passive=True)  # an error if it is not there
            channel.basic_consume(queue, consumer_tag=queue, callback=self._arrived.append)
        self._channel = channel

    def _size(self) -> int:
        return sum(len(one.body or b"") for one in self._arrived)

    def _received(self, message: Any) -> Received:
        told = message.properties
        body = message.body or b""
        return Received(
            queue=str(message.delivery_info["consumer_tag"]),
            body=body.encode() if isinstance(body, str) else bytes(body),
            content_type=str(told.get("content_type") or ""),
            content_encoding=str(told.get("content_encoding") or "utf-8"),
            headers=told.get("application_headers") or {},
            properties=told,
        )

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Errors of the connection end it, and are told as ours."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, (OSError, *self._errors())):
                raise
            self.close()
            raise OperationalError(
                f"celery's RabbitMQ: {type(error).__name__}: {error}; queues must be there already"
            ) from error

    def _errors(self) -> tuple[type[BaseException], ...]:
        found: tuple[type[BaseException], ...] = (self._kombu.exceptions.OperationalError,)
        if self._connection is not None:
            found += (*self._connection.connection_errors, *self._connection.channel_errors)
        return found


def tls_options(tls: Tls | None, host: str) -> Any:
    """TLS as py-amqp takes it; False for none."""
    if tls is None:
        return False
    if tls.key_password:
        raise ImproperlyConfigured("celery_broker_url: py-amqp takes no key with a password")
    options: dict[str, Any] = {
        "ca_certs": tls.ca or None,
        "certfile": tls.certificate or None,
        "keyfile": tls.key or None,
        "cert_reqs": ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE,
    }
    if tls.check_hostname:
        options["server_hostname"] = tls.server_name or host
    return options
