"""Real workers whose messages and results lie on a real Redis server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from cardoon import chord, states
from cardoon.worker.pacing import MAX_DEPTH
from cardoon.worker.worker import LEASE
from tests.e2e.conftest import DEADLINE, PROJECT, Site, wait_until
from tests.servers.ground import running
from tests.servers.redis import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as made:
        yield made


@pytest.fixture
def redis_site(server, tmp_path):
    """A project with identities, as `cardoon init` makes them: a networked broker needs them."""
    server.ask("FLUSHALL")
    subprocess.run(
        [sys.executable, "-m", "cardoon", "init", str(tmp_path)], check=True, capture_output=True
    )
    site = Site(tmp_path)
    site.app.conf.update(broker_url=server.url, result_backend=server.url)
    site.environment = {
        "CARDOON_BROKER_URL": server.url,
        "CARDOON_RESULT_BACKEND": server.url,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, [os.getenv("PYTHONPATH")])]),
    }
    yield site
    site.stop()


def test_tasks_and_a_chord_run(redis_site):
    redis_site.start("-c", "2", env=redis_site.environment, app="flows")
    app = redis_site.app

    assert redis_site.call("add", 2, 3) == 5
    with pytest.raises(ValueError, match="broken"):
        redis_site.call("fail", "broken")
    assert redis_site.call("flaky", 2) == 2
    leaves = [app.signature("work.leaf", (number,)) for number in range(50)]
    gathered = chord(leaves, app.signature("work.ident")).apply_async()
    assert gathered.get(timeout=DEADLINE) == [list(range(50))]


def command(site, *arguments):
    """What a command says, run where the workers run."""
    return subprocess.run(
        [sys.executable, "-m", "cardoon", *arguments],
        cwd=site.folder,
        env={**os.environ, **site.environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def caches(site):
    """What lies in the broadcast queue."""
    told = json.loads(command(site, "queues", "--json"))
    return next((one for one in told if one["queue"] == "caches"), {"subscribers": 0})


def test_what_is_broadcast_runs_in_every_worker_and_waits_while_the_queue_rests(redis_site):
    names = ("one@here", "two@here")
    for name in names:
        options = ("-n", name, "-c", "1")
        redis_site.start(*options, app="announced", env=redis_site.environment, wait=False)
    redis_site.until(lambda: caches(redis_site)["subscribers"] == 2)

    command(redis_site, "pause", "caches")
    with redis_site.client("announced") as announced:
        announced.app.conf.update(broker_url=redis_site.app.conf.broker_url)
        announced.reload.delay(redis_site.path("log"))
    waiting = caches(redis_site)
    assert (waiting["ready"], waiting["paused"]) == (2, True)
    assert redis_site.lines("log") == []

    command(redis_site, "resume", "caches")
    redis_site.until(lambda: len(redis_site.lines("log")) == 2)
    assert sorted(redis_site.lines("log")) == [f"{name} caches" for name in names]


@contextlib.contextmanager
def away(server):
    """A server that is not there, and is there again afterwards."""
    server.stop()
    try:
        yield
    finally:
        server.restart()


def test_a_worker_that_starts_before_its_server_waits_for_it(redis_site, server):
    with away(server):
        worker = redis_site.start("-c", "1", env=redis_site.environment, wait=False)
        redis_site.until(lambda: "cardoon@" in redis_site.log.read_text())
        threading.Event().wait(3.0)  # far longer than a refused connection takes
        assert worker.poll() is None

    assert redis_site.call("add", 2, 3) == 5


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_worker_that_waits_for_its_server_stops_when_it_is_told_to(redis_site, server, pool):
    with away(server):
        worker = redis_site.start("-P", pool, "-c", "1", env=redis_site.environment, wait=False)
        redis_site.until(lambda: "the worker waits for it" in redis_site.log.read_text())
        worker.send_signal(signal.SIGTERM)

        assert worker.wait(5) == 0


@pytest.mark.slow
def test_nothing_is_lost_when_worker_and_server_are_killed(redis_site, server):
    worker = redis_site.start("-c", "2", "-n", "first", env=redis_site.environment)
    done = redis_site.path("done")
    touch = redis_site.app.task(name="work.touch")(lambda path, text="": None)
    results = touch.send_many([(done, f"t{number}") for number in range(1000)])
    for _ in range(2):
        before = len(redis_site.lines("done"))
        wait_until(lambda seen=before: len(redis_site.lines("done")) > seen + 50)
        worker.kill()
        worker.wait()
        server.kill()
        server.restart()
        worker = redis_site.start("-c", "2", "-n", "first", env=redis_site.environment, wait=False)
    for result in results:  # what the dead held comes back when its lease has run out
        result.get(timeout=90)

    assert {result.state for result in results} == {states.SUCCESS}
    ran = [line.split()[0] for line in redis_site.lines("done")]
    assert set(ran) == {f"t{number}" for number in range(1000)}
    # What ran twice was held by one of two workers that died, each with two processes.
    assert len(ran) - len(set(ran)) <= 2 * 2 * MAX_DEPTH


def test_a_worker_that_is_killed_and_started_again_does_not_wait_for_its_leases(redis_site):
    options = ("-n", "one@here", "-c", "1")
    first = redis_site.start(*options, env=redis_site.environment)
    running = redis_site.send("hold", redis_site.path("started"), redis_site.path("gate"))
    redis_site.until(lambda: redis_site.lines("started"))

    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    redis_site.folder.joinpath("started").unlink()
    killed_at = time.monotonic()
    redis_site.start(*options, env=redis_site.environment, wait=False)
    redis_site.until(lambda: redis_site.lines("started"))

    assert time.monotonic() - killed_at < LEASE - 5
    redis_site.folder.joinpath("gate").touch()
    assert running.get(timeout=DEADLINE) == "released"
    assert "gave back 1 messages" in redis_site.log.read_text()


def test_workers_are_asked_and_commanded(redis_site):
    redis_site.start("-c", "1", "-n", "one@here", env=redis_site.environment, app="flows")
    asked = redis_site.app.control.inspect("one@here", timeout=DEADLINE)

    assert asked.ping() == {"one@here": {"ok": "pong"}}
    assert asked.stats()["one@here"]["broker"]["transport"].startswith("redis")
    [told] = redis_site.app.control.pool_grow(
        2, destination="one@here", reply=True, timeout=DEADLINE
    )
    assert told == {"one@here": {"ok": "pool will grow to 3"}}
    assert asked.stats()["one@here"]["pool"]["max-concurrency"] == 3
    assert not asked.refused
