"""The ledger: signs what has happened and writes it, as few transactions as the stores allow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from cardoon import states
from cardoon.audit import REFUSAL_EVENTS, AuditLog
from cardoon.backend import ResultBackend, SealedResult, listening
from cardoon.broker import (
    Ack,
    Broker,
    Completion,
    Outcome,
    Outgoing,
    Quarantine,
    Transactional,
)
from cardoon.clock import Clock
from cardoon.drafting import call_draft, outgoing_of
from cardoon.exceptions import InvalidTaskError, Refusal
from cardoon.security.replay import ReplayGuard
from cardoon.security.signing import Signer
from cardoon.sender import Call, Receipt, receipts_of
from cardoon.worker.concluding import Conclusion, ResultState, answer_seal, result_draft
from cardoon.worker.curating import Curator
from cardoon.worker.held import Held
from cardoon.worker.leasebook import LeaseBook
from cardoon.worker.origins import on_behalf_of

logger = logging.getLogger(__name__)

OnSent = Callable[[Sequence[Call], Mapping[str, str]], None]
"""Told what tasks have sent, and who stands in for what was not unique."""
PUBLISH_TIMEOUT = 10.0
"""Seconds for successors that cannot be part of a transaction."""
SIGN_TIMEOUT = 2.0
"""Seconds for results, by a key that lies elsewhere; then the settler says so, and goes on trying."""


class Ledger:
    """Writes for one worker. Used by one thread."""

    def __init__(
        self,
        *,
        broker: Broker,
        backend: ResultBackend | None,
        shared_store: bool,
        task_signer: Signer,
        result_signer: Signer,
        audit: AuditLog,
        clock: Clock,
        worker: str,
        result_expires: float | None,
        broadcasts: Collection[str] = (),
        book: LeaseBook | None = None,
        curator: Curator | None = None,
        on_sent: OnSent | None = None,
    ) -> None:
        self._broker = broker
        self._backend = backend
        self._mailbox = listening(backend)
        self._shared_store = shared_store
        self._task_signer = task_signer
        self._result_signer = result_signer
        self._audit = audit
        self._clock = clock
        self._worker = worker
        self._result_expires = result_expires
        self._broadcasts = broadcasts
        self._book = book
        self._curator = curator
        self._on_sent = on_sent

    def publish(self, calls: Sequence[Call], *, timeout: float) -> Sequence[Receipt]:
        """Sign and publish calls of task code, as this worker; return their receipts."""
        reply = None if self._mailbox is None else self._mailbox.listen(timeout=timeout)
        signed = self._task_signer.sign(
            [call_draft(call, reply) for call in calls], timeout=timeout
        )
        outgoing = outgoing_of(calls, signed, self._broker, self._broadcasts)
        stand_ins = self._broker.publish(outgoing, timeout=timeout)
        if self._on_sent is not None:
            self._on_sent(calls, stand_ins)
        return receipts_of(calls, [one.request for one in signed], stand_ins)

    @property
    def keeps_results(self) -> bool:
        """Whether results are kept for clients."""
        return self._backend is not None

    def seal(self, results: Sequence[tuple[Held, ResultState]]) -> list[SealedResult]:
        """Sign results, as one batch."""
        now = self._clock.now()
        drafts = [
            result_draft(held, result, worker=self._worker, now=now, expires=self._result_expires)
            for held, result in results
        ]
        expires = None if self._result_expires is None else now + self._result_expires
        signed = self._result_signer.sign(drafts, timeout=SIGN_TIMEOUT)
        return [
            SealedResult(
                held.id,
                one.frame,
                states.is_final(result.state),
                expires,
                held.message.claims.reply,
            )
            for (held, result), one in zip(results, signed, strict=True)
        ]

    def completion(
        self, held: Held, conclusion: Conclusion, sealed: SealedResult | None
    ) -> Completion:
        """A conclusion as what the broker completes; `sealed` is its result, signed."""
        outgoing: tuple[Outgoing, ...] = ()
        if conclusion.calls:
            calls = on_behalf_of(conclusion.calls, [held])
            # What takes a message's place is answered where that was to be.
            reply = held.message.claims.reply
            seal = answer_seal(held.message)
            drafts = [call_draft(call, reply)._replace(seal=seal) for call in calls]
            signed = self._task_signer.sign(drafts, timeout=SIGN_TIMEOUT)
            sent = outgoing_of(calls, signed, self._broker, self._broadcasts)
            outgoing = tuple(_in_its_place(one, held) for one in sent)
        outcome = None
        if sealed is not None and sealed.final and held.is_awaited:
            succeeded = conclusion.result is not None and conclusion.result.state == states.SUCCESS
            outcome = Outcome(sealed.frame, succeeded, skipped=conclusion.skipped)
        kept = sealed if conclusion.keep and self.keeps_results else None
        return Completion(conclusion.settlement, kept, outgoing, held.message.nonce, outcome)

    def store_states(self, told: Sequence[SealedResult | None]) -> None:
        """Store how far tasks are."""
        kept = [one for one in told if one is not None]
        if kept and self._backend is not None:
            self._backend.store(kept)

    def complete(self, completions: Sequence[Completion]) -> None:
        """End loans, with all that belongs to each; one whose lease was lost has no effect."""
        if not completions:
            return
        if self._shared_store and isinstance(self._broker, Transactional):
            effective = self._broker.complete(completions)
        else:
            effective = self._complete_apart(completions)
        if self._curator is not None:
            self._curator.note(completions)
        if self._book is not None:
            self._book.strike(one.settlement.delivery for one in completions)
        for one, took in zip(completions, effective, strict=True):
            if not took:
                delivery = one.settlement.delivery
                logger.warning("the lease on task %s was lost; its outcome is dropped", delivery.id)
                self._audit.record("task.lease_lost", task_id=delivery.id, queue=delivery.queue)

    def write_apart(self, completions: Sequence[Completion]) -> None:
        """Results and successors alone, of messages that were acknowledged before they ran."""
        # Each takes the place of a message that has ended, so none may be turned away.
        outgoing = [sent._replace(unique=None) for one in completions for sent in one.publish]
        if outgoing:
            self._broker.publish(outgoing, timeout=PUBLISH_TIMEOUT)
        self.store_states([one.result for one in completions])

    def note_refusal(self, held: Held, conclusion: Conclusion) -> None:
        """Audit a conclusion that is a refusal: before its sender is told of it."""
        settlement = conclusion.settlement
        if isinstance(settlement, Quarantine):
            self._audit.record(
                REFUSAL_EVENTS[Refusal(settlement.reason)],
                kind="task",
                task=held.task,
                task_id=held.id,
                reason=settlement.reason,
                detail=settlement.detail,
                queue=settlement.delivery.queue,
            )

    def note_end(self, held: Held, conclusion: Conclusion) -> None:
        """Audit any other conclusion that is worth a record: once it holds."""
        if conclusion.event and not isinstance(conclusion.settlement, Quarantine):
            self._audit.record(
                conclusion.event, task=held.task, task_id=held.id, detail=conclusion.detail
            )

    def _complete_apart(self, completions: Sequence[Completion]) -> Sequence[bool]:
        """Without a common transaction: successors, results, replay marks, and the settlement last.

        A crash between two of these leaves a redelivery that does the rest again; the first final
        result stays, and successors have ids of their own.
        """
        if isinstance(self._broker, Transactional):
            # What takes a message's place has its id, and is no copy only in the step that ends it.
            self.store_states([one.result for one in completions])
            return self._broker.complete([one._replace(result=None) for one in completions])
        self.write_apart(completions)
        nonces = [one.nonce for one in completions if one.nonce and isinstance(one.settlement, Ack)]
        if nonces and isinstance(self._broker, ReplayGuard):
            self._broker.finish(nonces)
        return self._broker.settle([one.settlement for one in completions])


def _in_its_place(sent: Outgoing, held: Held) -> Outgoing:
    """A message that takes the place of a worker's own copy is that worker's, too, and no other's."""
    if held.broadcast is None:
        return sent
    if any(one.id == held.id for one in sent.after):
        raise InvalidTaskError(
            f"{held.task}: it was broadcast and ends once in every worker, so nothing can wait for what "
            "takes its place; replace it without callbacks"
        )
    if sent.id != held.id:
        return sent
    if sent.queue == held.broadcast:
        sent = sent._replace(queue=held.delivery.queue, fanout=False)
    return sent._replace(id=held.delivery.id)
