"""The `rpc://` driver of the ResultBackend contract: results go to who sent the task, over its RabbitMQ.

Nothing is stored. Each process that sends has a queue of its own on the server, whose address it signs in
each task; a worker sends the result there, and the process keeps it in memory until it is read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial

from cardoon.arrivals import wait_for_results
from cardoon.backend import SealedResult
from cardoon.clock import Clock, SystemClock
from cardoon.exceptions import ImproperlyConfigured
from cardoon.rabbitmq.courier import Courier
from cardoon.rabbitmq.listener import Listener
from cardoon.rabbitmq.mailbox import Mailbox
from cardoon.rabbitmq.server import Server, SharesServer

_TIME = SystemClock()


def connect(url: str, *, clock: Clock, beside: SharesServer) -> RpcBackend:
    """The result backend beside a RabbitMQ broker."""
    if url.partition("://")[2].strip("/"):
        raise ImproperlyConfigured(
            "result_backend: rpc:// names no server, since results go over that of broker_url; use rpc://"
        )
    return RpcBackend(beside.server, clock=clock)


class RpcBackend:
    """Results on their way to this process, and from it to others. The broker is someone else's to close."""

    def __init__(self, server: Server, *, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        server = self._server
        self._process = os.getpid()
        self._mailbox = Mailbox(self._clock)
        self._courier = Courier(server.names, partial(server.open_line, "sending results"))
        self._listener = Listener(
            server.names,
            partial(server.open_line, "taking results"),
            account=server.account,
            deliver=self._mailbox.put,
        )

    def _renew(self) -> None:
        """In a forked child, begin anew: what is on its way to the parent is the parent's."""
        if self._process != os.getpid():
            self._begin()

    def listen(self, *, timeout: float) -> str:
        """The address at which this process takes results, ready when this returns."""
        self._renew()
        return self._listener.listen(_TIME.monotonic() + timeout)

    def store(self, results: Sequence[SealedResult]) -> None:
        """Send results to whom they are for. One without an address goes nowhere."""
        self._renew()
        self._courier.send(results, _TIME.monotonic() + self._server.timeout)

    def load(self, task_ids: Sequence[str]) -> Mapping[str, SealedResult]:
        """What has arrived of those tasks."""
        self._renew()
        return self._mailbox.load(task_ids)

    def wait(self, task_ids: Collection[str], *, timeout: float | None) -> Iterator[SealedResult]:
        """Yield each final result as it arrives; see the contract for collections that grow."""
        self._renew()
        mailbox = self._mailbox
        with mailbox.listen() as ear:
            yield from wait_for_results(mailbox, task_ids, timeout=timeout, rest=ear.wait)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete what has arrived of those tasks."""
        self._renew()
        self._mailbox.forget(task_ids)

    def close(self) -> None:
        """Let go of the queue and of every connection; safe twice."""
        self._renew()
        self._listener.close()
        self._courier.close()
