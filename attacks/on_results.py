"""Results: what a client is told of its tasks by those who did not run them."""

from __future__ import annotations

import json
import os
import zlib

from attacks.makers import Person, encode, request_of, result_claims, seal
from attacks.matrix import attack
from attacks.raid import Raid
from cardoon.exceptions import Refusal, RefusedError
from cardoon.message import envelope


def _lie(
    raid: Raid,
    person: Person,
    *,
    id: str,
    request: bytes,
    state: str = "SUCCESS",
    **changes: object,
) -> bytes:
    """A result that says what we like."""
    told = {"result": [raid.name, "false"]} if state == "SUCCESS" else {"result": {"exc_type": "E"}}
    body = json.dumps(told).encode()
    return seal(person, result_claims(id, request, body, state=state, **changes), body)


def _lie_of_pending(raid: Raid, person: Person, *reasons: str, **said: str) -> None:
    sent, genuine = raid.send_later()
    frame = _lie(raid, person, id=sent.id, request=request_of(genuine), **said)
    raid.store.lay_result(sent.id, frame)
    raid.refused_result(frame, *reasons)
    raid.look(sent)


@attack("results")
def result_by_a_stranger(raid: Raid) -> None:
    """A stranger answers before the worker does."""
    _lie_of_pending(raid, raid.people.stranger, "unknown-signer")


@attack("results")
def result_by_another_client(raid: Raid) -> None:
    """A trusted client that may send tasks answers in the worker's place."""
    _lie_of_pending(raid, raid.people.insider, "denied")


@attack("results")
def failure_by_another_client(raid: Raid) -> None:
    """The same says that the task has failed."""
    _lie_of_pending(raid, raid.people.insider, "denied", state="FAILURE")


@attack("results")
def result_by_a_signer_for_other_tasks(raid: Raid) -> None:
    """Somebody who may give results of other tasks."""
    _lie_of_pending(raid, raid.people.accountant, "denied")


@attack("results")
def result_by_a_signer_for_other_tasks_under_their_name(raid: Raid) -> None:
    """The same says in the result that it was one of those other tasks."""
    sent, genuine = raid.send_later()
    frame = _lie(
        raid, raid.people.accountant, id=sent.id, request=request_of(genuine), task="accounts.close"
    )
    raid.store.lay_result(sent.id, frame)
    raid.look(sent)
    raid.outcome = "passed over"


@attack("results")
def result_by_somebody_revoked(raid: Raid) -> None:
    """A key that was revoked answers."""
    _lie_of_pending(raid, raid.people.revoked, "certificate-revoked", "denied")


@attack("results")
def result_without_signature(raid: Raid) -> None:
    """A result that nobody has signed."""
    sent, genuine = raid.send_later()
    body = json.dumps({"result": "false"}).encode()
    claims = encode(result_claims(sent.id, request_of(genuine), body))
    frame = envelope.build_plain(claims, body)
    raid.store.lay_result(sent.id, frame)
    raid.refused_result(frame, "unsigned")
    raid.look(sent)


@attack("results")
def result_that_is_junk(raid: Raid) -> None:
    """Random bytes instead of a result."""
    sent, _ = raid.send_later()
    frame = os.urandom(100)
    raid.store.lay_result(sent.id, frame)
    raid.refused_result(frame, "malformed")
    raid.look(sent)


@attack("results")
def result_that_is_json(raid: Raid) -> None:
    """A result as Celery stores them."""
    sent, _ = raid.send_later()
    told = {"status": "SUCCESS", "result": "false", "traceback": None, "task_id": sent.id}
    frame = json.dumps(told).encode()
    raid.store.lay_result(sent.id, frame)
    raid.refused_result(frame, "malformed")
    raid.look(sent)


@attack("results")
def result_of_another_task(raid: Raid) -> None:
    """The true result of one task is laid in the place of another's."""
    other, _ = raid.send_and_finish(value="other")
    sent, _ = raid.send_later(value="own")
    frame = raid.store.result(other.id)
    assert frame is not None
    raid.store.lay_result(sent.id, frame)
    raid.refused_result(frame, "wrong-request")
    raid.look(sent)


@attack("results")
def results_exchanged(raid: Raid) -> None:
    """Two tasks have ended, and their true results are exchanged before anybody looks."""
    pair = [raid.send(value=value, countdown=0.5) for value in ("a", "b")]
    for sent in pair:
        raid.site.comes_true(lambda sent=sent: raid.store.result(sent.id), 60)
        raid.lose(sent)  # their truth is gone: the worker will not say it again
    frames = [raid.store.result(sent.id) for sent in pair]
    for sent, frame in zip(pair, reversed(frames), strict=True):
        raid.store.lay_result(sent.id, frame)
        raid.refused_result(frame, "wrong-request")
        raid.look(sent, is_told=False)


@attack("results")
def result_of_an_earlier_task_of_the_same_id(raid: Raid) -> None:
    """The answer to an earlier message of the same id, for which the client does not ask."""
    id = raid.id()
    earlier, _ = raid.send_and_finish(value="earlier", task_id=id)
    frame = raid.store.result(id)
    assert frame is not None
    raid.site.app.backend.forget(id)
    sent, _ = raid.send_later(value="later", task_id=id)
    assert earlier.id == sent.id
    raid.store.lay_result(id, frame)

    def told() -> str | None:
        found = sent.result.get(timeout=60)
        return None if found == sent.truth else f"the client was told {found!r}"

    raid.check(told)
    raid.outcome = "passed over"


@attack("results")
def result_with_another_body(raid: Raid) -> None:
    """The worker's result with another value in it."""
    sent = raid.send(value="true!", countdown=0.5)
    raid.site.comes_true(lambda: raid.store.result(sent.id), 60)
    frame = raid.store.result(sent.id)
    raid.lose(sent)
    assert frame.count(b"true!") == 1
    changed = frame.replace(b"true!", b"false")
    raid.store.lay_result(sent.id, changed)
    raid.refused_result(changed, "wrong-digest")
    raid.look(sent, is_told=False)


@attack("results")
def task_message_as_its_own_result(raid: Raid) -> None:
    """The client's own message is laid down as its result."""
    sent, genuine = raid.send_later()
    raid.store.lay_result(sent.id, genuine)
    raid.refused_result(genuine, "wrong-kind")
    raid.look(sent)


@attack("results")
def result_that_is_a_bomb(raid: Raid) -> None:
    """A compressed result that would unpack to gigabytes, by a worker that was taken over."""
    sent, genuine = raid.send_later()
    body = zlib.compress(bytes(64 * 1024 * 1024))
    claims = result_claims(sent.id, request_of(genuine), body, codec="application/json+zlib")
    frame = seal(raid.people.worker, claims, body)
    raid.store.lay_result(sent.id, frame)
    raid.lose(sent)

    def refused() -> str | None:
        try:
            found = sent.result.get(timeout=60)
        except RefusedError as error:
            return None if error.reason is Refusal.BOMB else f"refused for {error}"
        # The worker may have told the truth in the meantime.
        return None if found == sent.truth else f"the client was told {found!r}"

    raid.check(refused)
    raid.outcome = "refused by its reader, or replaced"


@attack("results")
def result_in_a_task_queue(raid: Raid) -> None:
    """A genuine result is put into a task queue."""
    sent, _ = raid.send_and_finish()
    frame = raid.store.result(sent.id)
    assert frame is not None
    raid.offer(frame, "wrong-kind")
