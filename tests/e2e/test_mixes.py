"""Messages on one server and results on another, as projects that move from Celery have them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from cardoon import chord
from tests.e2e.conftest import DEADLINE, PROJECT, Site, wait_until
from tests.servers.ground import running
from tests.servers.postgres import postgres
from tests.servers.redis import RedisServer

__all__ = ["postgres"]

MIXES = [
    ("rabbitmq", "postgres"),
    ("rabbitmq", "redis"),
    ("redis", "postgres"),
    ("postgres", "redis"),
    ("sqlite", "redis"),
]
SENT = 1500


@pytest.fixture(scope="module")
def urls(tmp_path_factory, rabbitmq, postgres) -> Iterator[dict[str, str]]:
    """Where each server is."""
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as redis:
        yield {"rabbitmq": rabbitmq.url, "redis": redis.url, "postgres": postgres.url}


@pytest.fixture(params=MIXES, ids="+".join)
def mixed_site(request, urls, tmp_path) -> Iterator[Site]:
    """A project whose messages and results lie on different servers."""
    broker, results = (
        urls.get(name, f"sqlite:///{tmp_path}/messages.db") for name in request.param
    )
    subprocess.run(
        [sys.executable, "-m", "cardoon", "init", str(tmp_path)], check=True, capture_output=True
    )
    site = Site(tmp_path)
    site.app.conf.update(broker_url=broker, result_backend=results)
    site.environment = {
        "CARDOON_BROKER_URL": broker,
        "CARDOON_RESULT_BACKEND": results,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, [os.getenv("PYTHONPATH")])]),
    }
    site.project = "work"
    if broker.startswith("amqp"):
        prefix = f"m{uuid.uuid4().hex}"
        site.app.conf.broker_transport_options = {"global_keyprefix": prefix}
        site.environment["RABBITMQ_TEST_PREFIX"] = prefix
        site.project = "rabbit"
    yield site
    site.stop()


def test_what_one_server_carries_another_one_keeps(mixed_site):
    site = mixed_site
    site.start("-c", "2", env=site.environment, app=site.project)
    add, echo = site.app.signature("work.add"), site.app.signature("work.echo")

    assert site.call("add", 2, 3) == 5
    with pytest.raises(ValueError, match="broken"):
        site.call("fail", "broken")
    assert site.call("flaky", 2) == 2
    gathered = chord([add.clone((number, number)) for number in range(9)], echo)()
    assert gathered.get(timeout=DEADLINE) == list(range(0, 18, 2))


@pytest.mark.slow
@pytest.mark.parametrize("mixed_site", [MIXES[1], MIXES[-1]], ids="+".join, indirect=True)
def test_nothing_is_lost_when_a_worker_is_killed(mixed_site):
    site = mixed_site
    words = ("-c", "2", "-n", "one")
    worker = site.start(*words, env=site.environment, app=site.project)
    touch = site.app.task(name="work.touch")(lambda path, text="": None)
    names = [f"n{number}" for number in range(SENT)]
    results = touch.send_many([(site.path("done"), name) for name in names])
    for _ in range(2):
        before = len(site.lines("done"))
        wait_until(lambda seen=before: len(site.lines("done")) > seen + 50)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker = site.start(*words, env=site.environment, app=site.project, wait=False)

    for each in results:
        each.get(timeout=DEADLINE)

    assert {line.split()[0] for line in site.lines("done")} == set(names)
