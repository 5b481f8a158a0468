"""Workflows: what a chord's body is given, and who may say how its members ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from attacks.makers import Person, claims_of, request_of, result_claims, seal
from attacks.matrix import attack
from attacks.raid import PATIENCE, Raid, Sent
from cardoon import chord
from cardoon.message.protocol import Label

VALUES = ("one", "two")


class Chord(NamedTuple):
    """A chord whose members have ended or will, and whose body waits."""

    members: list[Sent]
    body: Sent

    @property
    def parts(self) -> list[list[str]]:
        """What the body is to be given."""
        return [member.truth for member in self.members]


def begin_chord(raid: Raid, *, wait: float = 0.0) -> Chord:
    """Send a chord; its members run after `wait` seconds, and its body four seconds after them."""
    app = raid.site.app
    tokens = [raid.token("good") for _ in VALUES]
    last = raid.token("body")
    options = {"countdown": wait} if wait else {}
    header = [
        app.signature("canary.note", (token, value)).set(**options)
        for token, value in zip(tokens, VALUES, strict=True)
    ]
    result = chord(header)(app.signature("canary.gather", (last,)).set(countdown=4.0))
    members = [
        raid.lawful(Sent(token, child, "canary.note", value))
        for token, child, value in zip(tokens, result.parent, VALUES, strict=True)
    ]
    made = Chord(members, Sent(last, result, "canary.gather", None))
    raid.lawful(made.body._replace(value=made.parts))
    return made


def _due_body(raid: Raid) -> tuple[Chord, list[tuple[str, bytes]]]:
    """A chord whose members have ended, and whose body is not yet due; and what that waited for."""
    made = begin_chord(raid)
    for member in made.members:
        raid.site.comes_true(lambda one=member: raid.store.result(one.id), PATIENCE)
    raid.lose(made.body)
    return made, raid.store.inputs(made.body.id)


def _refused(raid: Raid, made: Chord, *reasons: str) -> None:
    raid.refused(*reasons, id=made.body.id)


def _give(raid: Raid, inputs: Sequence[tuple[str, bytes]], made: Chord, *reasons: str) -> None:
    raid.store.set_inputs(made.body.id, inputs)
    _refused(raid, made, *reasons)


@attack("chords")
def chord_is_left_alone(raid: Raid) -> None:
    """Nothing is done to this one: it shows that the others fail for what is done to them."""
    begin_chord(raid)
    raid.outcome = "ran"


@attack("chords")
def members_in_another_order(raid: Raid) -> None:
    """The body is given its parts in another order."""
    made, inputs = _due_body(raid)
    _give(raid, inputs[::-1], made, "wrong-input")


@attack("chords")
def member_given_twice(raid: Raid) -> None:
    """The body is given one part twice and the other not at all."""
    made, inputs = _due_body(raid)
    _give(raid, [inputs[0], inputs[0]], made, "wrong-input")


@attack("chords")
def member_left_out(raid: Raid) -> None:
    """The body is given one part only."""
    made, inputs = _due_body(raid)
    _give(raid, inputs[:1], made, "wrong-input")


@attack("chords")
def no_members_at_all(raid: Raid) -> None:
    """The body is told that it waits for nothing."""
    made, _ = _due_body(raid)
    _give(raid, [], made, "wrong-input")


@attack("chords")
def member_from_elsewhere(raid: Raid) -> None:
    """The body is given the true result of a task that is no member."""
    other, genuine = raid.send_and_finish(value="other")
    made, inputs = _due_body(raid)
    frame = raid.store.result(other.id)
    raid.store.lay_outcome(other.id, frame)
    _give(raid, [inputs[0], (other.id, request_of(genuine))], made, "wrong-input")


@attack("chords")
def part_by_a_stranger(raid: Raid) -> None:
    """The outcome of a member is replaced by a stranger's."""
    made, inputs = _due_body(raid)
    raid.store.lay_outcome(inputs[0][0], _false_part(raid, inputs[0][0], raid.people.stranger))
    _refused(raid, made, "unknown-signer")


@attack("chords")
def part_by_another_client(raid: Raid) -> None:
    """The outcome of a member is replaced by that of a trusted client, which may not give results."""
    made, inputs = _due_body(raid)
    raid.store.lay_outcome(inputs[0][0], _false_part(raid, inputs[0][0], raid.people.insider))
    _refused(raid, made, "denied")


@attack("chords")
def part_by_a_signer_for_other_tasks_under_their_name(raid: Raid) -> None:
    """The same by somebody who may give results of another task, which he names."""
    made, inputs = _due_body(raid)
    frame = _false_part(raid, inputs[0][0], raid.people.accountant, task="accounts.close")
    raid.store.lay_outcome(inputs[0][0], frame)
    _refused(raid, made, "wrong-request")


@attack("chords")
def parts_exchanged(raid: Raid) -> None:
    """The outcomes of the two members are exchanged."""
    made, inputs = _due_body(raid)
    frames = [raid.store.result(name) for name, _ in inputs]
    for (name, _), frame in zip(inputs, reversed(frames), strict=True):
        raid.store.lay_outcome(name, frame)
    _refused(raid, made, "wrong-request")


@attack("chords")
def part_that_is_junk(raid: Raid) -> None:
    """The outcome of a member is replaced by junk."""
    made, inputs = _due_body(raid)
    raid.store.lay_outcome(inputs[0][0], b"junk")
    _refused(raid, made, "malformed")


@attack("chords")
def member_copied_under_another_id(raid: Raid) -> None:
    """A member is copied before it runs: the copy is refused, and the chord goes on."""
    made = begin_chord(raid, wait=4.0)
    raid.offer(raid.frame_of(made.members[0].id), "wrong-id")


@attack("chords")
def body_offered_before_its_parts(raid: Raid) -> None:
    """The body is offered while its members have not run."""
    made = begin_chord(raid, wait=4.0)
    frame = raid.frame_of(made.body.id)
    raid.offer(frame, "wrong-input")


def _false_part(raid: Raid, id: str, person: Person, **changes: object) -> bytes:
    body = json.dumps({"result": [raid.name, "false"]}).encode()
    true = raid.store.result(id)
    assert true is not None
    return seal(person, result_claims(id, claims_of(true)[Label.REQUEST], body, **changes), body)
