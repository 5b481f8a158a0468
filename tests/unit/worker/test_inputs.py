"""What a task waited for: whether it can run with it, and how a process is told."""

from __future__ import annotations

import json

import pytest

from cardoon import states
from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.protocol import Kind, Take
from cardoon.message.serializers import JSON, JSON_ZLIB, encode_body
from cardoon.testing import FakeClock
from cardoon.worker.inputs import describe_inputs, read_inputs
from tests.security.actors import draft, make_gate, make_person, pin

ALICE = make_person("alice")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


class World:
    """One signer, who sends tasks and ends them."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.gate = make_gate(pin(folder, ALICE), self.clock)
        self.signer = ALICE.signer(self.clock)

    def task(self, take=None, count=1):
        """A task that waits for so many others, or for none."""
        after = () if take is None else tuple(bytes([n]) * 32 for n in range(count))
        [signed] = self.signer.sign([draft(after=after, take=take or Take.RESULT)])
        return self.gate.open(signed.frame, kind=Kind.TASK)

    def result(self, number, state=states.SUCCESS, *, codec=JSON, retries=None, **told):
        headers = {"state": state, "done": 100.0 + number, **told}
        made = draft(
            number,
            kind=Kind.RESULT,
            codec=codec,
            body=encode_body({"result": number}, codec),
            headers=json.dumps(headers).encode(),
            retries=retries,
        )
        [signed] = self.signer.sign([made])
        return self.gate.open(signed.frame, kind=Kind.RESULT)


def test_a_task_that_waited_for_nothing_has_no_inputs(world):
    assert read_inputs(world.task(), []) is None


@pytest.mark.parametrize(
    ("take", "count"), [(Take.RESULT, 1), (Take.RESULTS, 1), (Take.RESULTS, 3)]
)
def test_with_every_success_a_task_can_run(world, take, count):
    results = [world.result(number) for number in range(count)]

    inputs = read_inputs(world.task(take, count), results)

    assert inputs.can_run
    assert (inputs.take, list(inputs.results), inputs.failure) == (take, results, None)


def test_time_counts_from_the_end_of_the_last(world):
    results = [world.result(number) for number in (1, 5, 3)]

    assert read_inputs(world.task(Take.RESULTS, 3), results).ended_at == 105.0


@pytest.mark.parametrize("state", [states.FAILURE, states.REVOKED, states.REJECTED, states.IGNORED])
def test_with_a_failure_only_an_errback_can_run(world, state):
    ended = world.result(1, state)

    for take, runs in ((Take.RESULT, False), (Take.RESULTS, False), (Take.FAILURE, True)):
        inputs = read_inputs(world.task(take), [ended])
        assert (inputs.can_run, inputs.failure) == (runs, ended)


def test_the_first_failure_counts(world):
    failures = [world.result(number, states.FAILURE) for number in range(2)]

    inputs = read_inputs(world.task(Take.RESULTS, 4), [world.result(9), None, *failures])

    assert inputs.failure is failures[0]
    assert not inputs.is_complete


@pytest.mark.parametrize("take", list(Take))
def test_without_a_result_nothing_can_run(world, take):
    inputs = read_inputs(world.task(take), [None])

    assert not inputs.can_run
    assert inputs.failure is None


def test_an_errback_of_a_success_is_refused(world):
    with pytest.raises(RefusedError) as refused:
        read_inputs(world.task(Take.FAILURE), [world.result(1)])

    assert refused.value.reason is Refusal.WRONG_INPUT


@pytest.mark.parametrize(
    "told",
    [
        {"state": states.STARTED},
        {"state": states.RETRY},
        {"state": "PROGRESS"},
        {"state": None},
        {"state": 5},
        {"done": None},
        {"done": "now"},
        {"done": True},
        {"done": -1},
        {"done": 10**400},
        {"done": float("nan")},
        {"done": float("inf")},
    ],
)
@pytest.mark.parametrize("take", list(Take))
def test_a_state_on_the_way_is_no_end(world, take, told):
    with pytest.raises(RefusedError) as refused:
        read_inputs(world.task(take), [world.result(1, **told)])

    assert refused.value.reason is Refusal.WRONG_INPUT


def test_a_process_is_told_sizes_and_codecs_and_gets_the_bodies(world):
    results = [world.result(1), world.result(22, codec=JSON_ZLIB), world.result(3)]
    inputs = read_inputs(world.task(Take.RESULTS, 3), results)

    head, data = describe_inputs(inputs)

    assert json.loads(json.dumps(head)) == {
        "take": Take.RESULTS,
        "codecs": sorted([JSON, JSON_ZLIB]),
        "parts": [
            [len(one.body), sorted([JSON, JSON_ZLIB]).index(one.claims.codec)] for one in results
        ],
    }
    assert data == b"".join(one.body for one in results)


def test_of_a_failed_group_a_process_is_told_the_failure_alone(world):
    failed = world.result(2, states.FAILURE, retries=2)
    inputs = read_inputs(world.task(Take.RESULTS, 2), [world.result(1), failed])

    head, data = describe_inputs(inputs)

    assert head["failed"] == {"id": "task-2", "task": "shop.orders.pay", "retries": 2}
    assert head["parts"] == [(len(failed.body), 0)]
    assert data == failed.body
