"""Eventing: tells of the worker and its tasks by events, as Celery's workers do.

It is told of batches, by the threads that have them: what they pay, where task events are off, is a look
at a flag. Bodies are never decoded for it, so arguments and results are hidden, and of exceptions those
are told that are the worker's own words.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cardoon import __version__, states
from cardoon.broker import Broker, Cause, DeadLetter, Quarantine, Requeue
from cardoon.clock import Clock
from cardoon.deployment import Deployment
from cardoon.events import HIDDEN, EventDispatcher, make_dispatcher
from cardoon.events.sending import iso, sent_event
from cardoon.exceptions import Refusal
from cardoon.posting import Posting
from cardoon.sandbox.violations import Violation
from cardoon.sender import Call
from cardoon.worker.concluding import EXPIRED, REJECT_DELAY, REVOKED, Conclusion
from cardoon.worker.held import Held, HeldTable
from cardoon.worker.notices import MAX_DETAIL, signal_number
from cardoon.worker.standing import Standing

logger = logging.getLogger(__name__)

NO_CARRIER = "this broker carries no events"
_GROUPS = frozenset({"worker", "message"})
"""What is told in any case; `task` is told where somebody asks for it."""


class WorkerEvents:
    """The events of one worker. Safe from threads; a `Watcher`, and a `Chore` of the keeper's.

    Without a dispatcher, where the broker carries no events, it tells nobody anything.
    """

    def __init__(
        self,
        dispatcher: EventDispatcher | None,
        *,
        held: HeldTable,
        clock: Clock,
        concurrency: int,
        heartbeat: float | None,
        tells_sends: bool,
    ) -> None:
        self._dispatcher = dispatcher
        self._held = held
        self._clock = clock
        self._concurrency = concurrency
        self._heartbeat = heartbeat
        self._tells_sends = tells_sends
        self._processed = 0
        self._is_online = False
        self.tells_tasks = False
        """Whether task events are on."""
        self.standing: Callable[[], Standing | None] = lambda: None
        """Where the worker stands with its baseline; None without one."""
        if dispatcher is not None:
            dispatcher.beat = self.describe

    @property
    def switch(self) -> WorkerEvents | None:
        """Itself, for commands that change what it tells; None where it can tell nobody anything."""
        return None if self._dispatcher is None else self

    def enable(self) -> bool:
        """Tell of tasks from now on; whether that is new."""
        if self._dispatcher is None or self.tells_tasks:
            return False
        self._dispatcher.groups = _GROUPS | {"task"}
        self.tells_tasks = True
        return True

    def disable(self) -> bool:
        """Tell of tasks no more; whether that is new."""
        if self._dispatcher is None or not self.tells_tasks:
            return False
        self.tells_tasks = False
        self._dispatcher.groups = _GROUPS
        return True

    def beat(self) -> None:
        """Send a heartbeat now."""
        if self._dispatcher is not None:
            self._dispatcher.beat_now()

    def describe(self) -> Mapping[str, Any]:
        """The fields of a heartbeat."""
        standing = self.standing()
        return {
            **self._software(),
            **({} if standing is None else standing.to_event()),
            "active": min(len(self._held), self._concurrency),
            "processed": self._processed,
            "loadavg": [round(one, 2) for one in os.getloadavg()],
        }

    # A Chore

    def look(self) -> None:
        """Say, once, that it is online; the dispatcher's thread does the rest."""
        if self._dispatcher is not None and not self._is_online:
            self._is_online = True
            self._dispatcher.start()
            self._dispatcher.publish("worker-online", self._software())

    def end(self) -> None:
        """Say that it stops, and send what is left, within about two seconds."""
        if self._dispatcher is not None and self._is_online:
            self._dispatcher.publish("worker-offline", self._software())
            self._dispatcher.close()

    # A Watcher

    def received(self, ready: Sequence[Held]) -> None:
        """Tell that these will run, and have it told when they begin."""
        if not self.tells_tasks:
            return
        now = self._clock.now()
        for held in ready:
            held.on_begun = self._begun
        self._put([_received(held, now) for held in ready])

    def ended(self, ends: Sequence[tuple[Held, Conclusion]]) -> None:
        """Tell how these ended."""
        self._processed += len(ends)
        if not self.tells_tasks:
            return
        now, ticks = self._clock.now(), self._clock.monotonic()
        told = (_ended(held, conclusion, ticks) for held, conclusion in ends)
        self._put([{"timestamp": now, **one} for one in told if one is not None])

    def refused(self, queue: str, reason: Refusal) -> None:
        """Tell that a message was refused: where it lay, and why. What it says of itself stays here."""
        now = self._clock.now()
        told = {"type": "message-refused", "timestamp": now, "queue": queue, "reason": reason.value}
        self._put([told])

    # Others that are told

    def sent(self, calls: Sequence[Call], stand_ins: Mapping[str, str]) -> None:
        """Tell of what tasks have sent, where `task_send_sent_event` wants that."""
        if self._tells_sends:
            now = self._clock.now()
            self._put([sent_event(call, now) for call in calls if call.id not in stand_ins])

    def violated(self, held: Held, found: Violation) -> None:
        """Tell what a sandbox has refused a task; the details are in the audit trail."""
        if self.tells_tasks:
            told = {"uuid": held.id, "name": held.task, "rule": found.rule}
            more = {"by": found.by, "count": found.count}
            now = self._clock.now()
            self._put([{"type": "task-violation", "timestamp": now, **told, **more}])

    def _begun(self, key: int) -> None:
        """A job has begun; called by the thread that supervises processes, with its lock."""
        held = self._held.get(key)
        if held is not None:
            held.begun_at = self._clock.monotonic()
            now = self._clock.now()
            self._put([{"type": "task-started", "timestamp": now, "uuid": held.id}])

    def _put(self, events: Sequence[dict[str, Any]]) -> None:
        if self._dispatcher is not None:
            self._dispatcher.put(events)

    def _software(self) -> dict[str, Any]:
        return {
            "freq": self._heartbeat or 0.0,
            "sw_ident": "cardoon",
            "sw_ver": __version__,
            "sw_sys": platform.system(),
        }


def make_worker_events(
    deployment: Deployment,
    broker: Broker,
    held: HeldTable,
    heartbeat: float | None,
    *,
    worker: str,
    concurrency: int,
) -> WorkerEvents:
    """The events of a worker; `ImproperlyConfigured` where they are asked for and cannot be sent."""
    settings = deployment.settings
    dispatcher = None
    if isinstance(broker, Posting) or settings.worker_send_task_events:
        dispatcher = make_dispatcher(
            deployment, broker, hostname=worker, groups=_GROUPS, heartbeat=heartbeat
        )
    else:
        logger.info("events: %s; nobody is told that this worker is alive", NO_CARRIER)
    events = WorkerEvents(
        dispatcher,
        held=held,
        clock=deployment.clock,
        concurrency=concurrency,
        heartbeat=heartbeat,
        tells_sends=settings.task_send_sent_event,
    )
    if settings.worker_send_task_events:
        events.enable()
    return events


def _received(held: Held, now: float) -> dict[str, Any]:
    claims = held.message.claims
    return {
        "type": "task-received",
        "timestamp": now,
        "uuid": claims.id,
        "name": claims.task,
        "args": HIDDEN,
        "kwargs": HIDDEN,
        "retries": held.retries,
        "eta": _iso(claims.eta),
        "expires": _iso(claims.expires),
        "root_id": claims.root or claims.id,
        "parent_id": claims.parent,
        "queue": held.queue,
    }


def _ended(held: Held, conclusion: Conclusion, ticks: float) -> dict[str, Any] | None:
    """The event of an end; None for what is put back without anybody's fault."""
    settlement, result = conclusion.settlement, conclusion.result
    uuid = {"uuid": held.id}
    if conclusion.event == REVOKED:
        return {
            "type": "task-revoked",
            **uuid,
            "terminated": bool(conclusion.signal),
            "signum": signal_number(conclusion.signal),
            "expired": conclusion.detail == EXPIRED,
        }
    if isinstance(settlement, Requeue):
        return _put_back(uuid, conclusion, settlement)
    state = "" if result is None else result.state
    if state == states.SUCCESS or (result is None and not conclusion.calls):
        begun = held.taken_at if held.begun_at is None else held.begun_at
        runtime = round(ticks - begun, 6)
        return {"type": "task-succeeded", **uuid, "result": HIDDEN, "runtime": runtime}
    if state == states.RETRY or any(_is_again(call, held) for call in conclusion.calls):
        return {"type": "task-retried", **uuid, **_error(conclusion)}
    if state == states.FAILURE:
        return {"type": "task-failed", **uuid, **_error(conclusion)}
    if isinstance(settlement, (DeadLetter, Quarantine)):
        return {"type": "task-rejected", **uuid, "requeue": False}
    return {"type": "task-ignored", **uuid} if state == states.IGNORED else None


def _put_back(
    uuid: Mapping[str, str], conclusion: Conclusion, settlement: Requeue
) -> dict[str, Any] | None:
    match settlement.cause:
        case Cause.RETRIED:
            return {"type": "task-retried", **uuid, **_error(conclusion)}
        case Cause.CRASHED:
            return {"type": "task-rejected", **uuid, "requeue": True}
        case Cause.RELEASED if settlement.delay == REJECT_DELAY:
            return {"type": "task-rejected", **uuid, "requeue": True}
        case _:
            return None


def _is_again(call: Call, held: Held) -> bool:
    """Whether a call is the next try of what has run; a canvas in its place has as many retries."""
    return call.id == held.id and call.retries > held.retries


def _error(conclusion: Conclusion) -> dict[str, str]:
    """What is told of an exception: that of the worker's own, and else that there is one."""
    unseen = conclusion.unseen
    told = HIDDEN if unseen is None else f"{unseen[0]}({unseen[1][:MAX_DETAIL]!r})"
    return {"exception": told, "traceback": HIDDEN if unseen is None else ""}


def _iso(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else iso(milliseconds / 1000)
