"""Ids and nonces of ticks: the same in every beat, others for every tick."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cardoon.beat.ticks import CLOCKS_SECONDS, Name, make_tick, microseconds, moment_of
from cardoon.message.protocol import MAX_SEQUENCE

DUE = datetime(2026, 12, 2, 12, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC)
)


def name_of(due=DUE, domain="d", task="t", entry="e"):
    return Name(domain, task, entry, due)


def nonce_of(name, part=0):
    tick = make_tick(name, now=DUE.timestamp(), age=60, window=3600, part=part)
    return tick.session, tick.sequence


def test_every_beat_gives_a_tick_the_same_id_and_nonce():
    assert name_of().task_id == name_of(due=DUE.astimezone()).task_id
    assert nonce_of(name_of()) == nonce_of(name_of(due=DUE.astimezone()))


@given(MOMENTS, MOMENTS)
def test_no_two_ticks_of_an_entry_have_one_id_or_one_nonce(one, other):
    assert (name_of(one).task_id == name_of(other).task_id) == (one == other)
    assert (nonce_of(name_of(one)) == nonce_of(name_of(other))) == (one == other)
    assert 0 <= nonce_of(name_of(one))[1] < MAX_SEQUENCE


def test_domain_task_entry_and_part_tell_ticks_apart():
    names = [name_of(), name_of(domain="x"), name_of(task="x"), name_of(entry="x")]

    assert len({one.task_id for one in names}) == 4
    assert len({nonce_of(one) for one in names}) == 4
    assert len({nonce_of(name_of(), part=part) for part in range(3)}) == 3
    assert len({name_of().id_of_part(part) for part in range(3)} | {name_of().task_id}) == 4


def test_ticks_of_an_entry_share_sessions_which_cost_memory():
    minutely = {nonce_of(name_of(DUE + timedelta(minutes=n)))[0] for n in range(2000)}
    secondly = {nonce_of(name_of(DUE + timedelta(seconds=n)))[0] for n in range(6000)}

    assert len(minutely) <= 2
    assert len(secondly) <= 4  # those at whole minutes are counted in minutes


def test_no_copy_is_valid_longer_than_the_first_is_remembered():
    early = make_tick(name_of(), now=DUE.timestamp(), age=60, window=3600)
    late = make_tick(name_of(), now=DUE.timestamp() + 3500, age=60, window=3600)

    assert early.until == late.until == DUE.timestamp() + 3600 + CLOCKS_SECONDS + 60
    assert early.claim.key == late.claim.key
    assert early.claim.period == 3600 + CLOCKS_SECONDS
    assert late.claim.period == 100 + CLOCKS_SECONDS


@given(MOMENTS)
def test_moments_are_counted_exactly(moment):
    assert moment_of(microseconds(moment)) == moment
