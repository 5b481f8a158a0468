"""Puts the clerk of a worker together: what it answers and changes, of which parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cardoon.broker import Inspectable
from cardoon.worker.autoscaling import Autoscaler
from cardoon.worker.clerk import Clerk
from cardoon.worker.isolating import isolate
from cardoon.worker.leases import Revoked
from cardoon.worker.looking import Looker
from cardoon.worker.steering import Steerer

if TYPE_CHECKING:
    from cardoon.worker.worker import Worker


def make_autoscaler(worker: Worker) -> Autoscaler:
    """What has the pool follow its load, once it is told to."""
    made = Autoscaler(worker.pool, backlog=lambda: _backlog(worker), clock=worker.clock)
    made.bounds = worker.options.autoscale
    return made


def make_clerk(worker: Worker, revoked: Revoked) -> Clerk:
    """The clerk of a worker whose other parts are there."""
    settings, deployment = worker.settings, worker.deployment

    def check_queues(queues: Sequence[str]) -> None:
        # What some queue's tasks must be held to, this pool may be unable to: as at its start, that is an error.
        isolate(deployment, worker.catalogue, queues=queues)

    steerer = Steerer(
        settings=settings,
        broker=worker.broker,
        consumer=worker.consumer,
        catalogue=worker.catalogue,
        revoked=revoked,
        pool=worker.pool,
        autoscaler=worker.autoscaler,
        hostname=worker.hostname,
        queues=worker.queues,
        check_queues=check_queues,
        stop=worker.stop,
        events=worker.events.switch,
        check_files=worker.check_files,
    )
    looker = Looker(
        settings=settings,
        held=worker.held,
        revoked=revoked,
        catalogue=worker.catalogue,
        pool=worker.pool,
        clock=worker.clock,
        hostname=worker.hostname,
        urls=(deployment.broker_url, deployment.backend_url),
        queues=lambda: steerer.queues,
        heard=lambda: worker.keeper.heard,
        standing=worker.events.standing,
    )
    return Clerk(
        {**looker.handlers, **steerer.handlers},
        listen=worker.keeper.listen,
        broker=worker.broker,
        signer=deployment.make_signer(settings.result_serializer),
        audit=worker.audit,
        clock=worker.clock,
        worker=worker.hostname,
        others=worker.own_commands,
        is_on=settings.worker_enable_remote_control,
    )


def _backlog(worker: Worker) -> int:
    """How much waits in the worker's queues; 1 where the broker cannot say."""
    broker = worker.broker
    if not isinstance(broker, Inspectable):
        return 1
    mine = frozenset(worker.consumer.sources)
    return sum(depth.ready for depth in broker.depths() if depth.queue in mine)
