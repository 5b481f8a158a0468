"""Somebody has the replay store forget what was carried out, and sends copies of it again."""

from __future__ import annotations

import sqlite3

import pytest

from cardoon.broker import Kept
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.exceptions import Refusal
from cardoon.sqlite.database import Database
from tests.unit.stage import Stage, succeeded
from tests.unit.worker.store import frames, put

HOUR = 3600.0


class Scene(Stage):
    """A worker on a file, and who can write that."""

    def __init__(self, folder):
        self.path = folder / "cardoon.db"
        super().__init__(folder, broker=self.open(), same_store=False)

    def open(self):
        return SqliteBroker(Database(self.path, clock=self))

    # The clock of a file that is opened before the stage has one.

    def now(self):
        return self.clock.now()

    def monotonic(self):
        return self.clock.monotonic()

    def wipe(self):
        with sqlite3.connect(self.path) as file:
            file.execute("DELETE FROM replay")
        file.close()

    def close(self):
        super().close()
        self.broker.close()


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path)
    yield made
    made.close()


def carry_out(scene, task_id):
    """A task is sent and runs to its end; its message, as whoever can read the store has it."""
    scene.send("pay 5", task_id=task_id)
    [frame] = frames(scene)
    [job] = scene.consume()
    scene.end(job, succeeded())
    return frame


def test_what_has_run_does_not_run_again_though_its_mark_is_gone(scene):
    frame = carry_out(scene, "t1")
    put(scene, frame, id="t1")
    assert scene.consume() == []
    scene.clock.advance(HOUR)

    scene.wipe()
    put(scene, frame, id="t1")

    assert scene.consume() == []
    reasons = [kept.reason for kept in scene.kept(Kept.QUARANTINE)]
    assert reasons == [Refusal.REPLAYED, Refusal.BEFORE_EPOCH]


def test_what_was_sent_after_the_loss_runs(scene):
    carry_out(scene, "t1")
    scene.clock.advance(HOUR)

    scene.wipe()
    scene.consume()

    carry_out(scene, "t2")
    assert scene.kept(Kept.QUARANTINE) == []


def test_an_epoch_cannot_be_talked_back(scene):
    """A thief of a copy has no way to a mark of his own: no message is of the session that has the epoch."""
    frame = carry_out(scene, "t1")
    scene.clock.advance(HOUR)
    scene.wipe()
    since = scene.broker.memory().since

    for _ in range(3):
        put(scene, frame, id="t1")
        assert scene.consume() == []
        scene.clock.advance(HOUR)

    assert scene.broker.memory().since == since == scene.clock.now() - 3 * HOUR
    assert [one.reason for one in scene.kept(Kept.QUARANTINE)] == [
        Refusal.BEFORE_EPOCH,
        Refusal.REPLAYED,
        Refusal.REPLAYED,
    ]
