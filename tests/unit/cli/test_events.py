"""`cardoon events`: what it prints, and which options fit together."""

from __future__ import annotations

import json
import signal
import textwrap

import pytest

from tests.unit.cli.conftest import PATIENCE, until

CAMERAS = """\
from pathlib import Path

from cardoon.events.snapshot import Polaroid


class Cam(Polaroid):
    def on_shutter(self, state):
        if state.event_count:
            Path("picture").write_text(",".join(state.workers))


class NoCam:
    def __init__(self, *args, **kwargs):
        pass


number = 5
"""


@pytest.fixture
def told(project):
    """The project tells one event a few times, so that whoever begins to listen hears it."""
    project.write_tasks()
    dispatcher = project.app.events.Dispatcher(hostname="web\x1b@host")
    dispatcher.heartbeat = None
    dispatcher.beat = lambda: {"freq": 2.0, "sw_ident": "x\x1b[2J", "active": 1}
    dispatcher._heartbeat = 0.1
    dispatcher._interval = 0.05
    dispatcher.start()
    yield project
    dispatcher.close()


def test_dump_prints_a_line_that_cannot_move_the_cursor(told):
    said = told.answer("events", "--dump", "--limit", "2")

    lines = said.splitlines()
    assert len(lines) == 2
    assert "worker-heartbeat" in lines[0]
    assert "web?@host" in lines[0]
    assert "sw_ident=x\\x1b[2J active=1" in lines[0]
    assert "\x1b" not in said


def test_json_prints_a_line_for_programs(told):
    said = told.answer("events", "--json", "--limit", "1")

    assert json.loads(said)["active"] == 1
    assert "\x1b" not in said


def test_a_timeout_ends_it(project):
    assert project.answer("events", "--json", "--timeout", "0.1") == ""


def test_what_was_refused_is_said_in_the_end(told):
    broker = told.app.sender.stores[0]
    watching = told.start("events", "--dump", "--limit", "20", "--timeout", "10")
    for _ in range(5):
        watching.stdout.readline()
    broker.post("events", [b"rubbish"], expires_at=2e9, keep=100)

    _, errors = watching.communicate(timeout=PATIENCE)

    assert watching.returncode == 0
    assert "1 frames were refused; see the audit trail" in errors


def test_a_camera_takes_pictures_until_it_is_stopped(told):
    (told.folder / "cams.py").write_text(CAMERAS)
    picture = told.folder / "picture"
    with told.start("events", "-c", "cams:Cam", "-F", "0.05", "--pidfile", "cam.pid") as taking:
        until(picture.exists)
        assert (told.folder / "cam.pid").read_text().strip() == str(taking.pid)

        taking.send_signal(signal.SIGTERM)

        assert taking.wait(PATIENCE) == 0
    assert "web" in picture.read_text()
    assert not (told.folder / "cam.pid").exists()


@pytest.mark.parametrize(
    ("camera", "said"),
    [
        ("cams:Nobody", "has no attribute 'Nobody'"),
        ("nowhere:Cam", "No module named 'nowhere'"),
        ("cams:NoCam", "no subclass of cardoon.events.snapshot.Polaroid"),
        ("cams:number", "it is no camera class"),
        ("Cam", "does not name a class"),
    ],
)
def test_what_is_no_camera_is_an_error(project, monkeypatch, camera, said):
    (project.folder / "cams.py").write_text(textwrap.dedent(CAMERAS))
    monkeypatch.syspath_prepend(str(project.folder))

    assert said in project.error("events", "-c", camera)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "there is no terminal to show it on; use --dump or --json"),
        (["-c", "a:B", "--dump"], "use one"),
        (["--limit", "5"], "--limit is for --dump and --json"),
        (["-c", "a:B", "--timeout", "5"], "--timeout is for --dump and --json"),
        (["--detach"], "--detach is for a --camera, and needs --logfile"),
        (["-d", "--limit", "0"], "0 is not in the range"),
        (["-F", "0"], "0.0 is not in the range"),
    ],
)
def test_options_that_do_not_fit_are_named(project, options, said):
    assert said in project.usage("events", *options)
