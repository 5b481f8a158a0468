"""A task's network through the API: listed addresses are reached, what is not is refused and told."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cardoon.exceptions import WorkerLostError
from tests.e2e.cell import cell_site
from tests.sandbox.test_pool import check_is_held
from tests.sandbox.watched import echo_server


@pytest.fixture(scope="module", params=["confined", "strict"])
def wired(request):
    """A worker whose tasks may reach one port of this machine, and another one that they may not."""
    level = check_is_held(request.param)
    with echo_server() as port, echo_server() as other:
        network = [f"127.0.0.1:{port}", "db.internal:5432"]
        with cell_site(level, network=network, syscalls="net") as made:
            made.level, made.port, made.other = level, port, other
            yield made


def warden_of(worker: int) -> int:
    """The process that watches the tasks of a worker."""
    for child in Path(f"/proc/{worker}/task/{worker}/children").read_text().split():
        if "cardoon.worker.warden" in Path(f"/proc/{child}/cmdline").read_text():
            return int(child)
    raise LookupError(worker)


def test_a_listed_server_is_reached_with_much_to_say(wired):
    text = "0123456789abcdef" * 60_000

    result = wired.send("fetch", "127.0.0.1", wired.port, text)

    assert result.get(timeout=60) == text
    assert result.violations == ()


def test_another_port_is_refused(wired):
    result = wired.send("fetch_or_say", "127.0.0.1", wired.other)

    told = result.get(timeout=30)
    if wired.level == "strict":  # there is nothing else in its network
        assert told == "ConnectionRefusedError"
    else:
        assert told == "PermissionError"
        [refused] = [one for one in result.violations if one.by == "kernel"]
        assert refused.rule == "connect"
        assert refused.detail == f"127.0.0.1:{wired.other} (not listed)"


def test_names_that_are_not_listed_mean_nothing(wired):
    assert wired.call("fetch_or_say", "other.internal", wired.port) == "gaierror"


def test_a_listed_name_is_known_though_nobody_answers_for_it(wired):
    told = wired.call("fetch_or_say", "db.internal", 5432)

    # There is no such name where the worker runs.
    assert told in {"OSError", "ConnectionResetError", "BrokenPipeError"}


def test_the_worker_goes_on_after_a_flood(wired):
    if wired.level == "strict":
        pytest.skip("its network is empty, so nobody is asked")
    result = wired.send("fetch_without_end", "127.0.0.1", wired.other)

    with pytest.raises(WorkerLostError):
        result.get(timeout=60)
    assert wired.call("add", 1, 1) == 2
    assert "asks without end" in wired.log.read_text()


def test_a_task_of_a_warden_that_died_runs_again(wired):
    [worker] = wired.workers
    begun, go = wired.place / "begun", wired.place / "go"
    result = wired.send("wait_and_fetch", str(begun), str(go), "127.0.0.1", wired.port)
    wired.until(begun.exists)

    os.kill(warden_of(worker.pid), signal.SIGKILL)
    wired.until(lambda: begun.read_text() == "begun\n" * 2)
    go.touch()

    assert result.get(timeout=30) == "at last"
    assert wired.call("fetch", "127.0.0.1", wired.port, "anew") == "anew"
