"""From runs to a table: medians, spread, how each compares with the best peer, and the budgets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from benchmarks.peers import PEERS, Peer
from benchmarks.servers import STORES


class Run(NamedTuple):
    """One measurement of one peer on one broker."""

    broker: str
    measurement: str
    peer: str
    repetition: int
    figures: Mapping[str, Any]


class Standing(NamedTuple):
    """A figure of Cardoon, signed, and those of its peers on the same broker."""

    figure: float
    rivals: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a figure of Cardoon, signed, has to reach."""

    text: str
    is_met: Callable[[Standing], bool | None]
    """None where what it is compared with was not measured."""


Budgets: TypeAlias = Mapping[str, tuple[Budget, ...]]
"""By broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What is measured and how it reads."""

    name: str
    figure: str
    unit: str
    is_less_better: bool = False
    rival: str = ""
    """The peers' measurement to compare with, where they have none of this kind."""
    budgets: Budgets = field(default_factory=dict)


def at_least(times: float, peer: str = "") -> Budget:
    """So many times a peer's rate, or the best peer's."""

    def is_met(standing: Standing) -> bool | None:
        rivals = [rate for name, rate in standing.rivals.items() if peer in {"", name}]
        return standing.figure >= times * max(rivals) if rivals else None

    return Budget(text=f">= {times:g} x {peer or 'best peer'}", is_met=is_met)


def within(times: float) -> Budget:
    """At most so many times the best peer's time."""

    def is_met(standing: Standing) -> bool | None:
        rivals = standing.rivals.values()
        return standing.figure <= times * min(rivals) if rivals else None

    return Budget(text=f"<= {times:g} x best peer", is_met=is_met)


def below(limit: float, unit: str) -> Budget:
    """Less than a fixed number."""
    return Budget(text=f"< {limit:g} {unit}", is_met=lambda standing: standing.figure < limit)


SEND, BULK = "send singly", "send in bulk"
DRAIN, DRAIN_BATCH = "drain", "drain, sent in bulk"
RESULTS, RESULTS_BATCH = "drain with results", "drain with results, sent in bulk"
LATENCY, LATENCY_TAIL, IDLE = "latency, median", "latency, 99 %", "idle worker"
SHALLOW, DEEP = "task at depth 1,000", "task at depth 100,000"

# What two cores can hold, and why: docs/adr/0037-budgets-of-two-cores.md
_SENDS: Budgets = {"redis": (at_least(0.6, "dramatiq"), at_least(1.5, "celery"))}
_SENDS_IN_BULK: Budgets = {"redis": (at_least(3),), "postgres": (at_least(0.25),)}
_DRAINS: Budgets = {
    "sqlite": (at_least(1), at_least(4, "celery")),
    "redis": (at_least(0.6), at_least(4, "celery")),
    "postgres": (at_least(0.5, "pgqueuer"),),
    "rabbitmq": (at_least(0.4, "dramatiq"), at_least(1, "celery")),
}
_DRAINS_IN_BULK: Budgets = {
    "sqlite": (at_least(1.5),),
    "redis": (at_least(1),),
    "postgres": (at_least(0.4, "pgqueuer"),),
    "rabbitmq": (at_least(0.6, "dramatiq"),),
}
_DRAINS_WITH_RESULTS: Budgets = {"redis": (at_least(0.9),)}
_BULK_WITH_RESULTS: Budgets = {"redis": (at_least(1.2),)}
_ROUND_TRIPS: Budgets = {
    "sqlite": (within(1),),
    "redis": (within(2.5),),
    "rabbitmq": (within(5),),
}
_IDLING: Budgets = dict.fromkeys(STORES, (below(0.5, "%"),))

MEASUREMENTS = (
    Measurement(name=SEND, figure="rate", unit="/s", budgets=_SENDS),
    Measurement(name=BULK, figure="rate", unit="/s", rival=SEND, budgets=_SENDS_IN_BULK),
    Measurement(name=DRAIN, figure="rate", unit="/s", budgets=_DRAINS),
    Measurement(name=DRAIN_BATCH, figure="rate", unit="/s", rival=DRAIN, budgets=_DRAINS_IN_BULK),
    Measurement(name=RESULTS, figure="rate", unit="/s", budgets=_DRAINS_WITH_RESULTS),
    Measurement(
        name=RESULTS_BATCH, figure="rate", unit="/s", rival=RESULTS, budgets=_BULK_WITH_RESULTS
    ),
    Measurement(name=LATENCY, figure="p50", unit=" ms", is_less_better=True, budgets=_ROUND_TRIPS),
    Measurement(name=LATENCY_TAIL, figure="p99", unit=" ms", is_less_better=True),
    Measurement(name=IDLE, figure="idle", unit=" % core", is_less_better=True, budgets=_IDLING),
    Measurement(name=SHALLOW, figure="cpu_us", unit=" us CPU", is_less_better=True),
    Measurement(name=DEEP, figure="cpu_us", unit=" us CPU", is_less_better=True),
)
_DEPTH_TOLERANCE = 1.2
_SEALING_COST = 1.15
_BUSY_CORES = 0.25

_HEAD = (
    "measured", "who", "median", "min - max", "CPU/task", "broker CPU", "to best peer", "budget",
)  # fmt: skip
_LEFT = {0, 1, len(_HEAD) - 1}


def make_table(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Rows of text for the runs on one broker, the head first."""
    rows: list[tuple[str, ...]] = [_HEAD]
    for measurement in MEASUREMENTS:
        for peer in PEERS:
            row = _row(measurement, peer, runs)
            if row:
                rows.append(row)
    sealed = (_sealing_row(peer, runs) for peer in PEERS if peer.is_sealed)
    return [*rows, *(row for row in sealed if row)]


def promises_of(runs: Sequence[Run]) -> list[str]:
    """What each peer that was measured on one broker does, a line each."""
    told = {(run.broker, run.peer) for run in runs}
    return [f"{peer.name}: {peer.promise}" for peer in PEERS if (peer.broker, peer.name) in told]


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, in columns; numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in _LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def warnings_of(runs: Sequence[Run]) -> list[str]:
    """Runs that one should not trust."""
    found = []
    for run in runs:
        name = f"{run.broker}: {run.measurement}, {run.peer}, repetition {run.repetition + 1}"
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
    values = _values(runs, measurement.name, peer, measurement.figure)
    if not values:
        return None
    median = statistics.median(values)
    rivals = _rivals(measurement, peer.broker, runs)
    ratio = _ratio(measurement, rivals, median)
    cpu = _values(runs, measurement.name, peer, "cpu_us")
    has_cpu = cpu and measurement.figure != "cpu_us"
    servers = _values(runs, measurement.name, peer, "server_us")
    return (
        measurement.name,
        peer.name,
        _number(median) + measurement.unit,
        f"{_number(min(values))} - {_number(max(values))}",
        f"{statistics.median(cpu):,.0f} us" if has_cpu else "",
        f"{statistics.median(servers):,.0f} us" if any(servers) else "",
        "" if ratio is None else f"{ratio:.2f} x",
        _judge(measurement, peer, runs, Standing(median, rivals)),
    )


def _rivals(measurement: Measurement, broker: str, runs: Sequence[Run]) -> dict[str, float]:
    """The peers' medians; of the measurement to compare with, where none has this one."""
    for name in filter(None, (measurement.name, measurement.rival)):
        found = {
            peer.name: statistics.median(values)
            for peer in PEERS
            if peer.broker == broker
            and not peer.is_ours
            and (values := _values(runs, name, peer, measurement.figure))
        }
        if found:
            return found
    return {}


def _ratio(measurement: Measurement, rivals: Mapping[str, float], median: float) -> float | None:
    """How many times better than the best peer's median; above 1 is better."""
    if not rivals or not median:
        return None
    best = rivals.values()
    return min(best) / median if measurement.is_less_better else median / max(best)


def _judge(measurement: Measurement, peer: Peer, runs: Sequence[Run], standing: Standing) -> str:
    if not peer.is_signed:
        return ""
    if peer.is_sealed:
        return _tell_sealed(measurement, peer, runs)
    if measurement.name == DEEP:
        shallow = _values(runs, SHALLOW, peer, measurement.figure)
        if not shallow:
            return ""
        growth = standing.figure / statistics.median(shallow)
        return f"flat within 20 %: {_verdict(is_met=growth <= _DEPTH_TOLERANCE)} ({growth:.2f} x)"
    told = []
    for budget in measurement.budgets.get(peer.broker, ()):
        met = budget.is_met(standing)
        if met is not None:
            told.append(f"{budget.text}: {_verdict(is_met=met)}")
    return "; ".join(told)


def _tell_sealed(measurement: Measurement, peer: Peer, runs: Sequence[Run]) -> str:
    cost = _sealing_cost(measurement, peer, runs)
    return "" if cost is None else f"{_percent(cost)} CPU to what is only signed"


def _sealing_cost(measurement: Measurement, peer: Peer, runs: Sequence[Run]) -> float | None:
    """What policy and encryption cost in processor time, to what is only signed; 1 is nothing."""
    signed = next(each for each in PEERS if each.broker == peer.broker and each.is_signed)
    alone, sealed = (_values(runs, measurement.name, one, "cpu_us") for one in (signed, peer))
    if not alone or not sealed:
        return None
    return statistics.median(sealed) / statistics.median(alone)


def _sealing_row(peer: Peer, runs: Sequence[Run]) -> tuple[str, ...] | None:
    """All that is measured of a sealed peer together: one row alone scatters by more than its budget."""
    found = [_sealing_cost(measurement, peer, runs) for measurement in MEASUREMENTS]
    costs = [cost for cost in found if cost is not None]
    if not costs:
        return None
    mean = statistics.geometric_mean(costs)
    spread = f"{_percent(min(costs))} - {_percent(max(costs))}"
    met = _verdict(is_met=mean <= _SEALING_COST)
    judged = f"<= 15 % more CPU, all rows together: {met}"
    return ("policy and encryption", peer.name, _percent(mean), spread, "", "", "", judged)


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %"


def _verdict(*, is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def _values(runs: Sequence[Run], measurement: str, peer: Peer, figure: str) -> list[float]:
    """The figure of each run that is to be trusted."""
    return [
        run.figures[figure]
        for run in runs
        if (run.broker, run.measurement, run.peer) == (peer.broker, measurement, peer.name)
        and figure in run.figures
        and not run.figures.get("lost")
    ]


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
