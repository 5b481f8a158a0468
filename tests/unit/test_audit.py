"""The audit trail: whole records, for its owner alone, and never in the way of the work."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import stat
import threading

import pytest

from cardoon.audit import MAX_FIELD_CHARACTERS, REFUSAL_EVENTS, AuditLog, keeping_of
from cardoon.config import freeze
from cardoon.exceptions import Refusal
from cardoon.testing import FakeClock
from cardoon.transparency.trail import Keeping
from cardoon.transparency.verifying import Flaw, verify_log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "audit.jsonl"


@pytest.fixture
def audit(path, clock):
    log = AuditLog(path, clock=clock, source="worker")
    yield log
    log.close()


@contextlib.contextmanager
def no_room_beyond(size):
    """No file can be longer."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def records(path):
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_a_record_says_when_what_and_who(audit, path, clock):
    audit.record("task.revoked", task_id="t1", code=3, share=0.5, quiet=True, missing=None)
    clock.advance(1.25)
    audit.record("worker.stop")

    first, second = records(path)
    assert (first.pop("pid"), first) == (
        second.pop("pid"),
        {
            "seq": 0,
            "prev": "",
            "time": "2023-11-14T22:13:20.000000+00:00",
            "event": "task.revoked",
            "source": "worker",
            "task_id": "t1",
            "code": 3,
            "share": 0.5,
            "quiet": True,
        },
    )
    assert second["time"] == "2023-11-14T22:13:21.250000+00:00"


@pytest.mark.parametrize(
    "text", ["a\nb", 'a"}\n{"event": "forged"', "\u2028", "Grün \ud800", "\x1b"]
)
def test_no_text_can_end_a_record_or_begin_one(audit, path, text):
    audit.record("message.malformed", detail=text)

    [record] = records(path)
    assert record["detail"] == text


def test_a_field_is_bounded(audit, path):
    audit.record("a", long="x" * 1_000_000, just="x" * MAX_FIELD_CHARACTERS, odd=["y"] * 10_000)

    [record] = records(path)
    assert record["long"] == "x" * MAX_FIELD_CHARACTERS + "..."
    assert record["just"] == "x" * MAX_FIELD_CHARACTERS
    assert len(record["odd"]) == MAX_FIELD_CHARACTERS + len("...")


def test_it_is_for_its_owner_alone(audit, path):
    audit.record("a")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_was_written_before_stays(path, clock):
    for event in ("a", "b"):
        log = AuditLog(path, clock=clock, source="client")
        log.record(event)
        log.close()
        log.close()

    assert [record["event"] for record in records(path)] == ["a", "b"]


def test_after_it_was_closed_it_is_opened_anew(audit, path):
    audit.record("a")
    audit.close()
    audit.record("b")

    assert [(record["seq"], record["event"]) for record in records(path)] == [(0, "a"), (1, "b")]


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_file_that_was_moved_away_is_missed_on_record(audit, path, caplog, is_closed):
    audit.record("a")
    if is_closed:
        audit.close()
    path.rename(path.with_suffix(".1"))
    audit.record("b")

    seen = [(record["seq"], record["event"]) for record in records(path)]
    assert seen[0] == (1, "audit.begin")
    assert seen[-1][1] == "b"
    assert "audit.begin" in caplog.text


def test_a_file_that_was_cut_is_put_aside_and_missed_on_record(audit, path):
    for event in ("a", "b", "c"):
        audit.record(event)
    first = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(first)

    audit.record("d")

    assert path.with_name("audit.jsonl.000000000000").read_bytes() == first
    assert [(record["seq"], record["event"]) for record in records(path)] == [
        (3, "audit.begin"),
        (4, "audit.gap"),
        (5, "d"),
    ]


def test_a_full_file_is_put_aside_and_the_oldest_is_dropped(path, clock):
    log = AuditLog(path, clock=clock, source="w", keeping=Keeping(max_bytes=1000, files=2))
    log.begin_epoch(None)
    for number in range(60):
        log.record("a", number=number)
    log.close()

    verdict = verify_log(path)
    assert {one.flaw for one in verdict.findings} == {Flaw.UNCERTIFIED}
    assert 40 < verdict.first < verdict.size
    assert len(list(path.parent.glob("audit.jsonl.0*[0-9]"))) == 2


def test_a_file_whose_first_record_is_old_is_put_aside_whoever_wrote_it(path, clock):
    keeping = keeping_of(freeze({"security_audit_rotate_after": 86_400}))
    early, late = (AuditLog(path, clock=clock, source=one, keeping=keeping) for one in "wb")
    early.begin_epoch(None)
    early.record("a")
    clock.advance(86_399)
    late.record("b")
    clock.advance(1)
    late.record("c")
    early.record("d")
    clock.advance(86_400)
    early.record("e")
    for log in (early, late):
        log.close()

    events = [
        [one["event"] for one in records(file)]
        for file in sorted(path.parent.glob("audit.jsonl.0*[0-9]"))
    ]
    assert events == [["a", "b"], ["audit.begin", "c", "d"]]
    assert [one["event"] for one in records(path)] == ["audit.begin", "e"]
    assert [one["why"] for one in records(path) if "why" in one] == ["old"]
    assert {one.flaw for one in verify_log(path).findings} == {Flaw.UNCERTIFIED}


@pytest.mark.parametrize("told", ['"time":"2023', '"tine":"2023', '"time":"x023'])
def test_a_first_record_that_does_not_say_when_it_was_made_puts_nothing_aside(path, clock, told):
    keeping = Keeping(max_age=60)
    AuditLog(path, clock=clock, source="w").record("a")
    path.write_text(path.read_text("ascii").replace('"time":"2023', told), "ascii")
    clock.advance(59)
    log = AuditLog(path, clock=clock, source="w", keeping=keeping)

    log.record("b")
    log.close()

    assert [one["event"] for one in records(path)] == ["a", "b"]


def put_aside(path, clock):
    """A log whose first file is full, and of whose second nothing is signed yet."""
    log = AuditLog(path, clock=clock, source="w", keeping=Keeping(max_bytes=1000))
    log.begin_epoch(None)
    while not list(path.parent.glob("audit.jsonl.0*[0-9]")):
        log.record("a")
    return log


def test_who_opens_a_log_just_after_its_file_was_put_aside_finds_nothing_wrong(path, clock):
    first = put_aside(path, clock)
    second = AuditLog(path, clock=clock, source="client")

    second.record("b")
    first.record("c")
    second.close()
    first.close()

    assert [one["event"] for one in records(path)] == ["audit.begin", "a", "b", "c"]
    assert {one.flaw for one in verify_log(path).findings} == {Flaw.UNCERTIFIED}


@pytest.mark.parametrize("is_made", [True, False])
def test_a_log_that_was_killed_while_it_put_its_file_aside_goes_on(path, clock, is_made):
    put_aside(path, clock)
    path.unlink()
    if is_made:
        path.touch(mode=0o600)
    second = AuditLog(path, clock=clock, source="w")

    second.record("b")
    second.close()

    assert [one["event"] for one in records(path)] == ["audit.begin", "b"]
    assert {one.flaw for one in verify_log(path).findings} == {Flaw.UNCERTIFIED}


@pytest.mark.parametrize("goes_on", ["anew", "after another killed one", "as it is"])
def test_no_checkpoint_is_lost_of_a_log_that_was_killed_before_its_file_followed_them(
    path, clock, goes_on
):
    log = AuditLog(path, clock=clock, source="w", keeping=Keeping(records=1, max_bytes=700))
    log.begin_epoch(None)
    log.record("a")
    notes = path.with_name("audit.jsonl.checkpoints")
    signed = notes.read_bytes()
    notes.rename(path.with_name("audit.jsonl.000000000000.checkpoints"))
    if goes_on != "as it is":
        log = AuditLog(path, clock=clock, source="w", keeping=Keeping(records=1))
    log.record("b")
    if goes_on == "after another killed one":  # which had put both together already
        path.with_name("audit.jsonl.000000000000.checkpoints").write_bytes(signed)
        log = AuditLog(path, clock=clock, source="w")
        log.record("c")
    if goes_on == "as it is":
        while not (aside := path.with_name("audit.jsonl.000000000000")).exists():
            log.record("c")
        notes = aside.with_name(f"{aside.name}.checkpoints")
    log.close()

    assert notes.read_bytes().startswith(signed)
    assert notes.read_bytes().count(signed) == 1
    assert [file.name for file in path.parent.glob("*.new")] == []
    assert {one.flaw for one in verify_log(path).findings} == {Flaw.UNCERTIFIED}


def test_records_that_were_lost_are_counted_on_record_when_there_is_room_again(audit, path):
    audit.record("a")
    with no_room_beyond(path.stat().st_size + 20):
        audit.record("b")
        audit.record("c")
        assert not audit.writable
    audit.record("d")

    assert audit.writable
    assert (audit.lost, audit.counts["audit.gap"]) == (2, 1)
    [_, gap, last] = records(path)
    assert (gap["event"], gap["lost"], last["event"]) == ("audit.gap", 2, "d")


def test_what_was_lost_is_counted_once_however_often_there_was_too_little_room(audit, path):
    audit.record("a")
    for _ in range(3):
        with no_room_beyond(path.stat().st_size + 300):
            audit.record("b", detail="x" * 400)
    with no_room_beyond(
        path.stat().st_size + 300
    ):  # enough to say what is lost, not for the record
        audit.record("b", detail="x" * 200)
    audit.record("c")

    assert [one["lost"] for one in records(path) if one["event"] == "audit.gap"] == [4]
    assert audit.lost == 4


@pytest.mark.parametrize("goes_on", ["itself", "another", "again"])
def test_a_file_that_is_put_aside_while_there_is_no_room_says_where_it_goes_on(
    path, clock, goes_on
):
    keeping = Keeping(max_bytes=1000)
    log = AuditLog(path, clock=clock, source="w", keeping=keeping)
    other = AuditLog(path, clock=clock, source="x", keeping=keeping)
    log.begin_epoch(None)
    if goes_on == "another":
        other.record("a")
    while not path.exists() or path.stat().st_size < 1000:
        log.record("a")
    with no_room_beyond(0):
        log.record("b")
        log.record("b")
        log.checkpoint()
    assert path.stat().st_size == 0

    if goes_on == "again":
        log.close()
    if goes_on != "itself":
        other.record("c")
    log.record("d")
    log.close()
    other.close()

    assert records(path)[0]["event"] == "audit.begin"
    assert [one["lost"] for one in records(path) if one["event"] == "audit.gap"] == [2]
    assert records(path)[-1]["event"] == "d"
    assert {one.flaw for one in verify_log(path).findings} == {Flaw.UNCERTIFIED, Flaw.GAP}


def test_a_file_that_was_cut_while_there_is_no_room_is_missed_on_record_later(audit, path):
    audit.record("a")
    audit.record("b")
    os.truncate(path, 0)
    with no_room_beyond(0):
        audit.record("c")
    audit.record("d")

    assert [(one["event"], one.get("why")) for one in records(path)] == [
        ("audit.begin", "cut"),
        ("audit.gap", "cut"),
        ("audit.gap", "not written"),
        ("d", None),
    ]


def test_a_log_that_is_required_says_when_to_pause_and_when_to_go_on(path, clock):
    log = AuditLog(path, clock=clock, source="w", keeping=Keeping(required=True))
    log.record("a")
    path.chmod(0o666)
    log.close()
    log.record("b")
    log.retry()
    assert (log.must_pause, log.lost) == (True, 1)

    path.chmod(0o600)
    log.retry()

    assert (log.must_pause, log.lost) == (False, 1)
    log.close()
    assert [record["event"] for record in records(path)] == ["a", "audit.gap", "audit.resumed"]


def test_a_forked_process_goes_on_with_the_same_log(audit, path):
    audit.record("a")
    audit.begin_epoch(None)
    child = os.fork()
    if child == 0:
        audit.record("b")
        audit.close()
        os._exit(0)
    os.waitpid(child, 0)
    audit.record("c")
    audit.close()

    assert [record["event"] for record in records(path)] == ["a", "b", "c"]
    assert [one.flaw for one in verify_log(path).findings] == [Flaw.UNCERTIFIED]


def test_a_follower_that_records_does_not_wait_for_itself(audit, path):
    audit.follow(lambda entry: audit.record("b") if entry["event"] == "a" else None)

    audit.record("a")

    assert [record["event"] for record in records(path)] == ["a", "b"]


def test_a_checkpoint_that_cannot_be_signed_costs_no_record(path, clock, caplog):
    log = AuditLog(path, clock=clock, source="w", keeping=Keeping(records=1))
    log.begin_epoch(None)
    path.with_name("audit.jsonl.key").chmod(0o644)

    log.record("a")
    log.close()

    assert (len(records(path)), log.lost) == (1, 0)
    assert "no checkpoint" in caplog.text
    assert "open to others" in caplog.text


def test_records_of_several_writers_do_not_mix(path, clock):
    logs = [AuditLog(path, clock=clock, source=f"w{number}") for number in range(4)]

    def write(log):
        for number in range(50):
            log.record("a", number=number, padding="x" * 300)

    threads = [threading.Thread(target=write, args=(log,)) for log in logs for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = records(path)
    assert len(found) == 400
    assert {record["source"] for record in found} == {"w0", "w1", "w2", "w3"}
    for log in logs:
        log.close()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666], ids=oct)
def test_a_trail_that_others_may_write_is_not_written(audit, path, caplog, mode):
    path.parent.mkdir(mode=0o700)
    path.write_text("")
    path.chmod(mode)

    audit.record("a")

    assert path.read_text() == ""
    assert audit.lost == 1
    assert "audit record lost: a" in caplog.text
    assert "chmod 600" in caplog.text


def test_a_link_is_not_followed(audit, path, tmp_path, caplog):
    path.parent.mkdir(mode=0o700)
    path.symlink_to(tmp_path / "elsewhere")

    audit.record("a")

    assert not (tmp_path / "elsewhere").exists()
    assert audit.lost == 1


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path, clock, caplog):
    (tmp_path / "file").write_text("")
    log = AuditLog(tmp_path / "file" / "audit.jsonl", clock=clock, source="worker")

    log.record("a")
    log.record("b")

    assert log.lost == 2
    assert "audit record lost: b" in caplog.text


def test_a_trail_of_nowhere_is_none():
    log = AuditLog(None, clock=FakeClock(), source="client")

    log.record("a")
    log.close()

    assert log.lost == 0


def test_every_refusal_has_a_name_by_which_alarms_are_set():
    assert set(REFUSAL_EVENTS) == set(Refusal)
    for event in REFUSAL_EVENTS.values():
        area, _, what = event.partition(".")
        assert area in {"message", "cert", "task"}
        assert what.replace("_", "").isalpha()


def test_a_follower_is_told_of_each_record_even_where_no_file_is_written():
    log, told = AuditLog(None, clock=FakeClock(), source="client"), []
    log.follow(told.append)

    log.record("message.replay", task="shop.pay", reason=None)

    assert [(entry["event"], entry["source"], entry["task"]) for entry in told] == [
        ("message.replay", "client", "shop.pay")
    ]
    assert "reason" not in told[0]
