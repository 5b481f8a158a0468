"""Real beats in real processes: each tick runs once, whoever of them is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from cardoon.beat.ticks import Name
from tests.e2e.conftest import DEADLINE, PROJECT, Site, wait_until
from tests.servers.ground import running
from tests.servers.postgres import postgres
from tests.servers.redis import RedisServer

__all__ = ["postgres"]

DOMAIN = "default"


class Beating:
    """A site with a worker and several beats, all of the app `ticking`."""

    def __init__(self, site: Site, environment: dict[str, str]) -> None:
        self.site = site
        self.ticks = site.folder / "ticks"
        site.environment = {**environment, "TICKS": str(self.ticks)}
        self.beats: list[subprocess.Popen[bytes]] = []

    def worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.site.start("-c", "2", *arguments, app="ticking", wait=False)

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(PROJECT), *filter(None, [os.getenv("PYTHONPATH")])])
        return {**os.environ, **self.site.environment, "PYTHONPATH": path}

    def command(self, *words: str) -> None:
        program = [sys.executable, "-m", "cardoon", "-A", "ticking", *words]
        subprocess.run(program, cwd=self.site.folder, env=self.environment, check=True)

    def beat(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.site.log.open("ab") as log:
            beat = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "cardoon",
                    "-A",
                    "ticking",
                    "beat",
                    "-l",
                    "info",
                    *arguments,
                ],
                cwd=self.site.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.beats.append(beat)
        return beat

    def ran(self) -> list[str]:
        return self.ticks.read_text().split() if self.ticks.exists() else []

    def until(self, count: int, seconds: float = 0.0) -> None:
        """Wait until so many ticks have run."""
        deadline = time.monotonic() + seconds + DEADLINE
        while len(self.ran()) < count:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def log(self) -> str:
        return self.site.log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        for beat in self.beats:
            if beat.poll() is None:
                beat.terminate()
        for beat in self.beats:
            beat.wait(DEADLINE)
        self.site.stop()

    def check_each_second_once(self, began: float) -> None:
        """No tick ran twice, and none between the first and the last is missing."""
        ran = self.ran()
        assert len(set(ran)) == len(ran)
        known = {
            Name(
                DOMAIN, "ticking.note", "tick", datetime.fromtimestamp(second, UTC)
            ).task_id: second
            for second in range(int(began) - 5, int(time.time()) + 5)
        }
        seconds = sorted(known[one] for one in ran)
        assert seconds == list(range(seconds[0], seconds[0] + len(seconds)))

    def events(self) -> list[str]:
        """The names of the records of the audit trail."""
        lines = (self.site.folder / ".cardoon" / "audit.jsonl").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines]


@pytest.fixture
def beating(site):
    made = Beating(site, {})
    yield made
    made.stop()


def kill_one_in_the_middle(beating: Beating, seconds: int) -> None:
    began = time.time()
    beating.worker()
    first = beating.beat()
    beating.until(1)
    beating.beat()
    beating.until(seconds // 2, seconds)
    first.kill()  # SIGKILL
    first.wait()
    beating.until(seconds, seconds)
    for beat in beating.beats[1:]:
        beat.terminate()
        assert beat.wait(DEADLINE) == 0, beating.log()
    assert time.time() - began >= seconds - 1
    wait_until(lambda: len(beating.ran()) == len(set(beating.ran())))
    beating.check_each_second_once(began)
    assert "message.replay" not in beating.events()


def test_two_beats_one_of_which_is_killed_send_every_tick_once(beating):
    kill_one_in_the_middle(beating, 10)


@pytest.mark.slow
def test_for_a_minute_two_beats_one_of_which_is_killed_send_every_tick_once(beating):
    kill_one_in_the_middle(beating, 60)


def test_a_worker_sends_what_is_due_itself(beating):
    began = time.time()
    beating.worker("-B")
    beating.until(3)
    [worker] = beating.site.workers
    worker.terminate()
    assert worker.wait(DEADLINE) == 0, beating.log()

    beating.check_each_second_once(began)


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_workers_that_beat_and_a_beat_send_every_tick_once(beating, pool):
    began = time.time()
    beating.worker("-B", "-P", pool)
    beating.until(1)
    beating.worker("-B", "-n", "other@here")
    beating.beat()
    beating.until(6)

    beating.stop()
    beating.check_each_second_once(began)


def test_a_beat_that_hangs_up_begins_anew(beating):
    began = time.time()
    beating.worker()
    beat = beating.beat("--pidfile", "beat.pid")
    beating.until(2)
    beat.send_signal(signal.SIGHUP)
    wait_until(lambda: "beginning anew" in beating.log())
    beating.until(len(beating.ran()) + 2)
    wait_until(lambda: beating.log().rpartition("beginning anew")[2].count("  schedule ") == 1)

    assert beat.poll() is None
    assert int((beating.site.folder / "beat.pid").read_text()) == beat.pid
    beat.terminate()
    assert beat.wait(DEADLINE) == 0
    beating.check_each_second_once(began)


def network_site(folder, url):
    """A project with identities, as a networked broker needs them."""
    environment = {"CARDOON_BROKER_URL": url, "CARDOON_RESULT_BACKEND": url}
    subprocess.run(
        [sys.executable, "-m", "cardoon", "init", "--role", "beat", str(folder)],
        check=True,
        capture_output=True,
    )
    return Beating(Site(folder), environment)


def test_on_redis_two_beats_one_of_which_is_killed_send_every_tick_once(tmp_path):
    with running(RedisServer(tmp_path / "server")) as server:
        beating = network_site(tmp_path / "site", server.url)
        try:
            kill_one_in_the_middle(beating, 10)
        finally:
            beating.stop()


def test_on_postgresql_two_beats_one_of_which_is_killed_send_every_tick_once(tmp_path, postgres):
    beating = network_site(tmp_path / "site", postgres.empty())
    try:
        kill_one_in_the_middle(beating, 10)
    finally:
        beating.stop()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["beat"], "-A is missing"),
        (
            ["-A", "ticking", "beat", "-S", "django_celery_beat.schedulers:DatabaseScheduler"],
            "cardoon schedule",
        ),
        (["-A", "ticking", "beat", "--max-interval", "0"], "--max-interval"),
        (["-A", "ticking", "beat", "--detach"], "--detach needs --logfile"),
        (["-A", "ticking", "beat", "--executable", "pypy3"], "pypy3 -m cardoon -A ... beat"),
        (["-A", "ticking", "events", "--executable", "pypy3"], "pypy3 -m cardoon -A ... events"),
        (
            ["-A", "ticking", "worker", "-B", "-s", "x", "--scheduler", "other:Scheduler"],
            "beat_scheduler",
        ),
    ],
)
def test_what_a_beat_cannot_do_is_said_at_once(tmp_path, arguments, said):
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.getenv("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "cardoon", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )

    assert done.returncode in {1, 2}
    assert said in done.stderr


def test_an_entry_that_is_added_while_a_beat_runs_is_sent_until_it_is_paused(beating):
    kept = beating.site.folder / "kept"
    beating.worker()
    beating.beat("--max-interval", "0.5")
    beating.until(1)

    beating.command(
        "schedule",
        "add",
        "another",
        "ticking.note",
        "--every",
        "1s",
        "--args",
        json.dumps([str(kept)]),
    )
    wait_until(lambda: kept.exists() and len(kept.read_text().split()) >= 2)
    beating.command("schedule", "pause", "another")
    beating.command("schedule", "pause", "tick")
    time.sleep(6)  # the longest until a beat sees it, as documented
    told = [len(kept.read_text().split()), len(beating.ran())]
    time.sleep(2.5)
    assert [len(kept.read_text().split()), len(beating.ran())] == told
    beating.command("schedule", "resume", "another")
    wait_until(lambda: len(kept.read_text().split()) > told[0])
