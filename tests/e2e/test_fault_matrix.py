"""Ten faults of the matrix, smaller, on SQLite, and some of them elsewhere. `make faults` runs all of them.

They spend most of their time waiting, so some run at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from faults import on_brokers, on_chords, on_messages, on_workers
from faults.matrix import FAULTS, QUICK, Row, reason_against, run
from faults.places import PLACES

COUNT = 300
AT_ONCE = 3
SCENARIOS = (on_brokers, on_chords, on_messages, on_workers)
"""Modules that have entered their faults by being imported."""
BY_CHANCE = {
    "kill9_all": {"doubles": 12.0, "pause s": 45.0},
    "kill9_idle_storm": {"doubles": 6.0},
    "kill9_child": {"doubles": 4.0},
    "chord_worker_killed": {"doubles": 3.0},
    "poison_killer": {"others s": 60.0},
    "net_pop_lost": {"late s": 45.0},
}
"""Of the goals, those that depend on how busy the machine is: a body that has ended is on its way to the
store for the few milliseconds that signing, a switch of processes and a commit take, and may be killed
there. `make faults` holds them as they are."""

HALF = ("kill9_all", "broker_kill9", "net_flap", "poison_garbage", "chord_worker_killed")
LEAST = ("kill9_all", "broker_kill9", "chord_worker_killed")
TRIED = {"redis": HALF, "postgres": LEAST, "rabbitmq": LEAST}
"""Where not all of them are tried here, for the time they take; `make faults` tries all."""

CASES = [
    pytest.param(broker, name, id=f"{broker}-{name}")
    for broker in PLACES
    for name in TRIED.get(broker, QUICK)
    if not reason_against(FAULTS[name], broker)
]

Running = dict[tuple[str, str], Future[Row]]


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """All cases that were selected, under way."""
    wanted = [
        (item.callspec.params["broker"], item.callspec.params["name"])
        for item in request.session.items
        if item.parent is request.node
    ]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield {
            (broker, name): threads.submit(run, FAULTS[name], broker, count=COUNT)
            for broker, name in wanted
        }


@pytest.mark.slow
@pytest.mark.parametrize(("broker", "name"), CASES)
def test_the_goals_of_a_fault_are_met(running: Running, broker: str, name: str) -> None:
    row = running[broker, name].result(timeout=240)

    bounds = BY_CHANCE.get(name, {})
    by_chance = [
        figure for figure, bound in bounds.items() if row.figures.get(figure, 0.0) <= bound
    ]
    missed = [one for one in row.missed if not one.startswith(tuple(by_chance))]
    assert not missed, row.evidence
    assert row.figures["sent"] > 0
