"""What the consumer refuses: it is quarantined with the reason, audited, and holds up nobody."""

from __future__ import annotations

import pytest

from cardoon.broker import Kept, Requeue
from cardoon.brokers.memory import MemoryBroker
from cardoon.exceptions import Refusal
from cardoon.security.replay import NonceState
from cardoon.testing import FakeClock
from cardoon.worker.opening import LONGEST_LOOK, LOOKS_AT_THE_FUTURE, SECOND_LOOK
from tests.unit.stage import PLAIN, succeeded
from tests.unit.worker.store import frames, only, put, take_out


class Forgetful(MemoryBroker):
    """A broker that did not hear of any end, and says so of every copy."""

    def claim(self, claims):
        states = super().claim(claims)
        return [NonceState.REPEATED if one is NonceState.DONE else one for one in states]


def refusal(stage):
    """Where a refused message went and what was told of it: place, reason and audit agree."""
    assert stage.consume() == []
    kept = only(stage, Kept.QUARANTINE)
    [event] = [event for event in stage.events() if event.get("kind") == "task"]
    assert (event["queue"], event["message"]) == (kept.queue, kept.id)
    assert (event["reason"], event["detail"]) == (kept.reason, kept.detail)
    assert stage.consumer.refused == 1
    assert len(stage.held) == 0
    return kept


@pytest.mark.parametrize("frame", [b"", b"x", bytes(200), b"{}", b"\xd8" * 64])
def test_garbage_is_quarantined_and_audited(stage, frame):
    put(stage, frame)

    assert refusal(stage).frame == frame


def test_a_message_that_was_changed_is_quarantined(stage):
    stage.send("pay 5 to alice")
    [message] = take_out(stage)
    put(stage, message.frame.replace(b"alice", b"mallo"))

    assert refusal(stage).reason == Refusal.WRONG_DIGEST


def test_an_unsigned_message_is_quarantined(stage, make_stage):
    plain = make_stage(settings=PLAIN)
    plain.send()
    put(stage, frames(plain)[0])

    assert refusal(stage).reason == Refusal.UNSIGNED


def test_a_message_for_another_queue_is_quarantined(stage):
    stage.send(queue="other")
    [message] = stage.broker.receive(["other"], limit=9, lease=30, timeout=0)
    put(stage, message.frame)

    assert refusal(stage).reason == Refusal.WRONG_AUDIENCE


def test_a_result_is_no_task(stage):
    stage.send(task_id="t1")
    [job] = stage.consume()
    stage.end(job, succeeded())
    put(stage, stage.backend.load(["t1"])["t1"].frame)

    assert refusal(stage).reason == Refusal.WRONG_KIND


@pytest.mark.parametrize("headers", [b"[]", b"no json", b"7", b"[" * 10_000])
def test_headers_that_are_no_object_are_quarantined_though_they_are_signed(stage, headers):
    stage.send_raw(headers=headers)

    assert refusal(stage).reason == Refusal.BAD_CLAIMS


def test_a_message_that_was_carried_out_before_is_quarantined_and_named(stage):
    stage.send(task_id="t1")
    [frame] = frames(stage)
    [job] = stage.consume()
    stage.end(job, succeeded())
    put(stage, frame, id="t1")

    kept = refusal(stage)

    assert (kept.id, kept.reason) == ("t1", Refusal.REPLAYED)
    [event] = [event for event in stage.events() if event["event"] == "message.replay"]
    assert (event["task"], event["task_id"]) == ("shop.pay", "t1")


@pytest.mark.parametrize("id", ["t2", "t1 ", "t1.1", "", "t", "T1"])
def test_a_message_under_another_id_is_quarantined(stage, id):
    stage.send(task_id="t1")
    [frame] = frames(stage)
    put(stage, frame, id=id)

    [job] = stage.consume()

    assert job.id == "t1"
    [kept] = stage.broker.kept(Kept.QUARANTINE, limit=9)
    assert (kept.id, kept.reason) == (id, Refusal.WRONG_ID)
    [event] = [event for event in stage.events() if event["event"] == "message.wrong_id"]
    assert (event["message"], event["detail"]) == (id, "signed as t1")


def test_what_others_wait_for_is_quarantined_even_under_the_id_of_a_copy(stage):
    stage.send_raw(id="t1", headers=b'{"links":true}')
    [frame] = frames(stage)
    put(stage, frame, id="t1>news")

    assert [job.id for job in stage.consume()] == ["t1"]
    assert only(stage, Kept.QUARANTINE).reason == Refusal.WRONG_ID


def test_a_copy_that_the_broker_knows_is_acknowledged_on_record(make_stage):
    stage = make_stage(broker=Forgetful(clock=FakeClock()))
    stage.send(task_id="t1")
    [sent] = stage.broker.receive(["celery"], limit=1, lease=30, timeout=0)
    stage.broker.settle([Requeue(sent)])
    [job] = stage.consume()
    stage.end(job, succeeded())
    put(stage, sent.frame, id="t1")

    assert stage.consume() == []

    assert stage.depth() == (0, 0, 0)
    assert stage.broker.kept(Kept.QUARANTINE, limit=9) == []
    [event] = [event for event in stage.events() if event["event"] == "message.repeated"]
    assert (event["task"], event["task_id"], event["queue"]) == ("shop.pay", "t1", "celery")
    assert stage.consumer.refused == 0


def test_a_stranger_gets_a_second_look_and_is_then_refused(stage, make_stage):
    stranger = make_stage()
    stranger.send()
    put(stage, frames(stranger)[0])

    assert stage.consume() == []
    assert stage.depth() == (0, 1, 0)
    stage.clock.advance(SECOND_LOOK)

    assert refusal(stage).reason == Refusal.UNKNOWN_SIGNER


def test_a_stranger_who_becomes_known_in_time_is_served(stage, make_stage):
    stranger = make_stage()
    stranger.send(task_id="t1")
    put(stage, frames(stranger)[0])
    assert stage.consume() == []
    for certificate in (stranger.folder / "trusted").glob("*.pem"):
        (stage.folder / "trusted" / ("new-" + certificate.name)).write_bytes(
            certificate.read_bytes()
        )
    stage.clock.advance(SECOND_LOOK)

    assert [job.id for job in stage.consume()] == ["t1"]


def from_the_future(stage, make_stage, seconds):
    """Have a message wait that its sender signed so much later than this worker's clock says it is."""
    sender = make_stage()
    for certificate in (sender.folder / "trusted").glob("*.pem"):
        copy = stage.folder / "trusted" / ("new-" + certificate.name)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(certificate.read_bytes())
    sender.clock.advance(seconds)
    sender.send(task_id="t1")
    put(stage, frames(sender)[0])


def test_a_message_from_the_future_is_left_for_a_worker_whose_clock_is_right(stage, make_stage):
    from_the_future(stage, make_stage, 7200)

    assert stage.consume() == []

    assert stage.depth() == (0, 1, 0)
    stage.clock.advance(7200)
    assert [job.id for job in stage.consume()] == ["t1"]


def test_a_message_that_stays_in_the_future_is_refused_in_the_end(stage, make_stage):
    from_the_future(stage, make_stage, 86_400)
    for look in range(1, LOOKS_AT_THE_FUTURE):
        assert stage.consume() == []
        assert stage.depth() == (0, 1, 0), f"after look {look}"
        stage.clock.advance(LONGEST_LOOK)

    assert refusal(stage).reason == Refusal.ISSUED_IN_FUTURE


def test_one_bad_message_does_not_hold_up_the_others(stage):
    put(stage, b"garbage", id="bad")
    for number in range(30):
        stage.send(task_id=f"t{number}")
    put(stage, b"more garbage", id="worse")

    assert [job.id for job in stage.consume()] == [f"t{number}" for number in range(30)]
    assert {kept.id for kept in stage.kept(Kept.QUARANTINE)} == {"bad", "worse"}


def test_messages_signed_one_by_one_are_served_in_order_however_many_there_are(stage):
    for round_ in range(3):  # after the first, the consumer knows that signatures cost time
        for number in range(40):
            stage.send(task_id=f"{round_}-{number}")
        put(stage, b"garbage", id=f"bad{round_}")

        assert [job.id for job in stage.consume()] == [f"{round_}-{n}" for n in range(40)]
