"""Gathers all that is known of one task: from its queue, its result, its limit, and what was revoked.

It only looks. A result that is refused is not quarantined here, nor is anything claimed, made or sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from cardoon.backend import ResultBackend, listening
from cardoon.broker import (
    Accompanied,
    Broadcaster,
    Broker,
    Inspectable,
    Limiting,
    LimitUse,
    QueueDepth,
)
from cardoon.cli.judging import Found, Judge, Judgement, find_kept, memory_of
from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.exceptions import CardoonError, RefusedError
from cardoon.lookup import Findable, Place, Traceable, Whereabouts
from cardoon.message.headers import parse_headers
from cardoon.message.protocol import Kind
from cardoon.pausing import Pausable
from cardoon.producer import report_of
from cardoon.queues import broadcast_names, private_queue
from cardoon.security.gate import Gate
from cardoon.sender import Report
from cardoon.stamps import RevokedStamps
from cardoon.worker.leases import open_revocation

_MANY = 1_000_000
"""Keys of limits: any number that there may be."""


class Ending(NamedTuple):
    """What the result backend has of a task."""

    report: Report | None = None
    refused: RefusedError | None = None
    """Why what it has is worth nothing."""


NOTHING_ENDED = Ending()


class Predecessor(NamedTuple):
    """One of those that a dormant task waits for."""

    id: str
    place: Place | None
    """Where it lies; None where it is nowhere, as far as the store can tell."""
    state: str
    """Its verified result's, if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that is known of one task."""

    id: str
    now: float
    """Seconds since the epoch."""
    settings: Settings
    where: Whereabouts | None
    judgement: Judgement | None = field(default=None, repr=False)
    """What a worker of this project would say of its message."""
    problem: str = ""
    """Why there is no judgement of a message that is there."""
    ending: Ending = NOTHING_ENDED
    revoked: bool = False
    resting: bool = False
    """Whether its queue is paused."""
    depth: QueueDepth | None = None
    """Of its queue."""
    use: LimitUse | None = None
    """Of its limit, if that holds messages back now."""
    predecessors: tuple[Predecessor, ...] = ()
    blind: str = ""
    """What this broker cannot tell."""


class Inquirer:
    """Asks the stores of one project."""

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._deployment = Deployment(settings, clock=clock)

    def ask(self, task_id: str) -> Findings:
        """Everything about one task. Raises `CardoonError` where the stores do not answer."""
        with self._stores() as (broker, backend):
            tracer = _tracer_of(broker)
            where = tracer.trace(task_id) if tracer is not None else None
            judgement, problem = self._judge(task_id, where, broker)
            told = Findings(
                id=task_id,
                now=self._clock.now(),
                settings=self._settings,
                where=where,
                judgement=judgement,
                problem=problem,
                ending=self._ending(backend, task_id),
                revoked=self._is_revoked(broker, task_id, judgement),
                blind=_find_blindness(broker, tracer),
            )
            if where is None or where.kept is not None:
                return told
            return self._look_around(told, where, broker, backend)

    @contextmanager
    def _stores(self) -> Iterator[tuple[Broker, ResultBackend | None]]:
        broker = self._deployment.open_broker()
        backend = None
        try:
            backend = self._deployment.open_backend(broker)
            yield broker, backend
        finally:
            if backend is not None:
                backend.close()
            broker.close()

    def _look_around(
        self, told: Findings, where: Whereabouts, broker: Broker, backend: ResultBackend | None
    ) -> Findings:
        """With what its queue, its limit and those that it waits for are like."""
        queue = self._public_name(where.queue)
        resting = broker.resting() if isinstance(broker, Pausable) else ()
        depths = broker.depths() if isinstance(broker, Inspectable) else ()
        uses = broker.limits(limit=_MANY) if where.limit and isinstance(broker, Limiting) else ()
        return replace(
            told,
            resting=queue in resting or where.queue in resting,
            depth=next((one for one in depths if one.queue == queue), None),
            use=next((one for one in uses if one.key == where.limit), None),
            predecessors=self._find_predecessors(where.missing, broker, backend),
        )

    def _public_name(self, queue: str) -> str:
        """The broadcast queue before a worker's own, or the queue itself."""
        names = broadcast_names(self._settings.task_queues)
        return next((one for one in names if queue.startswith(private_queue(one, ""))), queue)

    def _judge(
        self, task_id: str, where: Whereabouts | None, broker: Broker
    ) -> tuple[Judgement | None, str]:
        if where is None:
            return None, ""
        kept = where.kept
        found: Found | None = Found(where.queue, task_id)
        if kept is not None:
            found = find_kept(kept, consumed=(), again="")
        if found is None:
            return None, "it is one of Celery's, which the bridge judges by its fence"
        # A claimed or kept message may have its mark already; only one that waits can be a copy.
        waits = where.place in (Place.READY, Place.SCHEDULED) and where.attempt == 0
        memory = memory_of(broker) if waits else None
        try:
            return Judge(self._settings, clock=self._clock).judge(where.frame, found, memory), ""
        except CardoonError as error:
            return None, str(error)

    def _ending(self, backend: ResultBackend | None, task_id: str) -> Ending:
        if backend is None or listening(backend) is not None:
            return Ending()
        sealed = backend.load([task_id]).get(task_id)
        if sealed is None:
            return Ending()
        try:
            return Ending(self._open_result(sealed.frame, task_id))
        except RefusedError as error:
            return Ending(refused=error)

    def _open_result(self, frame: bytes, task_id: str) -> Report:
        gate = self._deployment.result_gate()
        return report_of(gate.open(frame, kind=Kind.RESULT, id=task_id))

    def _is_revoked(self, broker: Broker, task_id: str, judgement: Judgement | None) -> bool:
        """Whether a revocation that holds now is about it, by its id or by a stamp."""
        if not isinstance(broker, Broadcaster):
            return False
        gate = self._deployment.make_gate(self._settings.accept_content)
        stamps = _stamps_of(judgement)
        return any(self._covers(gate, frame, task_id, stamps) for _, frame in broker.heard(0))

    def _covers(self, gate: Gate, frame: bytes, task_id: str, stamps: object) -> bool:
        try:
            revocation, until = open_revocation(
                gate, frame, max_bytes=self._settings.message_max_bytes
            )
        except RefusedError:
            return False
        if task_id in revocation.task_ids:
            return True
        wanted = RevokedStamps()
        wanted.add(revocation.stamps, until=until)
        return bool(revocation.stamps) and wanted.covers(stamps)

    def _find_predecessors(
        self, names: Sequence[str], broker: Broker, backend: ResultBackend | None
    ) -> tuple[Predecessor, ...]:
        finder = broker.companion if isinstance(broker, Accompanied) else broker
        places = finder.find(names) if names and isinstance(finder, Findable) else {}
        found = []
        for name in names:
            report = self._ending(backend, name).report if name not in places else None
            found.append(Predecessor(name, places.get(name), report.state if report else ""))
        return tuple(found)


def _stamps_of(judgement: Judgement | None) -> object:
    claims = judgement.explanation.claims if judgement is not None else None
    if claims is None:
        return None
    try:
        return parse_headers(claims.headers).get("stamps")
    except RefusedError:
        return None


def _tracer_of(broker: Broker) -> Traceable | None:
    """Who can be asked for a message: the broker, or what keeps its loans."""
    found: Broker = broker.companion if isinstance(broker, Accompanied) else broker
    return found if isinstance(found, Traceable) else None


def _find_blindness(broker: Broker, tracer: Traceable | None) -> str:
    if isinstance(broker, Accompanied):
        return (
            "RabbitMQ cannot be asked for a message by its id: one that waits in its queues is seen only "
            "when a worker takes it (`cardoon queues` counts them)"
        )
    return "" if tracer is not None else "this broker cannot be asked for messages by id"
