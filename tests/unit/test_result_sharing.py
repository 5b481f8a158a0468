"""One handle on a result, used from threads, event loops and a forked child."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from cardoon.result import GroupResult
from tests.unit.stage import PATIENCE, succeeded


def end_all(stage, value):
    for job in stage.consume():
        stage.end(job, succeeded(value))


def test_many_threads_wait_for_one_handle(stage):
    result = stage.send()
    called = []
    result.then(called.append)

    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(result.get, PATIENCE) for _ in range(8)]
        end_all(stage, 5)
        assert [one.result(PATIENCE) for one in waiting] == [5] * 8

    assert called == [result]


def test_many_threads_wait_for_one_group(stage):
    group = GroupResult("g", [stage.send() for _ in range(5)], source=stage.app)

    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(group.get, PATIENCE) for _ in range(4)]
        end_all(stage, 5)
        assert [one.result(PATIENCE) for one in waiting] == [[5] * 5] * 4


def test_who_is_added_while_the_result_comes_is_called_once(stage):
    for _ in range(20):
        result = stage.send()
        end_all(stage, 5)
        called = []
        begin = threading.Barrier(2)

        def add(result=result, called=called, begin=begin):
            begin.wait(PATIENCE)
            for _ in range(50):
                result.then(called.append)

        adding = threading.Thread(target=add)
        adding.start()
        begin.wait(PATIENCE)
        result.get(PATIENCE)
        adding.join(PATIENCE)

        assert len(called) == 50


def test_two_event_loops_await_one_handle(stage):
    result = stage.send()

    async def wait():
        return await asyncio.wait_for(result.wait_async(), PATIENCE)

    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(asyncio.run, wait()) for _ in range(2)]
        end_all(stage, 5)
        assert [one.result(PATIENCE).state for one in waiting] == ["SUCCESS"] * 2


FORKED = """
import os, sys
from cardoon import Cardoon

app = Cardoon("shop", state_directory=sys.argv[1])
result = app.send_task("shop.pay")
assert result.state == "PENDING"
child = os.fork()
if child == 0:
    found = result.state, result.exists(), result.whereabouts()
    os._exit(0 if found == ("PENDING", False, "ready") else 1)
_, status = os.waitpid(child, 0)
assert result.whereabouts() == "ready"
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_handle_is_read_on_both_sides_of_a_fork(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path / "state")],
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr.decode()
