"""Cameras: pictures of a state, every so often."""

from __future__ import annotations

import threading

import pytest

from cardoon.events import State
from cardoon.events.snapshot import Polaroid
from tests.unit.events.wires import PATIENCE


class Camera(Polaroid):
    clear_after = True

    def __init__(self, state, **options):
        super().__init__(state, **options)
        self.pictures = []
        self.cleaned = threading.Event()
        self.full = threading.Event()

    def on_shutter(self, state):
        self.pictures.append(dict(state.tasks))
        if len(self.pictures) == 2:
            raise ValueError("the second picture is blurred")
        if len(self.pictures) == 4:
            self.full.set()

    def on_cleanup(self):
        self.cleaned.set()


@pytest.fixture
def state():
    made = State()
    made.event({"type": "task-succeeded", "uuid": "t1", "hostname": "w", "timestamp": 1.0})
    return made


def test_it_takes_pictures_until_it_is_stopped_whatever_one_of_them_raises(state, caplog):
    with Camera(state, freq=0.01, cleanup_freq=0.02) as camera:
        assert camera.full.wait(PATIENCE)
        assert camera.cleaned.wait(PATIENCE)
    count = len(camera.pictures)

    assert list(camera.pictures[0]) == ["t1"]
    assert camera.pictures[2] == {}
    assert "camera Camera" in caplog.text
    camera.cancel()
    assert len(camera.pictures) == count


def test_the_shutter_opens_no_more_often_than_it_may(state):
    camera = Camera(state, maxrate="1/h")

    camera.shutter()
    camera.shutter()

    assert len(camera.pictures) == 1


def test_a_rate_that_is_none_is_an_error(state):
    with pytest.raises(ValueError, match="is not a rate"):
        Camera(state, maxrate="often")
