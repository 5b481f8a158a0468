"""What a process for each task costs: the levels of `isolated` beside `prefork` and a new interpreter.

python -m benchmarks isolated

Processor time is of the worker and all its processes, those that ended included; on a busy machine it says
more than rates do. A level that this machine cannot reach is told with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import machine
from benchmarks.isolated_app import FOLDER, SANDBOX, make_app
from benchmarks.measure import ROOT
from benchmarks.report import align

_SLOTS = 2
_START_SECONDS = 60.0
_SECONDS = 300.0
_BARE, _WITH_APP = "exec python -I", "exec python -I, with the app"
_PROCESS = "isolated, process"
# What two cores can hold, and why: docs/adr/0037-budgets-of-two-cores.md
_OF_INTERPRETER = 0.5
"""Of the processor time of an interpreter that imports the app."""
_OF_PROCESS = 1.3
"""Of that of a fresh process without a sandbox."""
_WAIT_BUDGET = 5.0
"""Milliseconds that a round trip takes longer than in `prefork`."""
_HEAD = ("kind", "tasks/s", "CPU ms/task", "latency p50 ms", "p99 ms", "budget")


class Cost(NamedTuple):
    """Of one kind; latencies in milliseconds, or None where there is no round trip."""

    rate: float
    cpu: float
    p50: float | None = None
    p99: float | None = None


def main(options: argparse.Namespace) -> int:
    """Measure every kind, and print a table."""
    print("  ".join(f"{name} {value}" for name, value in machine.describe(options.dir).items()))
    kinds: dict[str, tuple[str, ...]] = {"prefork": ("prefork",)}
    kinds |= {f"isolated, {one}": ("isolated", one) for one in ("process", "confined", "strict")}
    found: dict[str, Cost] = {}
    for name, kind in kinds.items():
        try:
            found[name] = _measure_pool(kind, options)
        except WorkerError as error:
            print(f"! {name}: skipped: {error}", flush=True)
            continue
        print(f"{name}: {found[name]}", flush=True)
    count = max(20, options.tasks // 100)
    for name, code in ((_BARE, ""), (_WITH_APP, "import cardoon")):
        found[name] = _measure_exec(code, count)
        print(f"{name}: {found[name]}", flush=True)
    print(f"\n{align([_HEAD, *(_row(name, cost, found) for name, cost in found.items())])}")
    if options.json:
        told = {name: cost._asdict() for name, cost in found.items()}
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


class WorkerError(Exception):
    """A worker did not start."""


@contextmanager
def _worker(kind: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    pool, *level = kind
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
        FOLDER: str(folder),
        SANDBOX: json.dumps({"level": level[0]}) if level else "",
    }
    command = [sys.executable, "-m", "cardoon", "-A", "benchmarks.isolated_app", "worker"]
    command += ["-P", pool, "-c", str(_SLOTS), "-l", "warning"]
    log = folder / "worker.log"
    with log.open("wb") as file:
        started = subprocess.Popen(command, env=environment, cwd=folder, stdout=file, stderr=file)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(30)


def _measure_pool(kind: Sequence[str], options: argparse.Namespace) -> Cost:
    folder = Path(tempfile.mkdtemp(prefix="isolated-", dir=options.dir))
    folder.chmod(0o755)  # tasks of a root worker are nobody, and it is in their path of modules
    try:
        with _worker(kind, folder) as worker:
            return _measure_worker(worker, folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure_worker(
    worker: subprocess.Popen[bytes], folder: Path, options: argparse.Namespace
) -> Cost:
    app = make_app(folder)
    noop = app.tasks["benchmarks.isolated_app.noop"]
    first = noop.delay()
    deadline = time.monotonic() + _START_SECONDS
    while not first.ready():
        if worker.poll() is not None or time.monotonic() > deadline:
            told = (folder / "worker.log").read_text(errors="replace").strip().splitlines()
            raise WorkerError(told[-1][:300] if told else f"exit code {worker.poll()}")
        time.sleep(0.05)
    before = machine.cpu_seconds(machine.family(worker.pid))
    begun = time.perf_counter()
    for result in noop.send_many([()] * options.tasks):
        result.get(timeout=_SECONDS)
    elapsed = time.perf_counter() - begun
    used = machine.cpu_seconds(machine.family(worker.pid)) - before
    times = []
    for _ in range(options.latency):
        start = time.perf_counter()
        noop.delay().get(timeout=_SECONDS)
        times.append((time.perf_counter() - start) * 1000)
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    app.close()
    return Cost(options.tasks / elapsed, used / options.tasks * 1000, cuts[49], cuts[98])


def _measure_exec(code: str, count: int) -> Cost:
    """Start an interpreter for each task, as many at a time as there are slots."""
    command = [sys.executable, "-I", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"]

    def run(_number: int) -> None:
        subprocess.run(command, check=True, cwd=ROOT)

    before = _cpu_of_children()
    begun = time.perf_counter()
    with ThreadPoolExecutor(_SLOTS) as threads:
        list(threads.map(run, range(count)))
    elapsed = time.perf_counter() - begun
    return Cost(count / elapsed, (_cpu_of_children() - before) / count * 1000)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _row(name: str, cost: Cost, found: dict[str, Cost]) -> tuple[str, ...]:
    times = ["" if one is None else f"{one:.2f}" for one in (cost.p50, cost.p99)]
    return (name, f"{cost.rate:,.0f}", f"{cost.cpu:.2f}", *times, _verdict(name, cost, found))


def _verdict(name: str, cost: Cost, found: dict[str, Cost]) -> str:
    if not name.startswith("isolated"):
        return ""
    told = []
    for beside, most in ((_WITH_APP, _OF_INTERPRETER), (_PROCESS, _OF_PROCESS)):
        other = found.get(beside)
        if other is not None and beside != name:
            ratio = cost.cpu / other.cpu
            told.append(f"{ratio:.2f} x {beside}, <= {most:g}: {_met(ratio <= most)}")
    plain = found.get("prefork")
    if plain is not None and plain.p50 is not None and cost.p50 is not None:
        longer = cost.p50 - plain.p50
        told.append(f"waits {longer:+.2f} ms, < {_WAIT_BUDGET:g}: {_met(longer < _WAIT_BUDGET)}")
    return "; ".join(told)


def _met(is_so: bool) -> str:  # noqa: FBT001  # one word for it
    return "met" if is_so else "MISSED"
