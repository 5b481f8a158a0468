"""A caller that sends nothing, and says what it was asked to send."""

from __future__ import annotations

import itertools

from cardoon.canvas.steps import Planner
from cardoon.result import EagerResult


class Recorder:
    """What signatures need of an app."""

    max_result_bytes = 1000
    is_eager = False

    def __init__(self):
        self.sent = []
        self.ran = []
        self._numbers = itertools.count(1)

    def send_steps(self, steps):
        self.sent += steps
        return [f"digest of {step.id}".encode() for step in steps]

    def apply_task(self, name, args, kwargs, **options):
        self.ran.append((name, list(args), dict(kwargs), options))
        return EagerResult(self.new_id(), [name, *args], "SUCCESS", source=self)

    def new_id(self):
        return f"id-{next(self._numbers)}"

    @property
    def sender(self):
        raise AssertionError("nothing is to be read here")

    async def wait_for(self, handle):
        raise AssertionError("nothing is to be read here")


def plan(canvas):
    """The steps of a canvas, with ids in a row."""
    planner = Planner(Recorder())
    canvas.plan(planner, None)
    return planner.steps


def outline(canvas):
    """Its steps as (task, arguments, what it waits for)."""
    return [(step.task, step.args, step.after) for step in plan(canvas)]
