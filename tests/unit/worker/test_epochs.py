"""A worker whose replay store has lost what it knew: it runs nothing that may have run, and says so."""

from __future__ import annotations

import json
import logging

import pytest

from cardoon.broker import Kept, Outgoing
from cardoon.exceptions import ImproperlyConfigured, Refusal
from cardoon.security.replay import Memory
from cardoon.worker.epochs import EpochWatch, guard_of
from cardoon.worker.recollection import Recollection, recollection_file
from tests.unit.stage import succeeded
from tests.unit.worker.store import only, put, take_out

SKEW = 60
"""Seconds, as the settings have it; and one, since messages are signed in whole ones."""


def renew(stage, seconds):
    """So long after all that was sent, the store begins anew."""
    stage.clock.advance(seconds)
    stage.broker.begin_anew()


@pytest.mark.parametrize(("seconds", "runs"), [(SKEW + 1, True), (SKEW + 1.5, False)])
def test_what_was_signed_before_the_epoch_does_not_run_but_within_the_skew(stage, seconds, runs):
    stage.send(task_id="t1")
    renew(stage, seconds)

    jobs = stage.consume()

    assert [job.id for job in jobs] == ["t1"] * runs
    assert [kept.reason for kept in stage.kept(Kept.QUARANTINE)] == ["before-epoch"] * (not runs)


def test_it_is_refused_audited_and_told_to_nobody(stage):
    stage.send(task_id="t1")
    renew(stage, 3600)

    stage.consume()

    kept = only(stage, Kept.QUARANTINE)
    assert (kept.id, kept.reason) == ("t1", Refusal.BEFORE_EPOCH)
    [event] = [event for event in stage.events() if event["event"] == "message.before_epoch"]
    assert (event["task"], event["task_id"], event["reason"]) == ("shop.pay", "t1", "before-epoch")
    assert stage.consumer.refused == 1
    assert stage.backend.load(["t1"]) == {}


def test_what_is_released_runs_once_and_no_copy_of_it_does(stage):
    stage.send(task_id="t1")
    [sent] = take_out(stage)
    put(stage, sent.frame, id="t1")
    renew(stage, 3600)
    stage.consume()
    put(stage, sent.frame, id="t1")
    assert stage.consume() == []  # as a replay: the first has the only claim
    before, copy = stage.kept(Kept.QUARANTINE)
    assert (before.reason, copy.reason) == (Refusal.BEFORE_EPOCH, Refusal.REPLAYED)

    assert stage.broker.restore(Kept.QUARANTINE, [before.number]) == 1
    [job] = stage.consume()
    stage.end(job, succeeded())
    assert stage.broker.restore(Kept.QUARANTINE, [copy.number]) == 1

    assert stage.consume() == []
    assert only(stage, Kept.QUARANTINE).reason == Refusal.REPLAYED


def test_what_its_signer_may_not_send_is_refused_for_that(tmp_path, make_stage):
    policy = tmp_path / "policy.toml"
    policy.write_text("version = 1\n[role.nobody]\nids = ['spiffe://x/nobody']\n")
    policy.chmod(0o600)
    strict = make_stage(settings={"security_policy": str(policy)})
    strict.send(task_id="t1")
    renew(strict, 3600)

    strict.consume()

    assert only(strict, Kept.QUARANTINE).reason == Refusal.DENIED
    assert strict.backend.load(["t1"]) == {}  # a true result may lie there


class Told:
    """A guard that says what it was told to say."""

    def __init__(self, *memories):
        self.memories = [*memories]

    def memory(self):
        return self.memories.pop(0)


def watched(stage, *memories):
    """The records of as many looks."""
    watch = EpochWatch(Told(*memories), audit=stage.audit)
    for _ in memories:
        watch.look()
    watch.end()
    return [event for event in stage.events() if event["event"].startswith("replay.")]


def test_the_epoch_is_on_record_from_the_start(stage):
    watch = EpochWatch(guard_of(stage.broker), audit=stage.audit)

    watch.look()
    stage.broker.publish([Outgoing("q", "a", b"x")], timeout=5)
    watch.look()

    [event] = stage.events()
    assert event["event"] == "replay.epoch"
    assert (event["since"], event["number"]) == ("2023-11-14T22:13:20+00:00", 0)


def test_a_store_that_was_emptied_is_noticed_once(stage, caplog):
    with caplog.at_level(logging.CRITICAL, "cardoon"):
        events = watched(stage, Memory(1000.0, 7), Memory(2000.0, 0), Memory(2000.0, 1))

    assert [event["event"] for event in events] == ["replay.epoch", "replay.epoch_changed"]
    assert events[1]["since"] == "1970-01-01T00:33:20+00:00"
    assert events[1]["before"] == "1970-01-01T00:16:40+00:00"
    [record] = caplog.records
    assert "as if it had been emptied" in record.getMessage()


def test_a_store_that_was_set_back_is_noticed_once(stage, caplog):
    with caplog.at_level(logging.CRITICAL, "cardoon"):
        events = watched(stage, Memory(1000.0, 7), Memory(1000.0, 5), Memory(1000.0, 6))

    assert [event["event"] for event in events] == ["replay.epoch", "replay.set_back"]
    assert (events[1]["before"], events[1]["number"]) == (7, 5)
    [record] = caplog.records
    assert "`cardoon replay renew`" in record.getMessage()


def test_a_time_that_is_none_is_on_record_as_it_is(stage):
    [event] = watched(stage, Memory(1e300, 0))

    assert event["since"] == "1e+300"


def test_a_broker_that_remembers_nothing_is_told():
    with pytest.raises(ImproperlyConfigured, match="cannot remember"):
        guard_of(object())


class TestRecollection:
    """What a worker that starts later knows of what those before it have seen."""

    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "state" / "replay-0.seen"

    @pytest.fixture
    def watch(self, stage, path):
        """Looks once for each memory, as one worker from its start to its end."""

        def watch(*memories, ends=True, pause=60):
            recollection = Recollection(path, clock=stage.clock)
            epochs = EpochWatch(Told(*memories), audit=stage.audit, recollection=recollection)
            before = len(stage.events())
            for _ in memories:
                epochs.look()
                stage.clock.advance(pause)
            if ends:
                epochs.end()
            return [event["event"] for event in stage.events()[before:]]

        return watch

    @pytest.mark.parametrize("ends", [True, False], ids=["stopped", "killed"])
    def test_a_store_that_was_set_back_while_none_ran_is_noticed_once(self, watch, ends):
        watch(Memory(1000.0, 5), Memory(1000.0, 7), ends=ends)

        assert watch(Memory(1000.0, 6)) == ["replay.epoch", "replay.set_back"]
        assert watch(Memory(1000.0, 6)) == ["replay.epoch"]

    def test_a_store_that_was_emptied_while_none_ran_is_noticed_once(self, watch):
        watch(Memory(1000.0, 7))

        assert watch(Memory(2000.0, 0)) == ["replay.epoch", "replay.epoch_changed"]
        assert watch(Memory(2000.0, 3)) == ["replay.epoch"]

    def test_one_that_went_on_is_not_alarming(self, watch):
        watch(Memory(1000.0, 7))

        assert watch(Memory(1000.0, 7), Memory(1000.0, 9)) == ["replay.epoch"]

    def test_it_is_written_now_and_then_and_at_the_end(self, watch, path):
        memories = [Memory(1000.0, number) for number in (5, 6, 7)]

        watch(*memories, ends=False, pause=1)
        assert json.loads(path.read_text())["number"] == 5
        watch(*memories, pause=1)
        assert json.loads(path.read_text()) == {"since": 1000.0, "number": 7}
        assert path.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"since":1}', b"x" * 1000])
    def test_what_nobody_has_written_is_told_and_written_anew(self, watch, path, content, caplog):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)

        with caplog.at_level(logging.WARNING, "cardoon"):
            assert watch(Memory(1000.0, 5)) == ["replay.epoch"]

        assert "what was seen of the replay store is not known" in caplog.text
        assert json.loads(path.read_text())["number"] == 5

    def test_what_others_may_write_is_not_believed(self, watch, path, caplog):
        watch(Memory(1000.0, 7))
        path.chmod(0o666)

        with caplog.at_level(logging.WARNING, "cardoon"):
            assert watch(Memory(1000.0, 5)) == ["replay.epoch"]

        assert "open to others" in caplog.text

    def test_where_it_cannot_be_written_that_is_told_once(self, watch, path, caplog):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.mkdir()
        with caplog.at_level(logging.WARNING, "cardoon"):
            watch(Memory(1000.0, 5), Memory(1000.0, 6), Memory(1000.0, 4))

        assert caplog.text.count("cannot be written") == 1
        assert "it was set back" in caplog.text  # what it has seen itself it knows
        assert list(path.parent.glob(".replay-*")) == []

    def test_each_store_has_its_own_whatever_the_password(self, tmp_path):
        def file_of(url):
            return recollection_file(tmp_path, url)

        assert file_of("redis://u:one@a/0") == file_of("redis://u:two@a/0")
        assert len({file_of(f"redis://{place}") for place in ("a/0", "a/1", "b/0")}) == 3
        assert file_of("memory://") is None
