"""A real worker on a real RabbitMQ, with SQLite beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon import Cardoon, chord, group, states
from cardoon.cli.inquiry import Inquirer
from cardoon.cli.reasons import Outlook, answer
from cardoon.clock import SystemClock
from cardoon.exceptions import ImproperlyConfigured
from cardoon.exceptions import TimeoutError as ResultTimeoutError
from cardoon.result import GroupResult
from cardoon.security.authority import ensure_identity
from tests.e2e.conftest import DEADLINE, PROJECT, Site, wait_until

IN_FILE = "sqlite:///{}/results.db"


@pytest.fixture
def results_at(request, tmp_path) -> str:
    """Where results are: in the file beside RabbitMQ, unless a test says otherwise."""
    return getattr(request, "param", IN_FILE).format(tmp_path)


@pytest.fixture
def rabbit_site(tmp_path, rabbitmq, results_at) -> Iterator[Site]:
    """A project whose tasks travel through RabbitMQ, with a file beside it."""
    site = Site(tmp_path)
    site.app.close()
    state = tmp_path / ".cardoon"
    for role in ("client", "worker"):
        ensure_identity(state, role, clock=SystemClock())
    site.settings = {
        "broker_url": rabbitmq.url,
        "result_backend": results_at,
        "broker_transport_options": {
            "global_keyprefix": f"e{uuid.uuid4().hex}",
            "store": f"sqlite:///{tmp_path}/results.db",
        },
    }
    site.app = Cardoon("work", state_directory=str(state), set_as_current=False)
    site.app.conf.update(site.settings)
    yield site
    site.stop()


def environment(site: Site) -> dict[str, str]:
    return {
        "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
        "CARDOON_BROKER_URL": site.settings["broker_url"],
        "CARDOON_RESULT_BACKEND": site.settings["result_backend"],
        "RABBITMQ_TEST_PREFIX": site.settings["broker_transport_options"]["global_keyprefix"],
        "RABBITMQ_TEST_STORE": site.settings["broker_transport_options"]["store"],
    }


def start(site: Site, *arguments: str, wait: bool = True):
    return site.start(*arguments, env=environment(site), app="rabbit", wait=wait)


both_ways = pytest.mark.parametrize("results_at", [IN_FILE, "rpc://"], indirect=True)
only_rpc = pytest.mark.parametrize("results_at", ["rpc://"], indirect=True)


@both_ways
def test_tasks_and_a_workflow_run(rabbit_site):
    start(rabbit_site, "-c", "2")
    add = rabbit_site.app.task(name="work.add")(lambda x, y: x + y)
    total = rabbit_site.app.task(name="work.total")(sum)

    results = add.send_many([(number, number) for number in range(300)])
    body = chord([add.s(number, number) for number in range(9)], total.s())()
    soon = add.apply_async((1, 2), countdown=0.5)
    urgent = add.apply_async((2, 2), priority=9)

    assert [each.get(timeout=DEADLINE) for each in results] == [2 * n for n in range(300)]
    assert body.get(timeout=DEADLINE) == 72
    assert (soon.get(timeout=DEADLINE), urgent.get(timeout=DEADLINE)) == (3, 4)


@both_ways
def test_a_retry_and_a_failure_end_as_on_any_broker(rabbit_site):
    start(rabbit_site, "-c", "1")

    assert rabbit_site.call("flaky", 2) == 2
    assert rabbit_site.call("retry_changed", 1) == 3
    with pytest.raises(ValueError, match="no"):
        rabbit_site.call("fail", "no")


def test_where_a_task_is_can_be_told_of_what_lies_in_the_companion(rabbit_site):
    """RabbitMQ itself cannot be asked for a message by its id, and the answer says so."""
    site = rabbit_site
    travels, later = site.send("add", 1, 2), site.send("add", 1, 2, countdown=7200)
    inquirer = Inquirer(site.app.settings, clock=SystemClock())

    unseen, seen = (answer(inquirer.ask(one.id)) for one in (travels, later))

    assert (unseen.state, unseen.outlook) == ("unknown", Outlook.UNKNOWN)
    assert "cannot-tell" in {reason.code for reason in unseen.because}
    assert (seen.state, [reason.code for reason in seen.because]) == ("scheduled", ["eta"])


def test_a_queue_rests_until_somebody_says_otherwise(rabbit_site):
    site = rabbit_site
    start(site, "-c", "1")
    assert command(site, "pause", "celery").startswith("paused celery")

    # The worker asks once a second who rests, so it may run some more at first.
    began = time.monotonic()
    waiting = site.send("add", 1, 2)
    while ended_within(waiting, 2.0):
        assert time.monotonic() < began + DEADLINE, "it does not rest"
        waiting = site.send("add", 1, 2)
    (told,) = json.loads(command(site, "queues", "--json"))
    assert (told["queue"], told["ready"], told["paused"]) == ("celery", 1, True)

    command(site, "resume", "celery")
    assert waiting.get(timeout=DEADLINE) == 3


def ended_within(result, seconds):
    try:
        result.get(timeout=seconds)
    except ResultTimeoutError:
        return False
    return True


def command(site, *arguments):
    """What a command says, run where the workers run."""
    return subprocess.run(
        [sys.executable, "-m", "cardoon", "-A", "rabbit", *arguments],
        cwd=site.folder,
        env={**os.environ, **environment(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.slow
def test_nothing_is_lost_when_workers_die(rabbit_site):
    site = rabbit_site
    worker = start(site, "-c", "2", "-n", "first")
    touch = site.app.task(name="work.touch")(lambda path, text="": None)
    names = [f"n{number}" for number in range(1500)]
    results = touch.send_many([(site.path("done"), name) for name in names])
    for _ in range(3):
        before = len(site.lines("done"))
        wait_until(lambda seen=before: len(site.lines("done")) > seen + 50)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker = start(site, "-c", "2", "-n", "first", wait=False)

    wait_until(lambda: all(result.ready() for result in results), "results")

    assert {result.state for result in results} == {states.SUCCESS}
    runs = Counter(line.split()[0] for line in site.lines("done"))
    assert set(runs) >= set(names)
    assert "message.replay" not in (site.folder / ".cardoon" / "audit.jsonl").read_text()


@only_rpc
def test_states_and_results_of_tasks_in_tasks_come_by_rpc(rabbit_site):
    site = rabbit_site
    start(site, "-c", "1")
    running = site.send("progress", site.path("gate"))
    wait_until(lambda: running.state == "PROGRESS")
    assert running.info == {"done": 1}
    (site.folder / "gate").touch()

    assert running.get(timeout=DEADLINE) == "all"
    with ThreadPoolExecutor(1) as threads:
        # It waits for another task, so a second worker has to run that one.
        waiting = threads.submit(site.call, "ask_other", 1)
        start(site, "-c", "1", "-n", "second")
        assert waiting.result(DEADLINE) == 2


@only_rpc
def test_results_by_rpc_are_read_by_their_sender_alone(rabbit_site):
    site = rabbit_site
    start(site, "-c", "1")
    add = site.app.task(name="work.add")(lambda x, y: x + y)
    members = group(add.s(number, 1) for number in range(3)).apply_async()
    other = Cardoon("work", state_directory=site.app.conf.state_directory, set_as_current=False)
    other.conf.update(site.settings)

    assert members.get(timeout=DEADLINE) == [1, 2, 3]
    assert members.get(timeout=DEADLINE) == [1, 2, 3]
    with other:
        assert other.AsyncResult(members[0].id).state == states.PENDING
    with pytest.raises(ImproperlyConfigured, match=r"GroupResult\.save: result_backend is rpc://"):
        members.save()
    with pytest.raises(
        ImproperlyConfigured, match=r"GroupResult\.restore: result_backend is rpc://"
    ):
        GroupResult.restore(members.id, app=site.app)
