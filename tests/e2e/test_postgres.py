"""A real worker with its messages and results in PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cardoon
from cardoon import Cardoon, chord
from tests.e2e.conftest import DEADLINE, PROJECT, Site
from tests.e2e.test_canvas import Tasks
from tests.e2e.test_faults import task_processes
from tests.servers.postgres import postgres

__all__ = ["postgres"]


QUICK = """
from flows import app

app.conf.broker_transport_options = {"visibility_timeout": 3}
"""
"""The app of the workflows, whose messages come back sooner from the dead."""


class PostgresSite(Site):
    """A project whose settings come from its environment."""

    def __init__(self, folder, url):
        super().__init__(folder)
        self.environment = {
            "CARDOON_BROKER_URL": url,
            "CARDOON_RESULT_BACKEND": url,
            "PYTHONPATH": os.pathsep.join(map(str, (PROJECT, Path(cardoon.__file__).parents[1]))),
        }
        self.run_cli("init")
        (folder / "quick.py").write_text(QUICK)
        self.app.close()
        self.app = Cardoon(
            "work",
            state_directory=str(folder / ".cardoon"),
            set_as_current=False,
            broker_url=url,
            result_backend=url,
        )

    def start(self, *arguments, env=None, **options):
        return super().start(*arguments, env={**self.environment, **(env or {})}, **options)

    def run_cli(self, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", "cardoon", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


@pytest.fixture
def site(tmp_path, postgres):
    made = PostgresSite(tmp_path, postgres.empty())
    yield made
    made.stop()


def test_tasks_results_and_failures_pass_through_the_database(site):
    site.start("-c", "2")

    assert site.call("add", 2, 3) == 5
    with pytest.raises(ValueError, match="no"):
        site.call("fail", "no")
    assert site.call("flaky", 2) == 2


def test_chords_survive_the_death_of_everybody(site):
    worker = site.start("-c", "2", "-n", "first", app="quick")
    t, done = Tasks(site.app), site.path("done")
    chords = [
        chord([t("slow_leaf", number * 100 + n) for n in range(8)], t("total", done))
        for number in range(12)
    ]
    results = site.app.send_many(chords)
    expected = [sum(number * 100 + n for n in range(8)) for number in range(12)]
    site.until(lambda: len(site.lines("done")) >= 2)
    os.kill(task_processes(worker)[0], signal.SIGKILL)
    site.until(lambda: len(site.lines("done")) >= 4)
    worker.kill()
    worker.wait()
    site.start("-c", "2", "-n", "first", app="quick", wait=False)

    assert [result.get(timeout=2 * DEADLINE) for result in results] == expected
    assert {int(line.split()[0]) for line in site.lines("done")} == set(expected)
    site.until(lambda: not any(_in_queues(site)))
    assert json.loads(site.run_cli("dead", "list", "--json")) == []
    assert json.loads(site.run_cli("quarantine", "list", "--json")) == []


def test_each_worker_runs_what_is_broadcast_once_and_not_while_the_queue_rests(site):
    names = ["one@here", "two@here"]
    for name in names:
        site.start("-n", name, "-c", "1", app="announced", wait=False)
    site.until(lambda: _caches(site).get("subscribers") == 2)
    site.run_cli("-A", "announced", "pause", "caches")
    log = site.path("log")
    with site.client("announced") as module:
        module.app.conf.update(broker_url=site.app.conf.broker_url)
        module.reload.delay(log)
    waiting = _caches(site)
    site.run_cli("-A", "announced", "resume", "caches")

    site.until(lambda: len(site.lines("log")) == 2)
    assert sorted(site.lines("log")) == [f"{name} caches" for name in names]
    assert (waiting["ready"], waiting["paused"]) == (2, True)


def test_workers_are_asked_and_commanded(site):
    site.start("-c", "1", "-n", "one@here")
    asked = site.app.control.inspect("one@here", timeout=DEADLINE)

    assert asked.ping() == {"one@here": {"ok": "pong"}}
    [told] = site.app.control.pool_grow(2, destination="one@here", reply=True, timeout=DEADLINE)
    assert told == {"one@here": {"ok": "pool will grow to 3"}}
    assert asked.stats()["one@here"]["pool"]["max-concurrency"] == 3
    assert not asked.refused


def _caches(site):
    queues = json.loads(site.run_cli("-A", "announced", "queues", "--json"))
    return {one["queue"]: one for one in queues}.get("caches", {})


def _in_queues(site):
    for queue in json.loads(site.run_cli("queues", "--json")):
        yield queue["ready"] + queue["scheduled"] + queue["dormant"] + queue["leased"]
