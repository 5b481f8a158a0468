"""Any number of beats on one store: each tick runs once, whoever is killed, and wherever."""

from __future__ import annotations

import logging

import pytest

from cardoon.broker import Kept
from cardoon.exceptions import OperationalError
from tests.unit.beat.beats import Ahead, Beats, Killed, alive, every, expected_ids
from tests.unit.stage import PLAIN, Stage, succeeded


@pytest.fixture
def beats_of(make_stage):
    def make(count, schedule, *, settings=None, **options):
        stage: Stage = make_stage(settings={"beat_schedule": schedule, **(settings or {})})
        return Beats(stage, count, **options)

    return make


def run(beats: Beats, seconds: float, pause: float = 0.25) -> None:
    """Let time pass; every beat comes as often as it is asked to."""
    for _ in range(round(seconds / pause)):
        beats.stage.clock.advance(pause)
        for number in range(len(beats.rounds)):
            beats.step(number)
    beats.work()


def begin(beats: Beats) -> float:
    """Have every beat take in the entries; returns when they begin."""
    start = beats.stage.clock.now()
    for number in range(len(beats.rounds)):
        beats.step(number)
    return start


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_tick_runs_once_however_many_beats_there_are(beats_of, count):
    beats = beats_of(count, every(1.0))
    start = begin(beats)

    run(beats, 60)

    assert beats.ran == expected_ids(beats.stage, "e", 1.0, 60, start)
    assert sum(one.tally.sent for one in alive(beats)) == 60
    assert beats.stage.kept(Kept.QUARANTINE) == []


def test_who_was_behind_another_beat_lets_it_go_first(beats_of):
    beats = beats_of(2, every(1.0))
    begin(beats)

    run(beats, 60)

    first, second = alive(beats)
    assert (first.tally.sent, first.stands_by) == (60, False)
    assert (second.tally.sent, second.stands_by) == (0, True)
    assert second.tally.copies == 1


def test_who_stood_by_goes_on_when_the_other_is_dead(beats_of):
    beats = beats_of(2, every(1.0))
    start = begin(beats)
    run(beats, 10)

    for _ in range(40):
        beats.stage.clock.advance(0.25)
        beats.step(1)
    beats.work()

    assert beats.ran == expected_ids(beats.stage, "e", 1.0, 20, start)
    assert beats.rounds[1].tally.sent == 10
    assert not beats.rounds[1].stands_by


STEPS = [f"{when} {step}" for when in ("before", "after") for step in ("publish", "put", "records")]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_done_meanwhile", [False, True])
@pytest.mark.parametrize("sees_copies", [False, True])
def test_a_beat_that_is_killed_at_any_step_loses_and_doubles_nothing(
    beats_of, step, is_done_meanwhile, sees_copies
):
    beats = beats_of(1, every(1.0))
    beats.sees_copies = sees_copies
    beats.start(0)
    start = begin(beats)
    run(beats, 3)
    if step.endswith("records"):
        beats.rounds[0] = None
    strikes = beats.stage.broker.__dict__["strikes"]

    def strike(found):
        if found == step:
            raise Killed(found)

    beats._strike = strike
    for number in list(strikes):
        strikes[number] = strike
    beats.stage.clock.advance(1)
    beats.step(0)
    assert beats.deaths == [step]
    if is_done_meanwhile:
        beats.work()
    beats._strike = lambda _: None
    run(beats, 3)

    assert sorted(beats.ran) == sorted(expected_ids(beats.stage, "e", 1.0, 7, start))
    assert beats.stage.kept(Kept.QUARANTINE) == []
    came_again = beats.stage.event_names().count("message.repeated")
    is_copied = is_done_meanwhile and not sees_copies and step in {"after publish", "before put"}
    assert came_again == (1 if is_copied else 0)


@pytest.mark.parametrize("sees_copies", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_three_beats_that_die_all_the_time_send_each_tick_once(beats_of, seed, sees_copies):
    beats = beats_of(3, every(1.0), seed=seed)
    beats.sees_copies = sees_copies
    start = begin(beats)
    beats.deadliness = 0.1
    for _ in range(200):
        beats.stage.clock.advance(beats.random.choice([0.1, 0.5, 1.0, 2.5]))
        for number in beats.random.sample(range(3), beats.random.randrange(4)):
            beats.step(number)
        if beats.random.random() < 0.3:
            beats.work()
    beats.deadliness = 0.0
    run(beats, 5)

    count = int(beats.stage.clock.now() - start)
    assert len(beats.deaths) > 10
    assert sorted(beats.ran) == sorted(expected_ids(beats.stage, "e", 1.0, count, start))
    assert beats.stage.kept(Kept.QUARANTINE) == []


@pytest.mark.slow
def test_two_beats_one_of_which_is_killed_now_and_then_send_ten_thousand_ticks_once_each(beats_of):
    beats = beats_of(2, every(1.0), seed=1)
    start = begin(beats)
    beats.deadliness = 0.002
    for second in range(10_000):
        beats.stage.clock.advance(1)
        for number in (0, 1):
            beats.step(number)
        if second % 50 == 0:
            beats.work()
    beats.deadliness = 0.0
    run(beats, 1)
    beats.work()

    assert len(beats.deaths) > 10
    assert len(beats.ran) == 10_001
    assert sorted(beats.ran) == sorted(expected_ids(beats.stage, "e", 1.0, 10_001, start))
    assert beats.stage.kept(Kept.QUARANTINE) == []


def test_beats_whose_clocks_differ_send_each_tick_once(beats_of):
    beats = beats_of(3, every(1.0))
    beats.clocks = [Ahead(beats.stage.clock, by) for by in (-3.0, 0.0, 2.0)]
    for number in range(3):
        beats.start(number)
    begin(beats)

    run(beats, 30)
    latest = beats.rounds[2].agenda.last("e").timestamp()
    beats.stage.clock.advance(5)
    beats.work()

    first = int(latest) - len(beats.ran)
    assert beats.ran == expected_ids(beats.stage, "e", 1.0, len(beats.ran), first)
    assert len(beats.ran) >= 30


def test_beats_with_identities_of_their_own_send_each_tick_once(beats_of):
    beats = beats_of(2, every(1.0))
    beats.roles[1] = "other"
    beats.start(1)
    start = begin(beats)

    for step in range(1, 31):
        beats.stage.clock.advance(1)
        beats.step(step % 2)
        beats.work()  # so that what the other one sends has ended
        beats.step(1 - step % 2)

    beats.work()
    assert beats.ran == expected_ids(beats.stage, "e", 1.0, 30, start)


def test_entries_begin_together_when_one_is_new_to_all(beats_of):
    beats = beats_of(3, {})
    begin(beats)
    beats.stage.clock.advance(0.4)
    beats.stage.app.conf.beat_schedule = every(7.0)
    for pause, number in ((0.0, 0), (2.0, 1), (4.0, 2)):
        beats.stage.clock.advance(pause)
        beats.step(number)

    assert len({one.agenda.next_due() for one in alive(beats)}) == 1


def test_an_entry_goes_on_after_an_outage_where_it_was_left(beats_of):
    beats = beats_of(1, every(60.0, catch_up="one"))
    start = begin(beats)
    run(beats, 61)
    beats.rounds[0] = None
    beats.stage.clock.advance(1800)
    run(beats, 130)

    ids = expected_ids(beats.stage, "e", 60.0, 40, start)
    assert beats.ran == [ids[0], ids[30], ids[31], ids[32]]
    assert beats.rounds[0].tally.missed == 29


def test_an_entry_with_other_times_begins_anew(beats_of):
    beats = beats_of(2, every(60.0))
    begin(beats)
    run(beats, 30)
    beats.stage.app.conf.beat_schedule = every(10.0)
    start = beats.stage.clock.now()
    run(beats, 35)

    ids = expected_ids(beats.stage, "e", 10.0, 3, start)
    assert beats.ran == ids


def test_no_tick_is_sent_while_the_task_of_an_earlier_one_runs(beats_of):
    beats = beats_of(2, every(1.0, overlap="skip"))
    start = begin(beats)
    for _ in range(3):
        beats.stage.clock.advance(1)
        for number in (0, 1):
            beats.step(number)
    [job] = beats.stage.consume()
    beats.stage.clock.advance(1)
    beats.step(0)
    beats.stage.end(job, succeeded())
    beats.stage.clock.advance(1)
    beats.step(0)
    [last] = beats.stage.consume()

    ids = expected_ids(beats.stage, "e", 1.0, 5, start)
    assert [job.id, last.id] == [ids[0], ids[4]]
    assert sum(one.tally.skipped for one in alive(beats)) == 3


def test_a_paused_entry_sends_nothing_and_misses_nothing(beats_of):
    beats = beats_of(1, every(60.0, paused=True))
    start = begin(beats)
    run(beats, 600, pause=5)
    assert beats.ran == []

    beats.stage.app.conf.beat_schedule = every(60.0)
    beats.rounds[0] = None  # a beat that begins knows how far the last one came
    run(beats, 60, pause=5)

    assert beats.ran == expected_ids(beats.stage, "e", 60.0, 11, start)[10:]


def test_linked_tasks_are_sent_with_each_tick_and_once(beats_of):
    link = {"task": "shop.pay", "args": (), "kwargs": {}, "options": {}, "immutable": True}
    beats = beats_of(2, every(10.0, options={"link": link}))
    begin(beats)
    for _ in range(3):
        beats.stage.clock.advance(10)
        beats.step(0)
        for _ in range(3):
            beats.work()
        beats.step(1)
        beats.rounds[1] = None

    for _ in range(5):
        beats.stage.clock.advance(31)
        beats.stage.broker.maintain()
        beats.work()
    assert len(beats.ran) == len(set(beats.ran)) == 6
    assert beats.stage.kept(Kept.QUARANTINE) == []


def test_an_entry_that_cannot_be_sent_holds_up_no_other_and_is_complained_of_once(beats_of, caplog):
    schedule = {**every(1.0), "bad": {"task": "shop.pay", "schedule": 1.0, "args": (object(),)}}
    beats = beats_of(1, schedule)
    start = begin(beats)
    run(beats, 5)

    assert beats.ran == expected_ids(beats.stage, "e", 1.0, 5, start)
    assert beats.rounds[0].tally.failed == 5
    [said] = [one for one in caplog.messages if "cannot be sent" in one]
    assert said.startswith("beat: bad (shop.pay) cannot be sent: EncodeError")
    assert beats.stage.event_names().count("beat.failed") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task_id": "x"}, "task_id is for one call, and an entry makes many"),
        ({"queu": "x"}, "unknown option 'queu'; did you mean 'queue'"),
    ],
)
def test_options_that_fit_no_entry_are_complained_of(beats_of, caplog, options, said):
    beats = beats_of(1, every(1.0, options=options))
    begin(beats)
    run(beats, 2)

    assert said in "".join(caplog.messages)
    assert beats.ran == []


def test_a_name_that_may_hold_arguments_is_not_logged(beats_of, caplog):
    beats = beats_of(1, {})
    beats.stage.app.add_periodic_task(1.0, beats.stage.app.signature("shop.pay", ("hunter2",)))
    begin(beats)
    with caplog.at_level(logging.DEBUG):
        run(beats, 2)

    assert len(beats.ran) == 2
    assert "hunter2" not in caplog.text
    assert "hunter2" not in str(beats.stage.events())


def test_what_the_store_does_not_take_is_sent_later(beats_of):
    beats = beats_of(1, every(1.0))
    start = begin(beats)
    strikes = beats.stage.broker.__dict__["strikes"]

    def fail(step):
        raise OperationalError(f"no answer {step}")

    for number in list(strikes):
        strikes[number] = fail
    for _ in range(3):
        beats.stage.clock.advance(1)
        with pytest.raises(OperationalError):
            beats.step(0)
    for number in list(strikes):
        strikes[number] = lambda _: None
    run(beats, 2)

    assert beats.ran == expected_ids(beats.stage, "e", 1.0, 5, start)


def test_an_app_that_signs_nothing_has_notes_that_nobody_has_signed(beats_of):
    beats = beats_of(2, every(7.0), settings=PLAIN)
    start = begin(beats)
    run(beats, 15)
    beats.rounds[:] = [None, None]
    run(beats, 14)

    assert beats.ran == expected_ids(beats.stage, "e", 7.0, 4, start)
    assert "beat.note_refused" not in beats.stage.event_names()
