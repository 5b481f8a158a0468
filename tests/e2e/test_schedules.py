"""Entries that are kept on real servers, through the command line and the API."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cardoon
from cardoon import Cardoon
from cardoon.beat.kept import KeptSource
from cardoon.exceptions import ScheduleError
from cardoon.schedules import crontab
from cardoon.scheduling import open_book
from tests.e2e.conftest import PROJECT
from tests.servers.ground import running
from tests.servers.postgres import postgres
from tests.servers.redis import RedisServer

__all__ = ["postgres"]


@pytest.fixture(params=["redis", "postgres"])
def url(request, tmp_path):
    """The address of an empty store on a real server."""
    with contextlib.ExitStack() as exits:
        if request.param == "redis":
            folder = tmp_path / "redis"
            folder.mkdir()
            yield exits.enter_context(running(RedisServer(folder))).url
        else:
            yield request.getfixturevalue("postgres").url


def test_entries_are_kept_and_seen_by_all(url, tmp_path):
    environment = {
        **os.environ,
        "CARDOON_BROKER_URL": url,
        "PYTHONPATH": os.pathsep.join(map(str, (PROJECT, Path(cardoon.__file__).parents[1]))),
    }

    def run(*words, status=0):
        done = subprocess.run(
            [sys.executable, "-m", "cardoon", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    run("init", ".")
    if url.startswith("postgres"):
        run("db", "upgrade")
    words = ("--cron", "30 2 * * *", "--tz", "Europe/Berlin", "-a", "[1, 2]", "--json")
    run("schedule", "add", "nightly", "work.add", *words)
    run("schedule", "pause", "nightly")

    [told] = json.loads(run("schedule", "list", "--json"))
    assert (told["name"], told["state"], told["source"]) == ("nightly", "paused", "store")
    with Cardoon(
        "work",
        set_as_current=False,
        broker_url=url,
        state_directory=str(tmp_path / ".cardoon"),
    ) as app:
        source = KeptSource(
            open_book(app, app.sender), lambda: app.settings.beat_schedule, clock=app.clock
        )
        entry = source.entries()["nightly"]
        assert (entry.args, entry.paused, entry.schedule) == ((1, 2), True, crontab(30, 2))
        app.schedules.resume("nightly")
        assert app.schedules.run_now("nightly").id
        with pytest.raises(ScheduleError, match="there is one already"):
            app.schedules.add("nightly", 60, "work.add")
        app.schedules.remove("nightly")
    assert json.loads(run("schedule", "list", "--json")) == []
    run("schedule", "show", "nightly", status=1)
