"""Events of real workers: each type, on each pool; the view in a terminal; a worker that dies."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter

import pytest

from cardoon import Cardoon
from cardoon.events import TYPES
from cardoon.events.kinds import COMMON
from tests.e2e.conftest import DEADLINE, PROJECT, Site, wait_until
from tests.e2e.terminals import Terminal


class Listener:
    """Captures events in a thread, into a list and a state."""

    def __init__(self, app):
        self.seen = []
        self.state = app.events.State()
        self.receiver = app.events.Receiver(handlers={"*": self._take})
        self.receiver.receive(0)  # what comes from now on
        self._thread = threading.Thread(target=self.receiver.capture, daemon=True)
        self._thread.start()

    def _take(self, event):
        self.seen.append(event)
        self.state.event(event)

    def of(self, uuid):
        """The types of the events of a task, in the order in which they came."""
        return [one["type"] for one in list(self.seen) if one.get("uuid") == uuid]

    def story(self, uuid):
        """What its worker told of a task; who sent it may have told that later, and it must have."""
        found = self.of(uuid)
        found.remove("task-sent")
        return found

    def types(self):
        return Counter(one["type"] for one in list(self.seen))

    def stop(self):
        self.receiver.should_stop = True
        self._thread.join(DEADLINE)


@pytest.fixture
def listener(site: Site):
    site.app.conf.task_send_sent_event = True
    made = Listener(site.app)
    yield made
    made.stop()


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio", "solo"])
def test_a_worker_tells_of_itself_and_of_how_its_tasks_go(site, listener, pool):
    count = "1" if pool == "solo" else "2"
    worker = site.start("-E", "-P", pool, "-c", count, "--heartbeat-interval", "0.2")
    done = site.send("add", 1, 2)
    failed = site.send("fail", "secret-message")
    retried = site.send("flaky", 1)
    rejected = site.send("reject")
    expired = site.send("add", 1, 2, countdown=0.2, expires=0.1)
    sent = [done, failed, retried, rejected, expired]
    for one in sent:
        one.get(timeout=DEADLINE, propagate=False)

    ends = {"task-succeeded", "task-failed", "task-rejected", "task-revoked"}
    site.until(lambda: all(ends & set(listener.of(one.id)) for one in sent))
    site.until(lambda: listener.types()["task-sent"] >= len(sent) + 1)
    site.until(lambda: listener.types()["worker-heartbeat"] >= 3)
    assert listener.state.workers
    [host] = listener.state.workers
    assert listener.state.workers[host].alive
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(DEADLINE) == 0
    site.until(lambda: listener.types()["worker-offline"] == 1)

    ran = ["task-received", "task-started"]
    assert listener.story(done.id) == [*ran, "task-succeeded"]
    assert listener.story(failed.id) == [*ran, "task-failed"]
    assert listener.story(retried.id) == [*ran, "task-retried", *ran, "task-succeeded"]
    assert listener.story(rejected.id) == [*ran, "task-rejected"]
    assert listener.story(expired.id) == ["task-revoked"]
    assert listener.types()["worker-online"] == 1
    assert not listener.state.workers[host].alive
    assert listener.state.workers[host].processed is not None
    assert listener.state.tasks[done.id].runtime >= 0
    assert not listener.receiver.refused
    assert not listener.receiver.lost
    for one in listener.seen:
        assert set(one) >= {"type", *COMMON, *TYPES[one["type"]]}, one
        assert "secret" not in repr(one)


def test_without_e_a_worker_tells_of_itself_alone(site, listener):
    site.start("-c", "1", "--heartbeat-interval", "0.2")
    site.call("add", 1, 2)

    site.until(lambda: listener.types()["worker-heartbeat"] >= 3)

    assert set(listener.types()) == {"task-sent", "worker-online", "worker-heartbeat"}
    [worker] = listener.state.workers.values()
    assert worker.processed >= 1


def test_without_heartbeats_there_are_none(site, listener):
    site.start("-E", "-c", "1", "--without-heartbeat")
    site.call("add", 1, 2)

    site.until(lambda: listener.types()["task-succeeded"] >= 2)

    assert "worker-heartbeat" not in listener.types()


def test_a_running_task_that_is_revoked_is_told(site, listener):
    site.start("-E", "-c", "1")
    slow = site.send("sleep_async", 60)
    site.until(lambda: "task-started" in listener.of(slow.id))

    slow.revoke(terminate=True, signal="SIGKILL")

    site.until(lambda: "task-revoked" in listener.of(slow.id))
    [got] = [one for one in listener.seen if one["type"] == "task-revoked"]
    assert (got["terminated"], got["signum"], got["expired"]) == (True, 9, False)


def test_what_tasks_send_is_told_by_their_worker(site, listener):
    site.start("-E", "-c", "2", env={"CARDOON_TASK_SEND_SENT_EVENT": "1"})

    child = site.call("nested", 1)

    site.until(lambda: "task-sent" in listener.of(child))
    [got] = [one for one in listener.seen if one["type"] == "task-sent" and one["uuid"] == child]
    assert got["hostname"].startswith("cardoon@")
    assert got["parent_id"]


def test_a_worker_that_is_killed_is_soon_taken_for_dead(site, listener):
    worker = site.start("-c", "1", "--heartbeat-interval", "0.3")
    site.until(lambda: list(listener.state.alive_workers()))
    [seen] = listener.state.workers.values()

    worker.kill()
    worker.wait()
    killed_at = time.monotonic()

    wait_until(lambda: not seen.alive)
    assert time.monotonic() - killed_at < 10
    assert "worker-offline" not in listener.types()


def test_a_flood_of_tasks_is_told_whole(site, listener):
    site.start("-E", "-c", "2")

    results = site.app.send_many([site.app.signature("work.add", (n, 1)) for n in range(2000)])
    results[-1].get(timeout=DEADLINE)

    done = {one.id for one in results}
    site.until(
        lambda: sum(
            1 for one in list(listener.seen) if one["type"] == "task-succeeded" and one["uuid"] in done
        ) == 2000
    )  # fmt: skip
    assert not listener.receiver.lost
    assert len(listener.state.tasks) >= 2000


def test_forged_frames_in_the_store_are_refused_and_the_view_says_so(site, listener):
    site.start("-E", "-c", "1")
    broker = site.app.sender.stores[0]
    with Cardoon(
        "other", state_directory=site.path("other"), broker_url=f"sqlite:///{site.path('other.db')}",
        set_as_current=False,
    ) as stranger:  # fmt: skip
        watcher = stranger.events.Receiver()
        watcher.receive(0)
        with stranger.events.Dispatcher(hostname="cardoon@evil") as dispatcher:
            dispatcher.send("worker-online", freq=2.0)
        [(_, forged)] = stranger.sender.stores[0].posted("events", 0, limit=10, timeout=DEADLINE)

    before = sum(listener.receiver.refused.values())
    genuine = broker.posted("events", 0, limit=1, timeout=0)[0][1]
    broker.post("events", [forged, genuine, b"rubbish"], expires_at=time.time() + 60, keep=10_000)

    site.until(lambda: sum(listener.receiver.refused.values()) == before + 3)
    assert "cardoon@evil" not in listener.state.workers
    trail = (site.folder / ".cardoon" / "audit.jsonl").read_text()
    assert '"kind":"event"' in trail


@pytest.fixture
def terminal(site: Site):
    site.start("-E", "-c", "2", "--heartbeat-interval", "0.3")
    words = [sys.executable, "-m", "cardoon", "-A", "work", "events"]
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.getenv("PYTHONPATH")])])
    made = Terminal(words, folder=site.folder, PYTHONPATH=path)
    yield made
    made.close()


def test_the_view_shows_what_happens_and_keys_lead_to_the_details(site, terminal):
    terminal.until_shows("1 of 1 workers alive")
    done = site.send("add", 40, 2)
    failed = site.send("fail", "no luck")
    for one in (done, failed):
        one.get(timeout=DEADLINE, propagate=False)

    terminal.until_shows("SUCCESS  work.add", "FAILURE  work.fail", done.id)
    terminal.type("/work.add\n")
    terminal.until_shows("/work.add", "SUCCESS  work.add")
    assert "work.fail" not in terminal.text()

    terminal.type("\n")
    terminal.until_shows(
        "name        work.add", "state       SUCCESS", "History", "task-received", "task-succeeded"
    )
    terminal.until_shows("result      SUCCESS; v reads it")
    terminal.type("v")
    terminal.until_shows("result      SUCCESS: 42")

    terminal.type("w")
    terminal.until_shows("worker", "ONLINE", "signer")
    terminal.type("?")
    terminal.until_shows("revoke a task; asks before")
    terminal.type("q")
    assert terminal.wait() == 0


def test_a_task_is_revoked_from_the_view_after_it_was_asked(site, terminal):
    terminal.until_shows("1 of 1 workers alive")
    slow = site.send("sleep_async", 60)
    terminal.until_shows("STARTED  work.sleep_async")

    terminal.type("r")
    terminal.until_shows(f"revoke {slow.id} and stop it if it runs? y/n")
    terminal.type("n")
    terminal.until_shows("not revoked")
    terminal.type("ry")

    terminal.until_shows("REVOKED  work.sleep_async")
    assert slow.state == "REVOKED"


def test_the_view_survives_a_change_of_size_and_the_end_by_control_c(site, terminal):
    terminal.until_shows("1 of 1 workers alive")

    for lines, columns in [(10, 40), (3, 10), (40, 160)]:
        terminal.resize(lines, columns)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.until_shows("too small" if lines == 3 else "cardoon events:")

    terminal.type("\x03")
    assert terminal.wait() == 0
