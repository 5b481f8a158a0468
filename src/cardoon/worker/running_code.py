"""Which processes of a worker are looked at for code that is not what the baseline says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cardoon.integrity.baseline import Baseline
from cardoon.integrity.findings import Finding, Kind
from cardoon.integrity.running import Runner, Scope, find_running
from cardoon.worker.sizing import Observable

if TYPE_CHECKING:
    from cardoon.worker.worker import Worker


def make_look(worker: Worker, scope: Scope) -> Callable[[Baseline], list[Finding]]:
    """What a drift watch calls at each check: looks at the worker, the zygote and the task processes."""

    def find_loaded(baseline: Baseline) -> list[Finding]:
        return find_running(baseline, scope, _runners(worker))

    return find_loaded


def _runners(worker: Worker) -> Iterator[Runner]:
    """All but the worker itself. A task process is one of many: its number would be news at each check."""
    zygote = None if worker.nursery is None else worker.nursery.pid
    if zygote is None:  # of solo, all is in the worker
        return
    yield Runner("the process that imports the app", zygote)
    if isinstance(worker.pool, Observable):
        for pid in worker.pool.describe().get("processes", ()):
            yield Runner("a task process", pid, Kind.TASK_LOADED)
