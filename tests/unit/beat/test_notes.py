"""Whoever owns the store, and notes of how far an entry was sent: he can delay nothing and double nothing."""

from __future__ import annotations

import pytest

from cardoon.beat.notes import KIND
from cardoon.beat.ticks import microseconds
from cardoon.broker import Kept
from cardoon.deployment import Deployment
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON, encode_body
from cardoon.security.signing import Draft
from tests.unit.beat.beats import Beats, every, expected_ids

POLICY = """
version = 1

[role.beat]
ids = ["{beat}"]
[role.other]
ids = ["{other}"]

[[allow]]
role = "beat"
action = ["send", "schedule"]
task = ["shop.pay"]

[[allow]]
role = "other"
action = "schedule"
task = ["shop.look"]
"""


@pytest.fixture
def beats(make_stage):
    made = Beats(make_stage(settings={"beat_schedule": every(60.0)}), 1)
    made.step(0)
    return made


def run(beats, seconds):
    for _ in range(seconds // 5):
        beats.stage.clock.advance(5)
        beats.step(0)
        beats.work()


def the_note(beats):
    [(name, record)] = beats.stage.broker.records(KIND).items()
    return name, record


def put(beats, frame, name=None):
    """The owner of the store writes a note."""
    there, record = the_note(beats)
    name = name or there
    revision = record.revision if name == there else 0
    assert beats.stage.broker.put_record(KIND, name, frame, revision=revision)


def sign(beats, last, *, role="beat", task="shop.pay", kind=Kind.BEAT, audience="beat"):
    name, _ = the_note(beats)
    deployment = Deployment(beats.stage.settings, clock=beats.stage.clock, role=role)
    body = encode_body({"last": last}, JSON)
    draft = Draft(kind, task, name, (audience,), JSON, body)
    return deployment.make_signer("auth").sign([draft])[0].frame


def begin_anew(beats):
    """The beat is restarted, so that it knows what the store tells it, and no more."""
    beats.rounds[0] = None
    beats.step(0)


def refusals(beats):
    return [one["reason"] for one in beats.stage.events() if one["event"] == "beat.note_refused"]


@pytest.mark.parametrize("junk", [b"", b"junk", b"\xd2" * 60_000])
def test_a_note_that_nobody_has_signed_is_not_believed(beats, junk):
    run(beats, 60)
    put(beats, junk)
    begin_anew(beats)
    start = beats.stage.clock.now()
    run(beats, 60)

    assert refusals(beats) == ["malformed"]
    assert beats.ran[1:] == expected_ids(beats.stage, "e", 60.0, 1, start)
    assert the_note(beats)[1].frame != junk


def test_a_note_from_the_future_does_not_keep_a_beat_from_sending(beats):
    last = beats.rounds[0].agenda.last("e")
    put(beats, sign(beats, microseconds(last) + 86_400_000_000))
    begin_anew(beats)
    run(beats, 120)

    assert refusals(beats) == ["issued-in-future"]
    assert len(beats.ran) == 2


def test_an_old_note_that_is_put_back_doubles_nothing(beats):
    _, old = the_note(beats)
    run(beats, 300)
    put(beats, old.frame)
    begin_anew(beats)
    beats.stage.app.conf.beat_schedule = every(60.0, catch_up="all")
    run(beats, 60)

    assert len(beats.ran) == len(set(beats.ran)) == 6
    assert beats.stage.kept(Kept.QUARANTINE) == []


def test_the_note_of_one_entry_is_none_of_another(make_stage):
    schedule = {**every(60.0), "other": {"task": "shop.pay", "schedule": 7.0}}
    beats = Beats(make_stage(settings={"beat_schedule": schedule}), 1)
    beats.step(0)
    names = list(beats.stage.broker.records(KIND))
    first, second = (beats.stage.broker.records(KIND)[name] for name in names)
    assert beats.stage.broker.put_record(KIND, names[0], second.frame, revision=first.revision)
    begin_anew(beats)
    beats.step(0)

    assert refusals(beats) == ["wrong-request"]


@pytest.mark.parametrize("wishes", [{"kind": Kind.KEYSET}, {"audience": "q:celery"}])
def test_what_was_signed_for_something_else_is_no_note(beats, wishes):
    put(beats, sign(beats, 0, **wishes))
    begin_anew(beats)
    beats.step(0)

    assert len(refusals(beats)) == 1


@pytest.mark.parametrize("last", [-1, 1 << 80, "now", None, True, 1.5])
def test_a_note_that_says_no_moment_is_not_believed(beats, last):
    put(beats, sign(beats, last))
    begin_anew(beats)
    run(beats, 60)

    assert refusals(beats) == ["bad-claims"]
    assert len(beats.ran) == 1


@pytest.mark.parametrize(("task", "reason"), [("shop.pay", "denied"), ("shop.look", None)])
def test_who_may_schedule_another_task_cannot_say_how_far_this_one_was_sent(
    make_stage, tmp_path, task, reason
):
    policy = tmp_path / "policy.toml"
    settings = {"beat_schedule": every(60.0)}
    beats = Beats(make_stage(settings=settings), 1)
    names = {
        role: Deployment(beats.stage.settings, clock=beats.stage.clock, role=role)
        .identity()
        .identity
        for role in ("beat", "other")
    }
    policy.write_text(
        POLICY.format(**{role: f"sha256:{one.fingerprint.hex()}" for role, one in names.items()})
    )
    policy.chmod(0o600)
    beats.step(0)
    start = beats.stage.clock.now()
    beats.stage.clock.advance(61)
    put(beats, sign(beats, int((start + 60) * 1e6), role="other", task=task))
    beats.stage.app.conf.security_policy = str(policy)
    beats.stage.settings = beats.stage.app.settings
    begin_anew(beats)
    beats.step(0)

    # It begins anew, instead of taking over that the first tick was sent.
    assert refusals(beats) == [reason] * (reason is not None)
    assert beats.rounds[0].agenda.last("e").timestamp() == start + 61
