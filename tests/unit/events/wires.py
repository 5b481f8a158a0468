"""People who send and receive events over a broker in memory, with the keys of the security tests."""

from __future__ import annotations

import json
import threading
import time

from cardoon.audit import AuditLog
from cardoon.brokers.memory import MemoryBroker
from cardoon.events import EventDispatcher, EventReceiver
from cardoon.events.frames import CHANNEL, KEEP, Head, event_draft
from cardoon.events.receiver import Station
from cardoon.testing import FakeClock
from tests.security.actors import make_gate, make_person, pin

PATIENCE = 20.0
ALICE, BOB, MALLORY = make_person("alice"), make_person("bob"), make_person("mallory")


class Wire:
    """A broker, and a receiver that trusts Alice and Bob."""

    def __init__(self, folder, **options):
        self.clock = FakeClock()
        self.broker = MemoryBroker(clock=self.clock)
        self.folder = folder
        pins = folder / "pins"
        pins.mkdir()
        pin(pins, ALICE, BOB)
        self.gate = make_gate(pins, self.clock, **options)
        self.trail = folder / "audit.jsonl"
        self.audit = AuditLog(self.trail, clock=self.clock, source="test")
        self.receiver = self.make_receiver()
        self.receiver.receive(0)  # from now on

    def make_receiver(self, **options):
        return EventReceiver(Station(self.broker, self.gate, self.audit, self.clock), **options)

    def dispatcher(self, who=ALICE, hostname="w1@host", **options):
        """One whose thread is not started: a test flushes."""
        return EventDispatcher(
            broker=self.broker,
            signer=who.signer(self.clock),
            clock=self.clock,
            hostname=hostname,
            **options,
        )

    def frame(
        self,
        events,
        *,
        who=ALICE,
        node="w1@host",
        boot=1,
        sequence=1,
        dropped=0,
        signer=None,
        **more,
    ):
        """A signed frame."""
        body = events if isinstance(events, bytes) else json.dumps(events).encode()
        draft = event_draft(Head(node, f"{boot:032x}", sequence, dropped), body, id="frame-1")
        [signed] = (signer or who.signer(self.clock)).sign([draft._replace(**more)])
        return signed.frame

    def post(self, *frames):
        self.broker.post(CHANNEL, frames, expires_at=self.clock.now() + 60, keep=KEEP)

    def received(self, receiver=None):
        """All that has come by now."""
        receiver = receiver or self.receiver
        found = []
        while True:
            before = receiver._position
            found += receiver.receive(0)
            if receiver._position == before:
                return found

    def records(self):
        return [json.loads(line) for line in self.trail.read_text().splitlines()]


def event(type="task-started", uuid="t1", timestamp=1_790_000_000.0, **fields):
    return {"type": type, "uuid": uuid, "timestamp": timestamp, **fields}


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
