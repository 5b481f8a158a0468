"""Replays: what was carried out once is offered again."""

from __future__ import annotations

import time

from attacks.makers import arguments, claims_of, encode, rebuilt, seal, task_claims
from attacks.matrix import attack
from attacks.raid import Raid
from cardoon.message.protocol import Label

COPIES = 5


@attack("replay")
def replayed_after_its_end(raid: Raid) -> None:
    """The client's message is offered again under its id when it was carried out."""
    sent, frame = raid.send_and_finish()
    raid.offer(frame, "replayed", id=sent.id)


@attack("replay")
def replayed_many_times(raid: Raid) -> None:
    """The same, again and again."""
    sent, frame = raid.send_and_finish()
    for _ in range(COPIES):
        raid.offer(frame, "replayed", id=sent.id)
        raid.site.comes_true(lambda: raid.store.waiting(sent.id) is None, 30)


@attack("replay")
def replayed_under_other_ids(raid: Raid) -> None:
    """The client's message is offered again under fresh ids."""
    _, frame = raid.send_and_finish()
    for _ in range(COPIES):
        raid.offer(frame, "wrong-id")


@attack("replay")
def replayed_on_another_queue(raid: Raid) -> None:
    """The client's message is offered again in another queue of the worker."""
    sent, frame = raid.send_and_finish()
    raid.offer(frame, "replayed", "wrong-audience", id=sent.id, priority=0)


@attack("replay")
def replayed_with_a_priority(raid: Raid) -> None:
    """The client's message is offered again as if it were urgent."""
    sent, frame = raid.send_and_finish()
    raid.store.offer(sent.id, frame, queue="celery", priority=5)
    raid.refused("replayed", id=sent.id, frame=frame)


@attack("replay")
def replayed_while_it_runs(raid: Raid) -> None:
    """A copy under another id while the original is running."""
    sent = raid.send(task="canary.slow", value=1.5, countdown=1.0)
    frame = raid.frame_of(sent.id)
    raid.site.comes_true(lambda: time.time() * 1000 > claims_of(frame)[Label.ETA] + 300, 10)
    raid.offer(frame, "wrong-id")


@attack("replay")
def failed_task_replayed(raid: Raid) -> None:
    """A task that failed is offered again."""
    sent, frame = raid.send_later(task="canary.fail")
    raid.site.comes_true(lambda: raid.site.runs(sent.token) and sent.result.ready(), 60)
    raid.offer(frame, "replayed", id=sent.id)


@attack("replay")
def replayed_with_another_signature(raid: Raid) -> None:
    """The client's claims again, under a signature by another trusted key that may send the task."""
    sent, frame = raid.send_and_finish()
    id = raid.id()
    claims = {**claims_of(frame), int(Label.ID): id}
    raid.offer(rebuilt(frame, claims=encode(claims)), "bad-signature", id=id)
    assert sent.id != id


@attack("replay")
def nonce_used_twice(raid: Raid) -> None:
    """A trusted client signs two messages with one nonce: one of them runs."""
    session = bytes(15) + b"\x07"
    first, second = raid.id(), raid.id()
    tokens = raid.token("either"), raid.token("either")
    frames = []
    for id, token in zip((first, second), tokens, strict=True):
        body = arguments(token)
        claims = task_claims(id, body, session=session, sequence=8191)
        frames.append(seal(raid.people.insider, claims, body))
    raid.insider_sends(first, tokens[0], frames[0])
    raid.site.comes_true(lambda: raid.site.runs(tokens[0]), 60)
    raid.site.comes_true(lambda: raid.store.waiting(first) is None, 60)
    raid.offer(frames[1], "replayed", id=second)


@attack("replay", alone=True)
def replayed_after_a_restart(raid: Raid) -> None:
    """The client's message is offered again to a worker that was started after its end."""
    sent, frame = raid.send_and_finish()
    raid.site.restart_worker()
    raid.offer(frame, "replayed", id=sent.id)


@attack(
    "replay",
    brokers=("sqlite", "postgres", "rabbitmq"),
    alone=True,
    limit="replay protection is as strong as the store",
)
def replay_marks_deleted(raid: Raid) -> None:
    """Who writes the store deletes its marks, and offers the client's message again."""
    sent, frame = raid.send_and_finish()
    raid.store.sql("DELETE FROM replay")
    raid.store.offer(sent.id, frame, queue="celery")
    raid.site.comes_true(lambda: len(raid.site.runs(sent.token)) > 1, 5)


@attack(
    "replay",
    name="replay_marks_deleted_redis",
    brokers=("redis",),
    alone=True,
    limit="replay protection is as strong as the store",
)
def replay_marks_deleted_in_redis(raid: Raid) -> None:
    """Who writes the store deletes its marks, and offers the client's message again."""
    sent, frame = raid.send_and_finish()
    for kind in ("seen", "held"):
        for key in raid.store.ask("KEYS", f".{kind}:*"):
            raid.store.ask("DEL", key)
    raid.store.offer(sent.id, frame, queue="celery")
    raid.site.comes_true(lambda: len(raid.site.runs(sent.token)) > 1, 5)
