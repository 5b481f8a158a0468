"""Producer: the Sender of a process that holds a key and a connection of its own."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from cardoon import states
from cardoon.audit import REFUSAL_EVENTS
from cardoon.backend import ResultBackend, SealedResult, listening
from cardoon.broker import Broadcaster, Broker, Inspectable, Outgoing
from cardoon.commanding import Commander
from cardoon.deployment import Deployment
from cardoon.drafting import call_draft, outgoing_of
from cardoon.events import EventDispatcher, client_name, make_dispatcher
from cardoon.events.sending import sent_event
from cardoon.exceptions import (
    ImproperlyConfigured,
    InvalidTaskError,
    Refusal,
    RefusedError,
)
from cardoon.gathering import GroupCommit
from cardoon.lookup import Findable
from cardoon.message.headers import parse_headers
from cardoon.message.protocol import EVERY_WORKER, REVOKE, REVOKE_BY_STAMPS, Kind
from cardoon.message.requests import bind_name
from cardoon.message.serializers import JSON, encode_body
from cardoon.pending import Pending
from cardoon.queues import broadcast_names
from cardoon.security.gate import Gate, VerifiedMessage
from cardoon.security.signing import Draft, Signed
from cardoon.sender import (
    Answer,
    Call,
    Handle,
    Order,
    Receipt,
    Refused,
    Report,
    Revocation,
    receipts_of,
)

logger = logging.getLogger(__name__)

NEVER_EXPIRES = 10 * 366 * 86400.0
"""Seconds for which a result is valid that is to be kept for ever."""
_GROUP = "cardoon.group"
RESULTS = "results"
"""Where a refused result says it came from, in the quarantine."""
BRIDGED = "celery:"
"""Before the name of a queue of Celery's, where a bridge says what a refused message came from."""
SECOND_LOOK = 2.0
"""Seconds after which a result of an unknown signer is refused for good."""
_PAUSE_AFTER_REFUSAL = 0.25
_MAX_DOUBTED = 10_000


class Producer:
    """Signs and publishes calls, and opens results. Safe from threads; not carried over a fork.

    `stores` are a broker and a result backend that are open already, and someone else's to close.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        stores: tuple[Broker, ResultBackend | None] | None = None,
    ) -> None:
        self.deployment = deployment
        self.audit = deployment.audit()
        if stores is None:
            self._broker = deployment.open_broker()
            self._backend = deployment.open_backend(self._broker)
        else:
            self._broker, self._backend = stores
        self._mailbox = listening(self._backend)
        self._signer = deployment.make_signer(deployment.settings.task_serializer)
        self._broadcasts = broadcast_names(deployment.settings.task_queues)
        self._commits = GroupCommit(self._publish)
        self._events = self._make_dispatcher()
        self._gate: Gate | None = None
        self._doubted: dict[str, float] = {}
        self._unreadable: set[Handle] = set()

    @property
    def stores(self) -> tuple[Broker, ResultBackend | None]:
        """The broker and the result backend, for a worker in the same process."""
        return self._broker, self._backend

    def send(self, calls: Sequence[Call], *, timeout: float) -> Sequence[Receipt]:
        """Sign and publish; see `Sender.send`."""
        return self._commits.commit(calls, timeout=timeout) if calls else []

    def sign(self, calls: Sequence[Call]) -> Sequence[tuple[Outgoing, bytes]]:
        """Sign without publishing; see `Postponing`."""
        signed = self._sign(calls, self.deployment.settings.task_publish_timeout)
        requests = [one.request for one in signed]
        return list(
            zip(outgoing_of(calls, signed, self._broker, self._broadcasts), requests, strict=True)
        )

    def publish(self, outgoing: Sequence[Outgoing], *, timeout: float) -> None:
        """Publish what was signed before; see `Postponing`."""
        self._broker.publish(outgoing, timeout=timeout)

    def load(self, handles: Sequence[Handle]) -> Mapping[str, Report]:
        """The present states; see `Sender.load`."""
        found = self._need_backend().load([handle.task_id for handle in handles])
        reports = (
            self._open(found[handle.task_id], handle)
            for handle in handles
            if handle.task_id in found
        )
        return {report.task_id: report for report in reports if report is not None}

    def wait(self, handles: Collection[Handle], *, timeout: float | None) -> Iterator[Report]:
        """Final results as they come; see `Sender.wait`.

        A collection other than a list or tuple is read anew at each wake-up, so it may grow; whoever
        owns it takes out what has come.
        """
        backend = self._need_backend()
        clock = self.deployment.clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        pending = Pending(handles)
        while True:
            left = None if deadline is None else max(0.0, deadline - clock.monotonic())
            refused = False
            for sealed in backend.wait(pending.ids(), timeout=left):
                report = self._open(sealed, pending.handle(sealed.task_id))
                if report is None:
                    refused = True
                    break  # so that it is looked at again, though others are still waited for
                pending.finish(report.task_id)
                yield report
            if not refused or (deadline is not None and clock.monotonic() >= deadline):
                return
            time.sleep(_PAUSE_AFTER_REFUSAL)

    def report_unreadable(self, handle: Handle, report: Report, error: RefusedError) -> None:
        """Put away, once, a result that somebody trusted has signed and nobody can read; see `Objecting`.

        It stays where it is: whoever else asks for it is to hear of it as well, instead of waiting.
        """
        if handle in self._unreadable:
            return
        if len(self._unreadable) > _MAX_DOUBTED:
            self._unreadable.clear()
        self._unreadable.add(handle)
        sealed = self._need_backend().load([handle.task_id]).get(handle.task_id)
        # What lies there may be another one by now.
        if sealed is not None and self._open(sealed, handle) == report:
            self._keep(sealed, error)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete results."""
        self._need_backend().forget(task_ids)

    def revoke(self, revocation: Revocation) -> None:
        """Broadcast a signed revocation."""
        broker = self._broker
        if not isinstance(broker, Broadcaster):
            raise ImproperlyConfigured("revoke: this broker cannot reach every worker")
        draft = revocation_draft(revocation)
        [signed] = self._signer.sign([draft])
        now = self.deployment.clock.now()
        broker.broadcast(signed.frame, expires_at=now + self.deployment.settings.security_max_age)
        if revocation.stamps:
            self.audit.record("operator.revoke", stamps=",".join(sorted(revocation.stamps)[:5]))
        else:
            self.audit.record("operator.revoke", tasks=",".join(revocation.task_ids[:5]))

    def command(self, order: Order) -> None:
        """Command workers; see `Commanding`."""
        self._commander().tell(order)

    def ask(
        self, order: Order, *, timeout: float, limit: int | None = None
    ) -> Iterator[Answer | Refused]:
        """Command workers and hear what they answer; see `Commanding`."""
        return self._commander().ask(order, timeout=timeout, limit=limit)

    def _commander(self) -> Commander:
        settings = self.deployment.settings
        return Commander(
            broker=self._broker,
            signer=self._signer,
            gate=self.deployment.make_gate(settings.accept_content),
            audit=self.audit,
            clock=self.deployment.clock,
            max_age=settings.security_max_age,
        )

    def find(self, task_ids: Sequence[str]) -> Mapping[str, str]:
        """Where messages lie; see `Finder`."""
        if not isinstance(self._broker, Findable):
            raise InvalidTaskError("whereabouts: this broker cannot be asked for messages by id")
        return {name: place.value for name, place in self._broker.find(task_ids).items()}

    def purge(self) -> int:
        """Delete what waits in every queue."""
        broker = self._broker
        if not isinstance(broker, Inspectable):
            raise ImproperlyConfigured("purge: this broker cannot be looked into")
        queues = [depth.queue for depth in broker.depths()]
        count = sum(broker.purge(queue) for queue in queues)
        self.audit.record("operator.purge", queues=",".join(queues), count=count)
        return count

    def save_group(self, group_id: str, codec: str, body: bytes) -> None:
        """Sign and store what a group consists of; see `GroupKeeper`."""
        self._check_keeps("GroupResult.save")
        settings = self.deployment.settings
        now = self.deployment.clock.now()
        expires = settings.result_expires
        told = {"state": states.SUCCESS, "done": round(now, 6)}
        draft = Draft(
            kind=Kind.RESULT,
            task=_GROUP,
            id=group_id,
            audience=(),
            codec=codec,
            body=body,
            headers=json.dumps(told).encode(),
            request=_group_request(group_id),
            lifetime=NEVER_EXPIRES if expires is None else expires,
            seal=self.deployment.encrypting().seal(),
        )
        [signed] = self.deployment.make_signer(settings.result_serializer).sign([draft])
        until = None if expires is None else now + expires
        self._need_backend().store([SealedResult(group_id, signed.frame, True, until)])

    def load_group(self, group_id: str) -> Report | None:
        """What was saved under the id."""
        self._check_keeps("GroupResult.restore")
        return self.load([group_handle(group_id)]).get(group_id)

    def update_state(self, task_id: str, state: str, codec: str, body: bytes) -> None:  # noqa: ARG002
        """Refused: a state is signed for the message that it belongs to, which a worker holds."""
        raise InvalidTaskError(
            f"update_state: task {task_id} ({state}) does not run here; only the worker that runs a "
            "task can sign its state"
        )

    def close(self) -> None:
        """Let go of the connections; safe twice."""
        if self._events is not None:
            self._events.close()
        if self._backend is not None:
            self._backend.close()
        self._broker.close()
        self.audit.close()

    def _make_dispatcher(self) -> EventDispatcher | None:
        """What tells that tasks were sent, where that is wanted; a worker has one of its own."""
        if not self.deployment.settings.task_send_sent_event or self.deployment.role == "worker":
            return None
        return make_dispatcher(self.deployment, self._broker, hostname=client_name())

    def _publish(self, calls: Sequence[Call], timeout: float) -> Sequence[Receipt]:
        clock = self.deployment.clock
        deadline = clock.monotonic() + timeout
        signed = self._sign(calls, timeout)
        outgoing = outgoing_of(calls, signed, self._broker, self._broadcasts)
        left = max(0.0, deadline - clock.monotonic())
        stand_ins = self._broker.publish(outgoing, timeout=left)
        if self._events is not None:
            now = clock.now()
            told = [sent_event(call, now) for call in calls if call.id not in stand_ins]
            self._events.put(told)
        return receipts_of(calls, [one.request for one in signed], stand_ins)

    def _sign(self, calls: Sequence[Call], timeout: float) -> Sequence[Signed]:
        """Results may come as soon as a call is sent, so the way to us must be open before."""
        reply = None if self._mailbox is None else self._mailbox.listen(timeout=timeout)
        return self._signer.sign([call_draft(call, reply) for call in calls], timeout=timeout)

    def _check_keeps(self, what: str) -> None:
        if self._mailbox is not None:
            raise ImproperlyConfigured(
                f"{what}: result_backend is rpc://, which keeps nothing; use one that keeps results, such as "
                "redis:// or postgresql://"
            )

    def _need_backend(self) -> Any:
        if self._backend is None:
            raise ImproperlyConfigured("result_backend is not set, so results are kept nowhere")
        return self._backend

    def _open(self, sealed: SealedResult, handle: Handle) -> Report | None:
        if self._gate is None:
            self._gate = self.deployment.result_gate()
        try:
            message = self._gate.open(
                sealed.frame, kind=Kind.RESULT, id=handle.task_id, request=handle.request
            )
            _check_is_result(message, handle)
            return open_report(self._gate, message)
        except RefusedError as error:
            match error.reason:
                case Refusal.UNKNOWN_SIGNER:
                    final = self._was_doubted(sealed.task_id)
                case Refusal.WRONG_REQUEST:
                    final = not self._answers_another(sealed, handle)
                case _:
                    final = True
            if final:
                self._refuse(sealed, error)
            return None

    def _answers_another(self, sealed: SealedResult, handle: Handle) -> bool:
        """Whether it is the true answer to another message with this id, for its sender to find.

        That is what the second of two sends with one id gets: its message was dropped as a copy.
        """
        try:
            self.deployment.result_gate().open(sealed.frame, kind=Kind.RESULT, id=handle.task_id)
        except RefusedError:
            return False
        logger.warning("task %s: the stored result answers another send of this id", handle.task_id)
        return True

    def _was_doubted(self, task_id: str) -> bool:
        """Whether an unknown signer has had time to become known: a worker may just have begun."""
        now = self.deployment.clock.monotonic()
        if len(self._doubted) > _MAX_DOUBTED:
            self._doubted.clear()
        return now - self._doubted.setdefault(task_id, now) >= SECOND_LOOK

    def _refuse(self, sealed: SealedResult, error: RefusedError) -> None:
        """Keep it for people to look at, and make room for the true one."""
        self._keep(sealed, error)
        self._need_backend().forget([sealed.task_id])

    def _keep(self, sealed: SealedResult, error: RefusedError) -> None:
        logger.warning("result of task %s refused: %s", sealed.task_id, error)
        self.audit.record(
            REFUSAL_EVENTS[error.reason],
            kind="result",
            task_id=sealed.task_id,
            reason=error.reason.value,
            detail=error.detail,
        )
        if isinstance(self._broker, Inspectable):
            self._broker.quarantine(
                queue=RESULTS,
                id=sealed.task_id,
                frame=sealed.frame,
                reason=error.reason.value,
                detail=error.detail,
            )


def _check_is_result(message: VerifiedMessage, handle: Handle) -> None:
    """A task may have a group of any name saved, and must not make a result of it by that."""
    if message.claims.task == _GROUP and handle != group_handle(handle.task_id):
        raise RefusedError(Refusal.WRONG_REQUEST, "what a group consists of is no task's result")


def group_handle(group_id: str) -> Handle:
    """The handle on what a group consists of.

    In the place of a message's digest: nobody asked for a group, and nothing else has this one.
    """
    return Handle(group_id, bind_name(Kind.RESULT, _GROUP, _group_request(group_id)))


def _group_request(group_id: str) -> bytes:
    return hashlib.sha256(b"cardoon/1/group\x00" + group_id.encode()).digest()


def revocation_draft(revocation: Revocation) -> Draft:
    """What is signed of a revocation."""
    which: dict[str, Any] = {"ids": list(revocation.task_ids)}
    if revocation.stamps:
        which = {"headers": dict(revocation.stamps)}
    return Draft(
        kind=Kind.CONTROL,
        task=REVOKE_BY_STAMPS if revocation.stamps else REVOKE,
        id=str(uuid.uuid4()),
        audience=revocation.destination or (EVERY_WORKER,),
        codec=JSON,
        body=encode_body(
            {**which, "terminate": revocation.terminate, "signal": revocation.signal}, JSON
        ),
    )


def open_report(gate: Gate, message: VerifiedMessage) -> Report:
    """What a verified result says, as far as this process can read it; `RefusedError` if it is bad."""
    try:
        return report_of(gate.unseal(message))
    except RefusedError as error:
        if error.reason is not Refusal.UNKNOWN_KEY:
            raise
        return report_of(message)._replace(body=b"", unreadable=error.detail)


def report_of(message: VerifiedMessage) -> Report:
    """What a verified result says."""
    claims = message.claims
    told = parse_headers(claims.headers)
    done = told.get("done")
    return Report(
        task_id=claims.id,
        state=str(told.get("state", states.PENDING)),
        codec=claims.codec,
        body=message.body,
        task=claims.task,
        done_at=float(done) if isinstance(done, (int, float)) and 0 <= done < 1e11 else None,
        retries=claims.retries or 0,
        worker=str(told.get("worker", "")),
        isolation=str(told.get("isolation", "")),
        violations=tuple(found) if isinstance(found := told.get("violations"), list) else (),
    )
