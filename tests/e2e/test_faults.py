"""kill -9 anything at any time: nothing is lost, and nobody innocent pays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from cardoon import states
from cardoon.exceptions import Reject, TaskRevokedError, WorkerLostError
from tests.e2e.conftest import PROJECT, wait_until

CLIENT = """
import os, sys
from cardoon import Cardoon
app = Cardoon("work", state_directory=sys.argv[1])
ledger = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in range(int(sys.argv[4])):
    result = app.send_task("work.touch", (sys.argv[3], f"client{number}"))
    os.write(ledger, f"{result.id} client{number}\\n".encode())
"""


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def task_processes(worker: subprocess.Popen[bytes]) -> list[int]:
    return [pid for zygote in children_of(worker.pid) for pid in children_of(zygote)]


@pytest.mark.slow
def test_two_thousand_tasks_survive_the_death_of_everybody(site):
    worker = site.start("-c", "2", "-n", "first")
    ledger, done = site.folder / "ledger", site.path("done")
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(site.folder / ".cardoon"), str(ledger), done, "100000"]
    )
    wait_until(lambda: ledger.exists() and ledger.read_bytes().count(b"\n") > 200)
    client.send_signal(signal.SIGKILL)
    client.wait()
    sent = dict(
        line.split() for line in ledger.read_text().splitlines(keepends=True) if "\n" in line
    )
    missing = max(0, 2000 - len(sent))
    calls = [(done, f"test{number}") for number in range(missing)]
    with site.app as app:
        touch = app.task(name="work.touch")(lambda path, text="": None)
        sent |= {r.id: call[1] for r, call in zip(touch.send_many(calls), calls, strict=True)}
        for _ in range(3):
            before = len(site.lines("done"))
            wait_until(lambda seen=before: len(site.lines("done")) > seen + 50)
            os.kill(task_processes(worker)[0], signal.SIGKILL)
            before = len(site.lines("done"))
            wait_until(lambda seen=before: len(site.lines("done")) > seen + 50)
            worker.kill()
            worker.wait()
            worker = site.start("-c", "2", "-n", "first", wait=False)
        results = [app.AsyncResult(task_id) for task_id in sent]
        wait_until(lambda: all(result.ready() for result in results), "results")

        assert {result.state for result in results} == {states.SUCCESS}
    runs = Counter(line.split()[0] for line in site.lines("done"))
    assert set(sent.values()) <= set(runs), "a task whose send returned was lost"
    duplicates = sum(runs.values()) - len(runs)
    print(f"sent {len(sent)}, ran {sum(runs.values())}, of them {duplicates} twice")
    assert duplicates < 3 * 2 * 128 + 6, "more ran twice than were in the processes that died"


def test_a_task_that_kills_its_process_runs_three_times_and_is_kept(site):
    site.start("-c", "2")
    result = site.send("die", site.path("died"))

    with pytest.raises(WorkerLostError, match="3 times"):
        result.get(timeout=40)

    assert len(site.lines("died")) == 3
    listed = run_cli(site, "dead", "list", "--json")
    assert [entry["id"] for entry in json.loads(listed)] == [result.id]
    assert "signal 9" in json.loads(listed)[0]["reason"]


def test_the_neighbours_of_a_killer_are_not_blamed(site):
    site.start("-c", "2")
    results = [site.send("touch", site.path("done"), str(number)) for number in range(50)]
    killer = site.send("leave", site.path("left"))
    results += [site.send("touch", site.path("done"), str(number)) for number in range(50, 100)]

    with pytest.raises(WorkerLostError, match="exit code 7"):
        killer.get(timeout=40)

    assert {result.get(timeout=20) for result in results} == {str(number) for number in range(100)}


def test_a_dead_letter_runs_again_when_asked(site):
    site.start("-c", "1")
    result = site.send("need", site.path("needed"))
    with pytest.raises(Reject, match="not there"):
        result.get(timeout=20)
    Path(site.path("needed")).touch()
    number = json.loads(run_cli(site, "dead", "list", "--json"))[0]["number"]

    assert "put back 1" in run_cli(site, "dead", "retry", str(number))
    assert site.app.AsyncResult(result.id).get(timeout=20) == "there"


def test_an_expired_task_is_revoked_and_kept(site):
    result = site.send("touch", site.path("touched"), expires=0.01)
    site.start("-c", "1")

    with pytest.raises(TaskRevokedError, match="expired"):
        result.get(timeout=20)
    assert json.loads(run_cli(site, "dead", "list", "--json"))[0]["reason"] == "expired"
    assert not site.lines("touched")


def test_a_task_with_early_acknowledgement_runs_at_most_once(site):
    site.start("-c", "1")
    result = site.send("once", site.path("once"))

    with pytest.raises(WorkerLostError):
        result.get(timeout=20)

    assert len(site.lines("once")) == 1


def test_a_task_may_ask_not_to_run_again_after_a_crash(site):
    site.start("-c", "1")

    with pytest.raises(WorkerLostError):
        site.call("fragile", site.path("fragile"))

    assert len(site.lines("fragile")) == 1


def test_a_killed_worker_gives_its_tasks_to_the_next(site):
    first = site.start("-c", "2", "-n", "one")
    held = [site.send("hold", site.path("started"), site.path("gate")) for _ in range(2)]
    site.until(lambda: len(site.lines("started")) == 2)

    first.kill()
    first.wait()
    killed = time.monotonic()
    site.start("-c", "2", "-n", "two", wait=False)
    site.until(lambda: len(site.lines("started")) == 4)
    took = time.monotonic() - killed
    Path(site.path("gate")).touch()

    assert {result.get(timeout=20) for result in held} == {"released"}
    assert took < 15, "they came back with the lease, not with the restart"


def test_what_ended_while_its_worker_could_not_hear_it_does_not_run_again(site):
    first = site.start("-c", "1", "-n", "one")
    held = site.send("hold", site.path("started"), site.path("gate"))
    site.until(lambda: site.lines("started"))
    first.send_signal(signal.SIGSTOP)
    before = written_outcomes(site)
    Path(site.path("gate")).touch()
    site.until(lambda: written_outcomes(site) > before)

    first.kill()
    first.wait()
    site.start("-c", "1", "-n", "one")

    assert held.get(timeout=20) == "released"
    assert len(site.lines("started")) == 1
    assert "1 tasks had ended when the worker was killed here" in site.log.read_text()


def written_outcomes(site) -> int:
    return sum(one.stat().st_size for one in site.folder.rglob("*.outcomes"))


def test_the_processes_of_a_killed_worker_die_with_it(site):
    worker = site.start("-c", "2")
    site.send("hold", site.path("started"), site.path("gate"))
    site.until(lambda: site.lines("started"))
    family = [*children_of(worker.pid), *task_processes(worker)]

    worker.kill()
    worker.wait()

    wait_until(lambda: not any(is_alive(pid) for pid in family), "processes outlive their worker")


def test_a_killed_zygote_is_replaced(site):
    worker = site.start("-c", "2")
    held = site.send("hold", site.path("started"), site.path("gate"))
    site.until(lambda: site.lines("started"))

    os.kill(children_of(worker.pid)[0], signal.SIGKILL)
    site.until(lambda: len(site.lines("started")) == 2)
    Path(site.path("gate")).touch()

    assert held.get(timeout=20) == "released"
    assert site.call("add", 1, 2) == 3


def test_a_warm_shutdown_lets_the_running_task_end(site):
    worker = site.start("-c", "1")
    held = site.send("hold", site.path("started"), site.path("gate"))
    site.until(lambda: site.lines("started"))
    waiting = site.send("add", 1, 1)

    worker.terminate()
    site.until(lambda: "warm shutdown" in site.log.read_text())
    Path(site.path("gate")).touch()

    assert worker.wait(20) == 0
    assert held.get(timeout=5) == "released"
    assert waiting.state == states.PENDING


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
def test_a_shutdown_hands_back_what_does_not_end(site, pool):
    worker = site.start("-c", "1", "-P", pool, env={"CARDOON_WORKER_SOFT_SHUTDOWN_TIMEOUT": "2.5"})
    held = site.send("hold", site.path("started"), site.path("gate"))
    site.until(lambda: site.lines("started"))

    worker.terminate()

    assert worker.wait(20) == 0
    assert [line.split()[0] for line in site.lines("started")] == ["start", "shutdown"]
    Path(site.path("gate")).touch()
    site.start("-c", "1", wait=False)
    assert held.get(timeout=20) == "released"


def test_a_second_signal_stops_at_once_and_loses_nothing(site):
    worker = site.start("-c", "1")
    held = site.send("hold", site.path("started"), site.path("gate"))
    site.until(lambda: site.lines("started"))

    worker.send_signal(signal.SIGINT)
    wait_until(lambda: "warm shutdown" in site.log.read_text())
    worker.send_signal(signal.SIGINT)

    assert worker.wait(10) == 0
    Path(site.path("gate")).touch()
    site.start("-c", "1", wait=False)
    assert held.get(timeout=20) == "released"


def test_a_process_is_replaced_after_its_share_of_tasks(site):
    site.start("-c", "1", "--max-tasks-per-child", "2")

    pids = [site.call("pid") for _ in range(7)]

    assert max(Counter(pids).values()) == 2


def test_a_process_that_has_grown_too_large_is_replaced(site):
    site.start("-c", "1", "--max-memory-per-child", str(150 * 1024))

    grown = site.call("hog", 200)

    assert site.call("pid") != grown


def test_a_revoked_task_does_not_run(site):
    result = site.send("touch", site.path("touched"))
    result.revoke()
    site.start("-c", "1")

    with pytest.raises(TaskRevokedError):
        result.get(timeout=20)
    assert not site.lines("touched")


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio", "solo"])
def test_a_running_task_is_stopped_by_its_revocation(site, pool):
    site.start("-c", "1", "-P", pool)
    result = site.send("hold", site.path("started"), site.path("gate"))
    site.until(lambda: site.lines("started"))

    result.revoke(terminate=True)

    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=20)
    assert result.state == states.REVOKED
    assert site.call("add", 1, 2) == 3


def test_tasks_keep_to_their_rate(site):
    site.start("-c", "2")

    times = sorted(r.get(timeout=20) for r in [site.send("limited") for _ in range(6)])

    assert times[-1] - times[0] >= 0.9


def test_a_task_without_result_leaves_none(site):
    site.start("-c", "1")
    result = site.send("silent", site.path("done"))
    site.until(lambda: site.lines("done"))
    site.call("add", 1, 1)

    assert result.state == states.PENDING


def test_a_slow_task_does_not_hold_up_those_behind_it(site):
    site.start("-c", "2")
    site.app.task(name="work.add")(lambda x, y: None).send_many([(1, 1)] * 500)
    held = site.send("hold", site.path("started"), site.path("gate"))
    results = [site.send("add", number, 1) for number in range(100)]

    assert [result.get(timeout=10) for result in results] == [n + 1 for n in range(100)]
    Path(site.path("gate")).touch()
    assert held.get(timeout=20) == "released"


def test_a_worker_on_a_broken_app_says_why_and_ends(site):
    worker = site.start(app="no_such_module", wait=False)

    assert worker.wait(20) == 1
    assert "there is no module 'no_such_module'" in site.log.read_text()


def test_nothing_can_be_lost_through_a_full_pipe(site):
    site.start("-c", "1")
    big = "x" * 400_000
    results = [site.send("echo", big) for _ in range(8)]

    assert {len(result.get(timeout=20)) for result in results} == {len(big)}


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def run_cli(site, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cardoon", *arguments],
        cwd=site.folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
