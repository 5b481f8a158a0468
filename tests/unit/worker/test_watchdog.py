"""The watchdog: a loop that stands still is told of, then shaken, then the end of the process."""

from __future__ import annotations

import pytest

from cardoon.sdnotify import Notifier
from cardoon.testing import FakeClock
from cardoon.worker.health import Verdict
from cardoon.worker.vitals import LOOP_SECONDS, Loop, Vitals
from cardoon.worker.watchdog import EXIT_STUCK, LOOK_SECONDS, Watchdog


class Verdicts:
    """A health of which a test says what it is."""

    def __init__(self):
        self.is_stopping = False
        self.reasons = ()

    def live(self):
        return Verdict(self.reasons, {})

    ready = live


class Telling(Notifier):
    """A notifier that keeps what it is told."""

    def __init__(self):
        super().__init__({"WATCHDOG_USEC": "3000000"})
        self.told = []

    @property
    def is_heard(self):
        return True

    def _tell(self, *lines):
        self.told += [line for line in lines if line]


class Scene:
    """A watchdog, whose second a test makes pass."""

    def __init__(self, audit):
        self.clock = FakeClock()
        self.vitals = Vitals(self.clock)
        self.health = Verdicts()
        self.notifier = Telling()
        self.exits, self.rebuilt = [], []
        self.dog = Watchdog(
            self.vitals,
            health=self.health,
            notifier=self.notifier,
            audit=audit,
            clock=self.clock,
            on_stuck=self.exits.append,
            rebuild=lambda: self.rebuilt.append(1),
        )

    def pass_time(self, seconds, *turning):
        for _ in range(int(seconds / LOOK_SECONDS)):
            self.clock.advance(LOOK_SECONDS)
            for loop in turning:
                self.vitals.turn(loop)
            self.dog.look()


@pytest.fixture
def scene(stage):
    return Scene(stage.audit)


def test_loops_that_turn_are_left_alone(scene):
    scene.pass_time(10 * LOOP_SECONDS, Loop.CONSUMER, Loop.POOL)

    assert (scene.rebuilt, scene.exits) == ([], [])


def test_one_that_stands_still_is_shaken_and_then_the_process_ends(scene, stage):
    scene.vitals.turn(Loop.CONSUMER)
    scene.vitals.turn(Loop.POOL)

    scene.pass_time(LOOP_SECONDS + 2, Loop.POOL)
    assert (scene.rebuilt, scene.exits) == ([1], [])
    scene.pass_time(LOOP_SECONDS + 2, Loop.POOL)

    assert (scene.rebuilt, scene.exits) == ([1], [EXIT_STUCK])
    told = [event for event in stage.events() if event["event"] == "worker.stuck"]
    assert [(event["loop"], event["exits"]) for event in told] == [
        ("consumer", False),
        ("consumer", True),
    ]


def test_one_that_turns_again_begins_anew(scene):
    scene.vitals.turn(Loop.CONSUMER)
    scene.pass_time(LOOP_SECONDS + 2)
    scene.pass_time(2, Loop.CONSUMER)

    scene.pass_time(LOOP_SECONDS + 2)

    assert (scene.rebuilt, scene.exits) == ([1, 1], [])


def test_time_in_which_nobody_looked_does_not_count(scene):
    scene.vitals.turn(Loop.CONSUMER)
    scene.dog.look()
    for _ in range(5):
        scene.clock.advance(3600)  # the host slept
        scene.dog.look()

    assert scene.rebuilt == []


def test_one_that_rests_is_not_expected_to_turn(scene):
    scene.vitals.turn(Loop.SETTLER)
    scene.vitals.rest(Loop.SETTLER)

    scene.pass_time(5 * LOOP_SECONDS)

    assert scene.rebuilt == []


def test_the_consumer_of_a_worker_that_stops_is_not_expected_to_turn(scene):
    scene.vitals.turn(Loop.CONSUMER)
    scene.health.is_stopping = True

    scene.pass_time(5 * LOOP_SECONDS, Loop.POOL)

    assert (scene.rebuilt, scene.exits) == ([], [])


def test_the_service_manager_hears_of_progress_only_while_there_is_some(scene):
    scene.pass_time(5, Loop.POOL)
    assert scene.notifier.told.count("WATCHDOG=1") == 5
    assert "STATUS=ready" in scene.notifier.told

    scene.notifier.told.clear()
    scene.health.reasons = ("pool: stuck",)
    scene.pass_time(12, Loop.POOL)

    assert scene.notifier.told == ["STATUS=pool: stuck"]
