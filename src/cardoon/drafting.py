"""From calls to what is signed of them, and to what a broker is told besides."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from cardoon.broker import Broker, Limiting, Outgoing, Predecessor, Subscribing, Trigger
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError
from cardoon.message.protocol import Kind, Take
from cardoon.security.signing import Draft, Signed
from cardoon.sender import Call


def call_draft(call: Call, reply: str | None = None) -> Draft:
    """What is signed of a call; `reply` is where its sender listens for the result."""
    # By place, since this runs for every message and names would double its cost.
    draft = Draft(
        Kind.TASK,
        call.task,
        call.id,
        ("q:" + call.queue,),
        call.codec,
        call.body,
        call.root,
        call.parent,
        call.group,
        None if call.eta is None else int(call.eta * 1000),
        None if call.expires is None else int(call.expires * 1000),
        call.retries,
        call.max_retries,
        call.headers,
        call.request,
        take=call.take,
        after=call.after,
        reply=reply,
    )
    tick = call.tick
    if tick is None:
        return draft
    return draft._replace(session=tick.session, sequence=tick.sequence, until=tick.until)


def outgoing_of(
    calls: Sequence[Call],
    signed: Sequence[Signed],
    broker: Broker,
    broadcasts: Collection[str] = (),
) -> list[Outgoing]:
    """What this broker is told of calls that were signed together.

    `broadcasts` are the queues of which each worker gets a copy. Raises `ImproperlyConfigured` for
    what the broker cannot do, and `InvalidTaskError` for what cannot be broadcast.
    """
    outgoing = []
    for call, one in zip(calls, signed, strict=True):
        message = Outgoing(call.queue, call.id, one.frame, call.priority, call.eta)
        if call.after:
            trigger = Trigger.FAILURE if call.take is Take.FAILURE else Trigger.SUCCESS
            after = tuple(Predecessor(calls[at].id, signed[at].request) for at in call.after)
            message = message._replace(after=after, trigger=trigger, delay=call.delay)
        unique = call.unique
        if unique is None and call.tick is not None and call.queue not in broadcasts:
            unique = call.tick.claim if isinstance(broker, Limiting) else None
        if unique is not None or call.limit is not None:
            if not isinstance(broker, Limiting):
                raise ImproperlyConfigured(
                    f"{call.task}: this broker can keep no task unique, and no limit over all "
                    "workers; use sqlite:///, redis:// or postgresql://, or leave unique, concurrency_limit and "
                    "cluster_rate_limit out"
                )
            message = message._replace(unique=unique, limit=call.limit)
        if call.queue in broadcasts:
            _check_broadcast(call, broker)
            message = message._replace(fanout=True)
        outgoing.append(message)
    return outgoing


def _check_broadcast(call: Call, broker: Broker) -> None:
    """Many copies are no step of anything, and nothing that is counted."""
    if not isinstance(broker, Subscribing):
        raise ImproperlyConfigured(
            f"{call.task}: queue {call.queue!r} is a Broadcast, and this broker keeps no copies for "
            "each worker; use sqlite:///, redis://, postgresql:// or amqp://, or another queue"
        )
    if call.unique is not None or call.limit is not None:
        raise InvalidTaskError(
            f"{call.task}: a task of the broadcast queue {call.queue!r} runs in every worker, so it "
            "has no unique, concurrency_limit or cluster_rate_limit; leave them out, or use another "
            "queue"
        )
    if call.after or (call.headers and json.loads(call.headers).get("links")):
        raise InvalidTaskError(
            f"{call.task}: a task of the broadcast queue {call.queue!r} ends once in every worker, so "
            "it can neither wait for another nor be waited for; send it alone, or use another queue"
        )
