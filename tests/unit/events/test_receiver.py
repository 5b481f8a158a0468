"""The receiver: what is genuine is handed on once, the rest is refused and counted."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.events import receiver as module
from cardoon.events.frames import CHANNEL, open_frame
from cardoon.exceptions import ImproperlyConfigured, OperationalError, Refusal, RefusedError
from cardoon.message.protocol import Kind
from cardoon.security.policy import Action
from tests.security.actors import draft
from tests.unit.events.wires import ALICE, BOB, MALLORY, PATIENCE, Wire, event


def refused(wire, *frames):
    wire.post(*frames)
    assert wire.received() == []
    return dict(wire.receiver.refused)


def test_a_frame_that_somebody_changed_is_refused(wire):
    frame = wire.frame([event(uuid="t1")])

    changed = frame.replace(b"task-started", b"task-stardet")

    assert refused(wire, changed) == {Refusal.WRONG_DIGEST: 1}


def test_a_frame_of_a_stranger_is_refused(wire):
    assert refused(wire, wire.frame([event()], who=MALLORY)) == {Refusal.UNKNOWN_SIGNER: 1}


def test_a_frame_of_another_deployment_is_refused(wire):
    signer = ALICE.signer(wire.clock, domain="acme/test")

    assert refused(wire, wire.frame([event()], signer=signer)) == {Refusal.BAD_SIGNATURE: 1}


def test_a_frame_of_an_identity_that_may_not_send_events_is_refused(tmp_path):
    class NoEvents:
        def check(self, request):
            if request.action is Action.EVENT and request.signer.name.startswith("CN=alice"):
                raise RefusedError(Refusal.DENIED, "no")

    wire = Wire(tmp_path, policy=NoEvents())

    wire.post(wire.frame([event(uuid="t1")]), wire.frame([event(uuid="t2")], who=BOB))

    assert [one["uuid"] for one in wire.received()] == ["t2"]
    assert wire.receiver.refused == {Refusal.DENIED: 1}


def test_a_message_of_another_kind_is_no_frame(wire):
    [signed] = ALICE.signer(wire.clock).sign([draft(kind=Kind.TASK)])

    assert refused(wire, signed.frame) == {Refusal.WRONG_KIND: 1}


def test_a_frame_that_comes_again_is_refused(wire):
    frame = wire.frame([event()])
    wire.post(frame)
    assert len(wire.received()) == 1

    assert refused(wire, frame, frame) == {Refusal.REPLAYED: 2}


def test_an_earlier_frame_that_is_held_back_is_refused(wire):
    first, second = wire.frame([event()], sequence=1), wire.frame([event()], sequence=2)
    wire.post(second)
    assert len(wire.received()) == 1

    assert refused(wire, first) == {Refusal.REPLAYED: 1}


def test_an_old_frame_is_refused_by_its_age(wire):
    frame = wire.frame([event()])
    wire.clock.advance(60 + wire.gate.skew + 1)

    assert refused(wire, frame) == {Refusal.EXPIRED: 1}


def test_a_frame_from_before_anybody_listened_is_no_news(wire):
    frame = wire.frame([event()])
    wire.clock.advance(30)
    late = wire.make_receiver()
    late.receive(0)
    wire.post(frame)

    assert wire.received(late) == []
    assert late.refused == {Refusal.EXPIRED: 1}


def test_a_frame_that_was_taken_away_is_missed(wire):
    frames = [wire.frame([event(uuid=f"t{n}")], sequence=n) for n in range(1, 6)]

    wire.post(frames[0], frames[4])

    first, lost, last = wire.received()
    assert (first["uuid"], last["uuid"]) == ("t1", "t5")
    assert (lost["type"], lost["hostname"], lost["reason"], lost["count"]) == (
        *("events-lost", "w1@host", "gap", 3),
    )
    assert wire.receiver.lost == {"gap": 3}


def test_what_a_sender_dropped_is_told(wire):
    wire.post(
        wire.frame([event()], sequence=1, dropped=2), wire.frame([event()], sequence=2, dropped=9)
    )

    wire.received()

    assert wire.receiver.lost == {"dropped": 7}


def test_two_processes_of_one_name_are_told_apart(wire):
    wire.post(
        wire.frame([event(uuid="a")], boot=1, sequence=7),
        wire.frame([event(uuid="b")], boot=2, sequence=1),
        wire.frame([event(uuid="c")], boot=1, sequence=8, who=ALICE),
        wire.frame([event(uuid="d")], boot=1, sequence=1, who=BOB),
    )

    assert [one["uuid"] for one in wire.received()] == ["a", "b", "c", "d"]
    assert not wire.receiver.lost
    assert not wire.receiver.refused


def test_nobody_speaks_under_another_name_or_signature(wire):
    claimed = event(hostname="boss@host", signer="CN=boss", local_received=5)

    wire.post(wire.frame([claimed], node="w1@host"))

    [got] = wire.received()
    assert got["hostname"] == "w1@host"
    assert got["signer"].startswith("CN=alice")
    assert got["local_received"] == wire.clock.now()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b"null",
        b"[" * 10_000,
        b'[{"type":"task-started"}]',
        json.dumps([event()] * 501).encode(),
        json.dumps([{"type": "x" * 65, "timestamp": 1}]).encode(),
        json.dumps([{"type": "x\x1b[2J", "timestamp": 1}]).encode(),
        json.dumps([{"type": "worker-online", "timestamp": "soon"}]).encode(),
        json.dumps([{"type": "worker-online", "timestamp": -1}]).encode(),
        b'[{"type":"worker-online","timestamp":1e400}]',
        b'[{"type":"worker-online","timestamp":NaN}]',
        json.dumps([{"type": "task-sent", "timestamp": 1}]).encode(),
        json.dumps([event(uuid="")]).encode(),
        json.dumps([event(uuid="x" * 129)]).encode(),
        json.dumps([event(retries="many")]).encode(),
        json.dumps([event(runtime=-1)]).encode(),
        json.dumps([event(runtime=True)]).encode(),
        json.dumps([event(name=5)]).encode(),
        json.dumps([event(loadavg=["high"])]).encode(),
        json.dumps([event(deep={"a": 1})]).encode(),
        json.dumps([event(deep=[[1]])]).encode(),
        json.dumps([event(long=[1] * 65)]).encode(),
        json.dumps([event(big=1 << 64)]).encode(),
        json.dumps([event(**{f"f{n}": n for n in range(64)})]).encode(),
        json.dumps([event(when={"__type__": "date", "__value__": "2026-01-01"})]).encode(),
        b'[{"type":"task-started","uuid":"\\ud800","timestamp":1}]',
    ],
)
def test_a_frame_that_says_nonsense_is_refused_as_a_whole(wire, body):
    assert sum(refused(wire, wire.frame(body)).values()) == 1


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"[]",
        b"{}",
        *(
            json.dumps(
                {"node": "w", "boot": "0" * 32, "sequence": 1, "dropped": 0, **wrong}
            ).encode()
            for wrong in (
                {"node": ""},
                {"node": "x" * 321},
                {"node": "a\nb"},
                {"node": 5},
                {"boot": "0" * 31},
                {"boot": "g" * 32},
                {"sequence": 0},
                {"sequence": 1.5},
                {"sequence": True},
                {"sequence": 1 << 40},
                {"dropped": -1},
            )
        ),
    ],
)
def test_a_frame_that_does_not_say_whose_it_is_is_refused(wire, headers):
    assert refused(wire, wire.frame([event()], headers=headers)) == {Refusal.BAD_CLAIMS: 1}


@given(st.binary(max_size=400))
def test_any_bytes_at_all_are_refused(tmp_path_factory, frame):
    wire = Wire(tmp_path_factory.mktemp("wire"))

    with pytest.raises(RefusedError):
        open_frame(wire.gate, frame)


@given(st.binary(max_size=300))
def test_any_body_at_all_is_read_or_refused(tmp_path_factory, body):
    wire = Wire(tmp_path_factory.mktemp("wire"))

    try:
        opened = open_frame(wire.gate, wire.frame(body))
    except RefusedError:
        return
    assert all(isinstance(one["type"], str) for one in opened.events)


def test_a_flood_of_forgeries_costs_few_lines_and_hides_nothing(wire, caplog):
    good = wire.frame([event(uuid="good")])
    for _ in range(20):
        wire.post(*[b"rubbish"] * 100)
    wire.post(good)

    assert [one["uuid"] for one in wire.received()] == ["good"]

    assert wire.receiver.refused == {Refusal.MALFORMED: 2000}
    assert caplog.text.count("frame of events refused") == 2
    [first, second] = [one for one in wire.records() if one.get("kind") == "event"]
    assert (first["event"], second["before"]) == ("message.malformed", 1000)


def test_more_processes_than_are_followed_are_refused_and_old_ones_forgotten(wire, monkeypatch):
    monkeypatch.setattr(module, "MAX_PROCESSES", 3)
    for boot in range(1, 5):
        wire.post(wire.frame([event(uuid=f"t{boot}")], boot=boot))

    assert [one["uuid"] for one in wire.received()] == ["t1", "t2", "t3"]
    assert wire.receiver.refused == {Refusal.TOO_MANY_SESSIONS: 1}

    wire.clock.advance(60 + wire.gate.skew)
    wire.post(wire.frame([event(uuid="t5")], boot=5))

    assert [one["uuid"] for one in wire.received()] == ["t5"]


def test_a_receiver_that_is_slow_misses_the_oldest_and_is_told(wire):
    with wire.dispatcher() as sender:
        sender.put([event(uuid="seen")])
        assert sender.flush()
        wire.received()
        for number in range(30):
            sender.put([event(uuid=f"t{number}")])
            assert sender.flush()
        wire.broker.post(CHANNEL, [b"rubbish"], expires_at=wire.clock.now() + 60, keep=11)

    found = wire.received()

    assert [one["type"] for one in found] == ["events-lost", *["task-started"] * 10]
    assert wire.receiver.lost == {"gap": 20}


def test_handlers_get_the_events_of_their_type_and_a_star_the_rest(wire):
    started, rest = [], []
    receiver = wire.make_receiver(handlers={"task-started": started.append, "*": rest.append})
    receiver.receive(0)
    wire.post(wire.frame([event(), event("worker-online"), event("my-own")]))

    receiver.capture(limit=3)

    assert [one["type"] for one in started] == ["task-started"]
    assert [one["type"] for one in rest] == ["worker-online", "my-own"]


def test_without_handlers_events_are_passed_over(wire):
    wire.post(wire.frame([event()]))

    wire.receiver.capture(limit=1)

    assert wire.receiver.received == 1


def test_capturing_ends_when_none_comes_in_time(wire):
    wire.clock.advance(0)

    with pytest.raises(TimeoutError, match="no event within 0 seconds"):
        wire.receiver.capture(timeout=0)


def test_a_handler_may_end_capturing(wire):
    seen = []

    def stop(one):
        seen.append(one)
        receiver.should_stop = True

    receiver = wire.make_receiver(handlers={"*": stop})
    receiver.receive(0)
    wire.post(wire.frame([event(), event()]))

    receiver.capture()

    assert len(seen) == 1


def test_while_the_broker_is_away_it_goes_on_trying(wire, caplog):
    receiver = wire.make_receiver()
    receiver.receive(0)
    real, failures = wire.broker.posted, [OperationalError("gone")] * 2

    def posted(*args, **options):
        if failures:
            raise failures.pop()
        return real(*args, **options)

    wire.broker.posted = posted
    wire.post(wire.frame([event()]))
    captured = threading.Thread(target=receiver.capture, kwargs={"limit": 1}, daemon=True)
    captured.start()

    captured.join(PATIENCE)

    assert not captured.is_alive()
    assert caplog.text.count("events: gone; trying again") == 2


def test_a_broker_that_carries_none_is_an_error_with_the_remedy():
    with pytest.raises(ImproperlyConfigured, match="with RabbitMQ name a store beside it"):
        module.need_posting(object())
