"""A real worker as those see it who watch it: metrics, health, systemd and logs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.cell import cell_site
from tests.e2e.conftest import DEADLINE, PROJECT, Site, wait_until
from tests.servers.ground import free_port, running
from tests.servers.redis import RedisServer


class Watched:
    """A site, and what its worker says of itself."""

    def __init__(self, site: Site, port: int) -> None:
        self.site = site
        self.port = port

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        line.request(method, path, headers=headers)
        answer = line.getresponse()
        found = answer.read().decode()
        line.close()
        return answer.status, found

    def health(self, path: str = "/readyz") -> tuple[int, dict]:
        status, body = self.get(path)
        return status, json.loads(body)

    def samples(self) -> list:
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return [sample for family in families for sample in family.samples]

    def value(self, metric: str, /, **labels: str) -> float:
        found = [
            sample.value
            for sample in self.samples()
            if sample.name == metric and labels.items() <= sample.labels.items()
        ]
        return sum(found)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.get("/livez")[0] in {200, 503}
        return False


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    site, port = Site(tmp_path_factory.mktemp("watched")), free_port()
    site.start("-c", "2", "--metrics", f"127.0.0.1:{port}", "--log-json")
    watched = Watched(site, port)
    # The task that a start waits for is counted a moment after its result is there.
    wait_until(lambda: watched.value("celery_task_succeeded_total") == 1)
    yield watched
    site.stop()


def ask(*arguments: str, **options):
    """`cardoon health`, through the real entry point."""
    return subprocess.run(
        [sys.executable, "-m", "cardoon", "health", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


# Metrics


def test_tasks_are_counted_by_name_queue_worker_and_exception(watched):
    before = {
        name: watched.value(f"celery_task_{name}_total")
        for name in ("received", "succeeded", "failed", "retried")
    }
    for number in range(5):
        watched.site.call("add", number, 1)
    with pytest.raises(ValueError, match="bad"):
        watched.site.call("fail", "bad")
    watched.site.call("flaky", 1)

    wait_until(
        lambda: watched.value("celery_task_succeeded_total") == before["succeeded"] + 6,
        lambda: [one for one in watched.samples() if one.name.startswith("celery_task_")],
    )
    assert watched.value("celery_task_received_total") == before["received"] + 8
    assert watched.value("celery_task_failed_total", exception="ValueError", name="work.fail") == 1
    assert watched.value("celery_task_retried_total", name="work.flaky") == 1
    assert (
        watched.value("cardoon_task_succeeded_total", name="work.flaky", queue_name="celery") == 1
    )
    assert watched.value("celery_task_runtime_count", name="work.add") >= 5
    [worker] = {s.labels["hostname"] for s in watched.samples() if s.name == "celery_worker_up"}
    assert worker.startswith("cardoon@")


def test_what_tasks_send_is_counted_as_sent(watched):
    watched.site.call("many", 3)

    wait_until(lambda: watched.value("celery_task_sent_total", queue_name="celery") >= 3)


def test_the_names_that_dashboards_ask_for_are_there(watched):
    wait_until(lambda: watched.value("celery_queue_length", queue_name="celery") == 0)
    names = {sample.name for sample in watched.samples()}

    assert names >= {
        "celery_task_received_total",
        "celery_task_started_total",
        "celery_task_succeeded_total",
        "celery_task_runtime_bucket",
        "celery_worker_up",
        "celery_worker_tasks_active",
        "celery_queue_length",
        "celery_active_consumer_count",
        "celery_active_worker_count",
        "celery_active_process_count",
        "cardoon_lease_losses_total",
        "cardoon_clock_jumps_total",
        "cardoon_worker_processes",
        "cardoon_audit_records_total",
        "cardoon_audit_seq",
        "cardoon_audit_checkpoint_age_seconds",
    }
    assert watched.value("celery_worker_up") == 1
    assert watched.value("cardoon_worker_processes") == 2


def test_curl_can_read_it(watched):
    done = subprocess.run(
        ["curl", "-sS", "-i", f"http://127.0.0.1:{watched.port}/metrics"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )

    head, _, body = done.stdout.partition("\n\n")
    assert head.startswith("HTTP/1.1 200 OK")
    assert "Content-Type: text/plain; version=0.0.4" in head
    assert "celery_worker_up{" in body


def test_refused_messages_are_counted_by_reason_and_lie_in_the_quarantine(watched):
    from cardoon.broker import Outgoing  # noqa: PLC0415
    from cardoon.deployment import Deployment  # noqa: PLC0415
    from cardoon.testing import FakeClock  # noqa: PLC0415

    broker = Deployment(watched.site.app.settings, clock=FakeClock()).open_broker()
    broker.publish([Outgoing("celery", "x1", b"not a message")], timeout=5)
    broker.close()

    labels = {"queue_name": "celery", "reason": "malformed"}
    wait_until(lambda: watched.value("cardoon_messages_rejected_total", **labels) == 1)
    wait_until(lambda: watched.value("cardoon_quarantine_messages", reason="malformed") == 1)


def test_hostile_requests_leave_the_worker_at_work(watched):
    open_lines = [socket.create_connection(("127.0.0.1", watched.port)) for _ in range(100)]
    for number, line in enumerate(open_lines):
        with contextlib.suppress(OSError):
            line.sendall(
                [b"", b"GET /met", b"\xff" * 20_000, b"POST / HTTP/1.1\r\n\r\n"][number % 4]
            )

    assert watched.site.call("add", 1, 1) == 2
    assert watched.get("/metrics")[0] == 200
    assert watched.health()[0] == 200
    for line in open_lines:
        line.close()
    assert watched.site.workers[0].poll() is None


# Health


def test_a_worker_that_works_is_live_and_ready(watched):
    for path in ("/livez", "/readyz", "/healthz"):
        status, told = watched.health(path)
        assert (status, told["status"], told["reasons"]) == (200, "ok", [])

    seconds = watched.health()[1]["seconds_since"]
    assert seconds["claim"] < 5
    assert seconds["settlement"] is not None


def test_the_command_asks_without_curl(watched):
    good = ask("--address", f"127.0.0.1:{watched.port}")
    live = ask("--live", "--json", "--address", f"127.0.0.1:{watched.port}")
    nobody = ask("--address", f"127.0.0.1:{free_port()}")
    wrong = ask("--address", "nowhere")

    assert (good.returncode, good.stdout) == (0, "ok\n")
    assert (live.returncode, json.loads(live.stdout)["status"]) == (0, "ok")
    assert nobody.returncode == 1
    assert nobody.stdout.startswith("unreachable\n")
    assert wrong.returncode == 2
    assert "HOST:PORT" in wrong.stderr


def test_a_pool_that_is_stopped_by_a_signal_is_not_ready(site):
    port = free_port()
    watched = Watched(site, port)
    worker = site.start("-c", "2", "--metrics", str(port)).pid
    wait_until(lambda: len(processes_of(worker)) == 2)
    children = processes_of(worker)
    try:
        for pid in children:
            os.kill(pid, signal.SIGSTOP)

        wait_until(lambda: watched.health()[0] == 503)
        assert "stopped by a signal" in " ".join(watched.health()[1]["reasons"])
        assert watched.health("/livez")[0] == 200  # for half a minute it may be a debugger
        assert ask("--address", str(port)).returncode == 1
    finally:
        for pid in children:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: watched.health()[0] == 200)
    assert site.call("add", 1, 1) == 2


def test_a_unix_socket_serves_the_same_and_is_gone_with_the_worker(site):
    path = site.folder / "status"
    worker = site.start("--metrics", f"unix:{path}")

    assert ask("--address", f"unix:{path}").stdout == "ok\n"
    assert ask(env={**os.environ, "CARDOON_WORKER_METRICS_ADDRESS": f"unix:{path}"}).returncode == 0
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(DEADLINE) == 0
    assert not path.exists()


def test_a_token_keeps_reasons_and_metrics_from_strangers(site):
    port = free_port()
    (site.folder / "token").write_text("open-sesame\n")
    (site.folder / "token").chmod(0o600)
    reference = f"file:{site.folder / 'token'}"
    site.start("--metrics", f"0.0.0.0:{port}", env={"CARDOON_WORKER_METRICS_TOKEN": reference})
    watched = Watched(site, port)

    assert watched.get("/metrics")[0] == 401
    assert watched.health() == (200, {"status": "ok"})
    assert watched.get("/metrics", Authorization="Bearer open-sesame")[0] == 200
    told = ask("--json", "--address", f"127.0.0.1:{port}", "--token", reference)
    assert "seconds_since" in json.loads(told.stdout)


def test_an_open_address_without_a_token_is_refused_at_the_start(site):
    worker = site.start("--metrics", f"0.0.0.0:{free_port()}", wait=False)

    assert worker.wait(DEADLINE) == 1
    assert "unsafe_allow_open_metrics" in site.log.read_text()


def test_an_open_address_is_served_when_that_is_said_and_is_on_record(site):
    port = free_port()
    site.start("--metrics", f"0.0.0.0:{port}", env={"CARDOON_UNSAFE_ALLOW_OPEN_METRICS": "true"})

    assert Watched(site, port).get("/metrics")[0] == 200
    assert "unsafe_allow_open_metrics: whoever reaches" in site.log.read_text()
    [trail] = (site.folder / ".cardoon").rglob("audit.jsonl")
    told = [json.loads(line) for line in trail.read_text().splitlines()]
    assert "unsafe_allow_open_metrics" in {one.get("setting") for one in told}


def processes_of(worker: int) -> list[int]:
    """The task processes below a worker: the children of its zygote."""
    found = []
    for zygote in children_of(worker):
        found += children_of(zygote)
    return found


def children_of(pid: int) -> list[int]:
    done = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.parametrize("pool", ["threads", "asyncio", "solo"])
def test_every_pool_counts_and_measures(site, pool):
    port = free_port()
    site.start("-P", pool, "--metrics", str(port), *(() if pool == "solo" else ("-c", "2")))

    check_counts(site, Watched(site, port))


def test_the_pool_isolated_counts_and_measures():
    port = free_port()
    with cell_site("process", "--metrics", str(port)) as site:
        check_counts(site, Watched(site, port))


def check_counts(site: Site, watched: Watched) -> None:
    with pytest.raises(ValueError, match="bad"):
        site.call("fail", "bad")
    wait_until(lambda: watched.value("celery_task_failed_total", exception="ValueError") == 1)
    assert watched.value("celery_task_succeeded_total") >= 1
    assert watched.value("celery_task_runtime_count") >= 2
    assert watched.health()[0] == 200


def test_a_worker_whose_broker_is_not_there_is_live_and_not_ready(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "cardoon", "init", str(tmp_path)], check=True, capture_output=True
    )
    site, port = Site(tmp_path), free_port()
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    environment = {"CARDOON_BROKER_URL": nobody, "CARDOON_RESULT_BACKEND": nobody}
    watched = Watched(site, port)
    try:
        worker = site.start("--metrics", str(port), env=environment, wait=False)
        wait_until(watched.answers)

        assert watched.health("/livez")[0] == 200
        status, told = watched.health()
        assert (status, told["reasons"]) == (503, ["starting: it waits for the broker"])
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(DEADLINE) == 0
    finally:
        site.stop()


# A broker that is stuck


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as made:
        yield made


def test_a_broker_that_is_stuck_makes_it_unready_but_not_dead(server, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "cardoon", "init", str(tmp_path)], check=True, capture_output=True
    )
    site, port = Site(tmp_path), free_port()
    site.app.conf.update(broker_url=server.url, result_backend=server.url)
    site.environment = {
        "CARDOON_BROKER_URL": server.url,
        "CARDOON_RESULT_BACKEND": server.url,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, [os.getenv("PYTHONPATH")])]),
    }
    watched = Watched(site, port)
    try:
        site.start("-c", "1", "--metrics", str(port), app="flows")
        assert watched.health()[0] == 200

        with server.frozen():
            wait_until(lambda: watched.health()[0] == 503)
            assert "broker: no " in " ".join(watched.health()[1]["reasons"])
            assert watched.health("/livez")[0] == 200
            assert watched.value("celery_worker_up") == 0

        wait_until(lambda: watched.health()[0] == 200)
        assert site.call("add", 2, 3) == 5
    finally:
        site.stop()


# systemd


def test_systemd_is_told_of_the_start_the_progress_and_the_end(site, tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(DEADLINE)
        environment = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000"}
        worker = site.start(env=environment, wait=False)

        assert hear(manager, "READY=1").startswith("READY=1\nSTATUS=cardoon@")
        hear(manager, "WATCHDOG=1")
        assert "STATUS=ready" in hear(manager, "STATUS=")
        # A task could tell of progress that there is not.
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(site.call("variables"))
        hear(manager, "WATCHDOG=1")
        worker.send_signal(signal.SIGTERM)
        hear(manager, "STOPPING=1")
        assert worker.wait(DEADLINE) == 0


def hear(manager: socket.socket, word: str) -> str:
    """The next datagram that begins so."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        told = manager.recv(4096).decode()
        if told.startswith(word):
            return told
    raise AssertionError(f"{word} was not told")


# The watchdog

HANGING = """
import sys, threading
from cardoon import Cardoon
from cardoon.brokers.memory import MemoryBroker
from cardoon.clock import SystemClock
from cardoon.worker import watchdog
from cardoon.worker.options import WorkerOptions
from cardoon.worker.worker import Worker

class Hanging(MemoryBroker):
    def receive(self, *args, **kwargs):
        threading.Event().wait()

watchdog.LOOP_SECONDS = 2.0
app = Cardoon("hanging", broker_url="memory://", worker_pool="solo", state_directory=sys.argv[1])
stores = (Hanging(clock=SystemClock()), None)
sys.exit(Worker(WorkerOptions(app="hanging"), app=app, stores=stores).run())
"""


def test_a_worker_whose_loop_hangs_is_told_of_and_ends_with_70(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 70, done.stderr
    [trail] = (tmp_path / "state").rglob("audit.jsonl")
    events = [json.loads(line) for line in trail.read_text().splitlines()]
    stuck = [(one["loop"], one["exits"]) for one in events if one["event"] == "worker.stuck"]
    assert stuck == [("consumer", False), ("consumer", True)]
    assert events[-1]["event"] == "worker.stop"
    assert events[-1]["code"] == 70


# Logs


def test_each_line_of_the_log_is_an_object_that_names_the_task(watched):
    result = watched.site.send("log", 'a line\nthat ends early", "level": "FORGED')
    result.get(timeout=DEADLINE)
    log = watched.site.log
    wait_until(lambda: f"{result.id}] success" in log.read_text())

    text = log.read_text(errors="replace")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    ours = [line for line in lines if line.get("task_id") == result.id]
    assert {"cardoon.worker.settler", "cardoon.task.work"} <= {line["logger"] for line in ours} | {
        f"cardoon.task.{line['logger'].rpartition('.')[2]}" for line in ours
    }
    assert all(line["task"] == "work.log" for line in ours)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", line["time"]) for line in lines)
    assert {line["level"] for line in lines} <= {"INFO", "WARNING", "ERROR", "CRITICAL"}
