"""The harness still measures: a small run on SQLite, and what its report makes of figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("psutil", reason="the benchmarks need psutil")

from benchmarks import report
from benchmarks.report import Run

ROOT = Path(__file__).parents[2]


def test_a_small_run_measures_cardoon_and_loses_no_task(tmp_path):
    told = tmp_path / "told.json"
    sizes = ["--tasks", "200", "--reps", "1"]
    chosen = ["--broker", "sqlite", "--only", "cardoon-signed:bulk"]

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *sizes, *chosen, "--dir", tmp_path, "--json", told],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    [sqlite] = json.loads(told.read_text())["brokers"]
    runs = {run["measurement"]: run["figures"] for run in sqlite["runs"]}
    assert not [run for run in runs.values() if "error" in run]
    assert runs[report.DRAIN_BATCH]["tasks"] == 200
    assert runs[report.DRAIN_BATCH]["lost"] == 0
    assert {row[0] for row in sqlite["table"][1:]} == set(runs)


def test_what_a_process_for_each_task_costs_is_told_beside_the_others(tmp_path):
    told = tmp_path / "told.json"
    sizes = ["--tasks", "20", "--latency", "5", "--dir", tmp_path, "--json", told]

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "isolated", *sizes],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    costs = json.loads(told.read_text())
    levels = [f"isolated, {one}" for one in ("process", "confined", "strict")]
    assert all(one in costs or f"! {one}: skipped: " in done.stdout for one in levels)
    assert {*costs} - {*levels} == {
        "prefork", "exec python -I", "exec python -I, with the app",
    }  # fmt: skip
    assert costs["prefork"]["cpu"] < costs["exec python -I"]["cpu"]


def _verdicts(*runs: Run) -> dict[str, str]:
    return {row[0]: row[-1] for row in report.make_table(runs)[1:] if row[1] == "cardoon-signed"}


def _run(peer: str, measurement: str, *, broker: str = "redis", **figures: float) -> Run:
    return Run(broker, measurement, peer, 0, figures)


def test_a_budget_is_judged_against_the_best_peer_on_that_broker():
    found = _verdicts(
        _run("cardoon-signed", report.DRAIN, rate=20_000.0),
        _run("huey", report.DRAIN, rate=4_900.0),
        _run("celery", report.DRAIN, rate=900.0),
        _run("huey", report.DRAIN, rate=90_000.0, broker="sqlite"),
    )

    assert found == {report.DRAIN: ">= 0.6 x best peer: met; >= 4 x celery: met"}


def test_a_budget_that_names_a_peer_is_not_judged_without_it():
    sends = _run("cardoon-signed", report.SEND, rate=3_000.0)

    alone = _verdicts(sends, _run("huey", report.SEND, rate=9_000.0))
    beside = _verdicts(sends, _run("dramatiq", report.SEND, rate=6_000.0))

    assert alone == {report.SEND: ""}
    assert beside == {report.SEND: ">= 0.6 x dramatiq: MISSED"}


def test_a_time_is_judged_against_the_best_peer():
    ours = _run("cardoon-signed", report.LATENCY, p50=3.0)

    near = _verdicts(ours, _run("huey", report.LATENCY, p50=1.5))
    far = _verdicts(ours, _run("huey", report.LATENCY, p50=1.0))

    assert near == {report.LATENCY: "<= 2.5 x best peer: met"}
    assert far == {report.LATENCY: "<= 2.5 x best peer: MISSED"}


def test_a_run_that_lost_tasks_counts_for_nothing():
    runs = [_run("cardoon-signed", report.DRAIN, rate=20_000.0, lost=1)]

    assert report.make_table(runs)[1:] == []
    assert report.warnings_of(runs) == [
        "redis: drain, cardoon-signed, repetition 1: left out: 1 tasks did not run"
    ]
