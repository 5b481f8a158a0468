"""Our apps, and tasks that run in Celery's workers."""

from __future__ import annotations

import signal
import time

import pytest

from cardoon.contrib.celery import CeleryTasks
from cardoon.exceptions import ImproperlyConfigured, OperationalError, TimeoutError  # noqa: A004

pytestmark = pytest.mark.slow  # each starts processes


@pytest.fixture
def tasks(site):
    made = CeleryTasks(
        site.app, site.server.url, site.backend, queue=site.queue, unsafe_accept_celery_results=True
    )
    yield made
    made.close()


def test_a_task_runs_in_celerys_worker_and_its_result_is_read(site, tasks):
    site.celery_worker()

    product = tasks.send_task("old.multiply", (6, 7))
    failing = tasks.send_task("old.fail", ("no such luck",))

    assert product.get(timeout=30) == 42
    assert product.successful()
    with pytest.raises(ValueError, match="no such luck"):
        failing.get(timeout=30)
    assert failing.state == "FAILURE"
    assert "no such luck" in failing.traceback


def test_nobody_answers_in_time(site, tasks):
    sent = tasks.send_task("old.multiply", (6, 7))

    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        sent.get(timeout=0.5)

    assert time.monotonic() - begun < 5
    assert sent.state == "PENDING"


def test_results_are_believed_only_where_that_is_said(site):
    careful = CeleryTasks(site.app, site.server.url, site.backend, queue=site.queue)

    sent = careful.send_task("old.multiply", (6, 7))

    with pytest.raises(ImproperlyConfigured, match="unsafe_accept_celery_results"):
        sent.get(timeout=1)
    careful.close()


def test_with_auth_both_ways_are_signed(site, keys, redis_only):
    site.celery_worker(env={"KEYS": str(keys), "SIGNER": "worker", "RESULTS": "auth"})
    signed = CeleryTasks(
        site.app, site.server.url, site.backend, queue=site.queue,
        unsafe_accept_celery_results=True, key=str(keys / "shop.key"),
        certificate=str(keys / "shop.pem"), cert_store=[str(keys / "worker.pem")],
    )  # fmt: skip

    assert signed.send_task("old.multiply", (6, 7)).get(timeout=30) == 42
    signed.close()


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_a_send_ends_in_time_when_the_server_is_away(private_server, app, how):
    app.conf.task_publish_timeout = 3.0
    tasks = CeleryTasks(app, private_server.url)
    tasks.send_task("old.multiply", (1, 1))
    if how == "stopped":
        private_server.process.kill()
    else:
        private_server.process.send(signal.SIGSTOP)

    for fresh in (False, True):
        if fresh:
            tasks.close()
        begun = time.monotonic()
        with pytest.raises(OperationalError, match="celery: send_task"):
            tasks.send_task("old.multiply", (2, 2))
        assert time.monotonic() - begun < 4.5

    private_server.process.send(signal.SIGCONT)
    tasks.close()
