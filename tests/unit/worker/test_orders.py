"""What a worker is told: standing commands again and again, others once, and none from before its start."""

from __future__ import annotations

import pytest

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.protocol import EVERY_WORKER, STANDING_COMMANDS, Kind
from cardoon.message.serializers import JSON
from cardoon.security.signing import Draft
from cardoon.worker.orders import MAX_REMEMBERED, Orders

NAME = "cardoon@here"


@pytest.fixture
def signer(stage):
    return stage.deployment.make_signer("auth")


def orders(stage):
    return Orders(stage.gate, clock=stage.clock, worker=NAME)


def command(number=0, *, task="ping", audience=(EVERY_WORKER,), **more):
    return Draft(Kind.CONTROL, task, f"c{number}", audience, JSON, b"{}", **more)


def refusal_of(told, signed):
    with pytest.raises(RefusedError) as refused:
        told.open(signed.frame)
    return refused.value.reason


@pytest.mark.parametrize(
    ("audience", "heard"),
    [((NAME,), True), (("other", NAME), True), (("other",), False), (("q:celery",), False)],
)
def test_a_worker_hears_what_is_for_all_and_what_is_for_it(stage, signer, audience, heard):
    every, some = signer.sign([command(1), command(2, audience=audience)])
    told = orders(stage)

    assert told.open(every.frame).claims.id == "c1"
    if heard:
        assert told.open(some.frame).claims.id == "c2"
    else:
        assert refusal_of(told, some) is Refusal.WRONG_AUDIENCE


def test_a_command_for_the_moment_is_carried_out_once(stage, signer):
    signed, other = signer.sign([command(1), command(2)])
    told = orders(stage)
    told.open(signed.frame)

    assert refusal_of(told, signed) is Refusal.REPLAYED
    told.open(other.frame)
    stage.clock.advance(600)  # by its age it is refused then
    assert refusal_of(told, signed) is Refusal.EXPIRED


def test_a_command_for_the_moment_is_not_heard_by_a_worker_that_was_started_later(stage, signer):
    [before] = signer.sign([command(1)])
    stage.clock.advance(stage.gate.skew + 1)
    told = orders(stage)

    assert refusal_of(told, before) is Refusal.EXPIRED
    [after] = signer.sign([command(2)])
    told.open(after.frame)


@pytest.mark.parametrize("name", sorted(STANDING_COMMANDS))
def test_a_standing_command_is_heard_again_and_by_workers_that_are_started_later(
    stage, signer, name
):
    [signed] = signer.sign([command(task=name)])
    stage.clock.advance(3600)
    told = orders(stage)

    for _ in range(2):
        assert told.open(signed.frame).claims.task == name


def test_what_is_remembered_is_bounded_and_bounded_for_each_signer(stage, signer, make_stage):
    told = orders(stage)
    for signed in signer.sign([command(number) for number in range(MAX_REMEMBERED)]):
        told.open(signed.frame)
    [more] = signer.sign([command("more")])

    assert refusal_of(told, more) is Refusal.REPLAYED
    [other] = stage.client.deployment.make_signer("auth").sign([command("other")])
    told.open(other.frame)
    stage.clock.advance(301 + stage.gate.skew)
    [later] = signer.sign([command("later")])
    told.open(later.frame)
