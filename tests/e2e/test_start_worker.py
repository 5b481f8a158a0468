"""`start_worker` with processes: the test's own process is the worker's main one."""

from __future__ import annotations

import os
import sys

import pytest

from cardoon.contrib.testing.worker import start_worker

PROJECT = """
import os
from cardoon import Cardoon

app = Cardoon("pooled", broker="memory://", state_directory={folder!r})

@app.task
def pid():
    return os.getpid()

@app.task
def parent():
    return pid.delay().id
"""


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_pool_of_processes_runs_tasks_from_the_memory_of_the_test(pool, tmp_path, monkeypatch):
    (tmp_path / "pooled.py").write_text(PROJECT.format(folder=str(tmp_path / "state")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pooled", raising=False)
    import pooled  # noqa: PLC0415  # it was just written

    try:
        with start_worker(
            pooled.app, pool=pool, target="pooled:app", concurrency=2, loglevel="warning"
        ):
            assert pooled.pid.delay().get(timeout=20) != os.getpid()
            child = pooled.parent.delay().get(timeout=20)
            assert pooled.pid.AsyncResult(child).get(timeout=20)
    finally:
        pooled.app.close()
        sys.modules.pop("pooled")
