"""Puts together the parts of a worker that take the most saying: its consumer and its ledger."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cardoon.calling import result_codec
from cardoon.queues import broadcast_names
from cardoon.security.gate import Gate
from cardoon.worker.claiming import Options
from cardoon.worker.consumer import Consumer
from cardoon.worker.epochs import guard_of
from cardoon.worker.leases import Revoked
from cardoon.worker.ledger import Ledger
from cardoon.worker.notices import OF_MESSAGES, tell_sent
from cardoon.worker.selecting import split_queues

if TYPE_CHECKING:
    from cardoon.worker.worker import Worker


def make_consumer(worker: Worker, gate: Gate, revoked: Revoked) -> Consumer:
    """What takes messages, opens them and hands them to the pool."""
    settings = worker.settings
    ordinary, broadcasts = split_queues(settings, worker.queues, hostname=worker.hostname)
    return Consumer(
        Options(
            queues=ordinary,
            broadcasts=broadcasts,
            lease=worker.lease,
            hostname=worker.hostname,
            max_bytes=settings.message_max_bytes,
            patience=worker.patience,
            result_codec=result_codec(settings),
        ),
        broker=worker.broker,
        guard=guard_of(worker.broker),
        gate=gate,
        pool=worker.pool,
        settler=worker.settler,
        held=worker.held,
        revoked_ids=revoked,
        catalogue=worker.catalogue,
        audit=worker.audit,
        clock=worker.clock,
        notices=worker.telling_of(OF_MESSAGES),
        watchers=worker.watchers,
        book=worker.book,
        isolation=worker.isolation,
        alarm=worker.alarm,
        records=worker.records,
        vitals=worker.observatory.vitals,
    )


def make_ledger(worker: Worker) -> Ledger:
    """What signs and writes what came of tasks."""
    settings, deployment = worker.settings, worker.deployment
    return Ledger(
        broker=worker.broker,
        backend=worker.backend,
        shared_store=deployment.backend_url == deployment.store_url,
        task_signer=deployment.make_signer(settings.task_serializer),
        result_signer=deployment.make_signer(settings.result_serializer),
        audit=worker.audit,
        clock=worker.clock,
        worker=worker.hostname,
        result_expires=settings.result_expires,
        broadcasts=broadcast_names(settings.task_queues),
        book=worker.book,
        curator=worker.curator,
        on_sent=partial(tell_sent, worker.watchers),
    )
