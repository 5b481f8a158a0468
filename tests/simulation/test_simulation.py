"""Histories of a simulated cluster: what was promised holds in each, and what is switched off is missed.

`python tests/simulation/run.py --seeds 1000` runs many.
"""

from __future__ import annotations

import pytest

from tests.simulation import history
from tests.simulation.history import History
from tests.simulation.switches import Off

SEEDS = 40
FIRST_FOUND = {
    Off.FENCING: 40,
    Off.RENEWAL: 20,
    Off.TRUST_WINDOW: 80,
    Off.REPLAY_GUARD: 10,
    Off.CRASH_LIMIT: 5,
    Off.TAKING_BACK: 10,
    Off.CLOCK_OF_STORE: 20,
    Off.IDEMPOTENCE: 30,
    Off.LATE_ACKNOWLEDGEMENT: 10,
}
"""Seeds that are tried until a part that is switched off is missed; it is by then, many times over."""


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level("CRITICAL", logger="cardoon")


@pytest.mark.slow
def test_nothing_is_lost_stuck_or_done_twice_whatever_breaks():
    assert history.find(Off.NOTHING, range(SEEDS)) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "off", [one for one in Off if one is not Off.NOTHING], ids=lambda o: o.value
)
def test_the_simulation_notices_what_is_switched_off(off):
    assert history.find(off, range(FIRST_FOUND[off])) is not None


def test_a_seed_is_a_history(tmp_path):
    logs = []
    for number in range(2):
        told = History(7, tmp_path / str(number))
        told.run()
        logs.append(told.log)

    assert logs[0] == logs[1]
    assert len(logs[0]) > 20
