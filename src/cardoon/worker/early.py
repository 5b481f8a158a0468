"""Tasks that run once at most (`acks_late=False`): their messages are acknowledged before they begin."""

from __future__ import annotations

from collections.abc import Sequence

from cardoon.broker import Ack, Broker, Completion, Transactional
from cardoon.security.replay import ReplayGuard
from cardoon.worker.held import Held
from cardoon.worker.leasebook import LeaseBook


def acknowledge_early(
    ready: Sequence[Held], *, broker: Broker, guard: ReplayGuard, book: LeaseBook | None
) -> list[Held]:
    """Acknowledge those of a batch that want it; return what may begin: what was lost meanwhile may not."""
    early = [one for one in ready if not (one.rules.acks_late or one.is_kept_till_end)]
    if not early:
        return list(ready)
    completions = [Completion(Ack(one.delivery), nonce=one.message.nonce) for one in early]
    if isinstance(broker, Transactional):
        took = broker.complete(completions)
    else:
        guard.finish([one.message.nonce for one in early])
        took = broker.settle([one.settlement for one in completions])
    if book is not None:
        book.strike(one.delivery for one in early)
    for one, effective in zip(early, took, strict=True):
        one.settled = effective
    lost_meanwhile = {one.key for one in early if not one.settled}
    return [one for one in ready if one.key not in lost_meanwhile]
