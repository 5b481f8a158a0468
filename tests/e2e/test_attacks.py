"""Some of the attacks, against a real worker on SQLite, and one on each server. `make attack` tries all, everywhere.

They share one deployment, and most of their time is waiting, so they are tried at once.
"""

from __future__ import annotations

import pytest

from attacks.catalogue import QUICK, all_attacks
from attacks.matrix import ATTACKS, BROKERS, run


@pytest.fixture(scope="module")
def rows():
    """What became of each."""
    chosen = [one for one in all_attacks() if one.name in QUICK]
    return {row.attack: row for row in run(chosen, "sqlite")}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_an_attack_is_withstood(rows, name):
    row = rows[name]

    assert not row.succeeded
    assert row.outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weakness", "name", "task"),
    [("plain", "unsigned", "note"), ("lawless", "task_of_others", "guarded")],
)
def test_it_succeeds_where_the_protection_is_switched_off(weakness, name, task):
    [row] = run([ATTACKS[name]], "sqlite", weakness=weakness)

    assert row.is_finding
    assert any(f"ran: {task}({name}:evil1" in told for told in row.succeeded)


@pytest.mark.slow
@pytest.mark.parametrize("broker", [one for one in BROKERS if one != "sqlite"])
def test_a_server_is_attacked(broker):
    [row] = run([ATTACKS["revoke_for_another_worker"]], broker)

    assert not row.succeeded
    assert row.outcome == "passed over"


@pytest.mark.parametrize("broker", BROKERS)
def test_every_broker_is_attacked_in_many_ways(broker):
    tried = [one for one in all_attacks() if broker in one.brokers]

    assert len(tried) >= 80
    assert len({one.category for one in tried}) >= 12
