"""The audit trail: whole records, for its owner alone, and never in the way of the work."""

from __future__ import annotations

import json
import stat
import threading

import pytest

from cardoon.audit import MAX_FIELD_CHARACTERS, REFUSAL_EVENTS, AuditLog
from cardoon.exceptions import Refusal
from cardoon.testing import FakeClock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "audit.jsonl"


@pytest.fixture
def audit(path, clock):
    log = AuditLog(path, clock=clock, source="worker")
    yield log
    log.close()


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
    path.rename(path.with_suffix(".1"))  # as log rotation does
    audit.record("b")

    assert [record["event"] for record in records(path)] == ["b"]


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
