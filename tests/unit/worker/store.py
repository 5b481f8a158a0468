"""What people do to a store in these tests, and what they find in it."""

from __future__ import annotations

from cardoon.broker import Ack, Outgoing
from cardoon.message.serializers import decode_body
from cardoon.sender import Handle
from tests.unit.stage import MAX_BYTES


def state_of(stage, task_id):
    report = stage.client.load([Handle(task_id)]).get(task_id)
    return None if report is None else report.state


def error_of(stage, task_id):
    report = stage.client.load([Handle(task_id)])[task_id]
    return decode_body(report.codec, report.body, max_bytes=MAX_BYTES)["error"]


def frames(stage):
    """The frames that wait in the queue, as whoever can read the store sees them."""
    deliveries = stage.broker.receive(["celery"], limit=100, lease=0.0, timeout=0)
    stage.broker.maintain()
    stage.clock.advance(10)
    return [delivery.frame for delivery in deliveries]


def take_out(stage):
    """What waits in the queue, taken out of it, as whoever can write the store may."""
    stage.clock.advance(3600)
    deliveries = stage.broker.receive(["celery"], limit=100, lease=1, timeout=0)
    for delivery in deliveries:
        stage.broker.settle([Ack(delivery)])
    return deliveries


def put(stage, frame, id="t1>raw", **hints):
    """A message of whoever can write the store; usually a copy of t1."""
    stage.broker.publish([Outgoing("celery", id, frame, **hints)], timeout=5)


def only(stage, where):
    [kept] = stage.kept(where)
    return kept
