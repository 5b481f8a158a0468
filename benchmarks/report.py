"""From runs to a table: medians, spread, how each compares with the best peer, and the budgets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.peers import PEERS, Peer


class Run(NamedTuple):
    """One measurement of one peer."""

    measurement: str
    peer: str
    repetition: int
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a figure of Cardoon, signed, has to reach."""

    text: str
    is_met: Callable[[float, float | None], bool]
    """Given the figure, and how many times better than the best peer it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What is measured and how it reads."""

    name: str
    figure: str
    unit: str
    is_less_better: bool = False
    rival: str = ""
    """The peers' measurement to compare with, where they have none of this kind."""
    budget: Budget | None = None


def at_least(times: float) -> Budget:
    """So many times the best peer."""
    return Budget(
        text=f">= {times:g} x best peer",
        is_met=lambda _, ratio: ratio is not None and ratio >= times,
    )


def below(limit: float, unit: str) -> Budget:
    """Less than a fixed number."""
    return Budget(text=f"< {limit:g} {unit}", is_met=lambda figure, _: figure < limit)


SEND, BULK = "send singly", "send in bulk"
DRAIN, DRAIN_BATCH = "drain", "drain, sent in bulk"
RESULTS, RESULTS_BATCH = "drain with results", "drain with results, sent in bulk"
LATENCY, LATENCY_TAIL, IDLE = "latency, median", "latency, 99 %", "idle worker"
SHALLOW, DEEP = "task at depth 1,000", "task at depth 100,000"

MEASUREMENTS = (
    Measurement(name=SEND, figure="rate", unit="/s"),
    Measurement(name=BULK, figure="rate", unit="/s", rival=SEND),
    Measurement(name=DRAIN, figure="rate", unit="/s", budget=at_least(2.5)),
    Measurement(name=DRAIN_BATCH, figure="rate", unit="/s", rival=DRAIN, budget=at_least(2.5)),
    Measurement(name=RESULTS, figure="rate", unit="/s"),
    Measurement(name=RESULTS_BATCH, figure="rate", unit="/s", rival=RESULTS),
    Measurement(
        name=LATENCY, figure="p50", unit=" ms", is_less_better=True, budget=below(1.5, "ms")
    ),
    Measurement(name=LATENCY_TAIL, figure="p99", unit=" ms", is_less_better=True),
    Measurement(
        name=IDLE, figure="idle", unit=" % core", is_less_better=True, budget=below(0.5, "%")
    ),
    Measurement(name=SHALLOW, figure="cpu_us", unit=" us CPU", is_less_better=True),
    Measurement(name=DEEP, figure="cpu_us", unit=" us CPU", is_less_better=True),
)
_DEPTH_TOLERANCE = 1.2
_BUSY_CORES = 0.25

_HEAD = ("measured", "who", "median", "min - max", "CPU/task", "to best peer", "budget")


def make_table(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Rows of text, the head first."""
    rows: list[tuple[str, ...]] = [_HEAD]
    for measurement in MEASUREMENTS:
        for peer in PEERS:
            row = _row(measurement, peer, runs)
            if row:
                rows.append(row)
    return rows


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, in columns; numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in {0, 1, 6} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def warnings_of(runs: Sequence[Run]) -> list[str]:
    """Runs that one should not trust."""
    found = []
    for run in runs:
        name = f"{run.measurement}, {run.peer}, repetition {run.repetition + 1}"
        if "error" in run.figures:
            found.append(f"{name}: left out: {run.figures['error']}")
        lost = run.figures.get("lost", 0)
        if lost:
            what = f"{lost} tasks did not run" if lost > 0 else f"{-lost} tasks ran twice"
            found.append(f"{name}: left out: {what}")
        if run.figures.get("others", 0.0) > _BUSY_CORES:
            found.append(f"{name}: others kept {run.figures['others']:.2f} cores busy")
    return found


def _row(measurement: Measurement, peer: Peer, runs: Sequence[Run]) -> tuple[str, ...] | None:
    values = _values(runs, measurement.name, peer.name, measurement.figure)
    if not values:
        return None
    median = statistics.median(values)
    ratio = _ratio(measurement, runs, median)
    cpu = _values(runs, measurement.name, peer.name, "cpu_us")
    has_cpu = cpu and measurement.figure != "cpu_us"
    return (
        measurement.name,
        peer.name,
        _number(median) + measurement.unit,
        f"{_number(min(values))} - {_number(max(values))}",
        f"{statistics.median(cpu):,.0f} us" if has_cpu else "",
        "" if ratio is None else f"{ratio:.2f} x",
        _judge(measurement, peer, runs, median, ratio),
    )


def _ratio(measurement: Measurement, runs: Sequence[Run], median: float) -> float | None:
    """How many times better than the best peer's median; above 1 is better."""
    name = measurement.rival or measurement.name
    rivals = [
        statistics.median(values)
        for peer in PEERS
        if not peer.is_ours and (values := _values(runs, name, peer.name, measurement.figure))
    ]
    if not rivals or not median:
        return None
    return min(rivals) / median if measurement.is_less_better else median / max(rivals)


def _judge(
    measurement: Measurement,
    peer: Peer,
    runs: Sequence[Run],
    median: float,
    ratio: float | None,
) -> str:
    if not peer.is_signed:
        return ""
    if measurement.name == DEEP:
        shallow = _values(runs, SHALLOW, peer.name, measurement.figure)
        if not shallow:
            return ""
        growth = median / statistics.median(shallow)
        return f"flat within 20 %: {_verdict(is_met=growth <= _DEPTH_TOLERANCE)} ({growth:.2f} x)"
    if measurement.budget is None or (ratio is None and "peer" in measurement.budget.text):
        return ""
    met = measurement.budget.is_met(median, ratio)
    return f"{measurement.budget.text}: {_verdict(is_met=met)}"


def _verdict(*, is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def _values(runs: Sequence[Run], measurement: str, peer: str, figure: str) -> list[float]:
    """The figure of each run that is to be trusted."""
    return [
        run.figures[figure]
        for run in runs
        if (run.measurement, run.peer) == (measurement, peer)
        and figure in run.figures
        and not run.figures.get("lost")
    ]


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
