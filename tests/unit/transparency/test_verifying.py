"""What was done to a log is found, and named by its record."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardoon.audit import AuditLog
from cardoon.testing import FakeClock
from cardoon.transparency.epochs import load_epoch
from cardoon.transparency.notes import parse_note, sign_note
from cardoon.transparency.trail import Keeping
from cardoon.transparency.verifying import Flaw, verify_log
from tests.unit.transparency import readers

USUAL = {Flaw.UNCERTIFIED}
"""These logs are nobody's."""


def write(path, count=30, *, clock=None, epochs=3, keeping=Keeping(records=4)):  # noqa: B008
    log = AuditLog(path, clock=clock or FakeClock(), source="worker", keeping=keeping)
    for number in range(count):
        if number % max(count // epochs, 1) == 0:
            log.begin_epoch(None)
        log.record("message.replay", number=number)
    log.close()
    return log


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "audit.jsonl"
    write(path)
    return path


def found(path, *elsewhere):
    verdict = verify_log(path, elsewhere=tuple(map(parse_note, elsewhere)))
    return [(one.flaw, one.seq) for one in verdict.findings if one.flaw not in USUAL]


def newest(path):
    return path.with_name(path.name + ".checkpoints").read_bytes().split(b"\n\n\n")[-2] + b"\n"


def edit(path, change):
    lines = readers.lines_of(path)
    change(lines)
    path.write_bytes(b"".join(lines))


def test_what_is_written_verifies_here_and_by_the_letter_of_the_standards(path):
    verdict = verify_log(path)

    assert found(path) == []
    assert readers.verify(path)[-1] == 30
    assert (verdict.size, verdict.sealed, verdict.epochs, verdict.first) == (30, 30, 3, 0)


def test_a_changed_record_is_named(path):
    for number in (0, 7, 28):
        edit(
            path,
            lambda lines, at=number: lines.__setitem__(at, lines[at].replace(b"replay", b"REPLAY")),
        )
        assert found(path) == [(Flaw.CHANGED, number)]
        edit(
            path,
            lambda lines, at=number: lines.__setitem__(at, lines[at].replace(b"REPLAY", b"replay")),
        )
    assert found(path) == []


def test_a_change_of_the_last_record_is_found_by_its_checkpoint(path):
    edit(path, lambda lines: lines.__setitem__(29, lines[29].replace(b"replay", b"REPLAY")))

    assert found(path) == [(Flaw.ROOT, 29)]


def test_a_chain_that_was_written_anew_is_found_by_the_checkpoint(path, tmp_path):
    other = tmp_path / "other" / "audit.jsonl"
    write(other, clock=FakeClock(now=1_600_000_000))
    path.write_bytes(other.read_bytes())

    [(flaw, seq)] = found(path)
    assert (flaw, seq) == (Flaw.ROOT, 3)


@pytest.mark.parametrize("seq", [b'"seq":9}', b'"seq":700}', b'"seq":"x"}', b'"seq":true}'])
def test_a_record_of_another_number_is_a_changed_one(path, seq):
    def change(lines):
        record = json.loads(lines[12])
        text = json.dumps({**record, "seq": 0}, sort_keys=True, separators=(",", ":"))
        lines[12] = text.replace('"seq":0', seq[:-1].decode()).encode() + b"\n"

    edit(path, change)

    assert found(path) == [(Flaw.CHANGED, 12)]


def test_a_record_that_is_none_any_more_is_a_changed_one(path):
    edit(path, lambda lines: lines.__setitem__(12, b"\x00" * 40 + b"\n"))

    assert found(path) == [(Flaw.CHANGED, 12)]


def test_removed_records_are_named(path):
    edit(path, lambda lines: lines.__delitem__(slice(9, 12)))
    verdict = verify_log(path)

    assert found(path) == [(Flaw.REMOVED, 9)]
    assert "records 9 to 11 removed" in [one.detail for one in verdict.findings]


def test_an_inserted_record_is_named_and_the_rest_still_proven(path):
    edit(path, lambda lines: lines.insert(5, lines[20]))
    assert found(path) == [(Flaw.INSERTED, 5)]
    edit(path, lambda lines: lines.__setitem__(5, b"lies\n"))
    assert found(path) == [(Flaw.INSERTED, 5)]
    edit(path, lambda lines: lines.__setitem__(5, lines[4]))
    assert found(path) == [(Flaw.INSERTED, 5)]


def test_records_that_changed_places_are_named(path):
    edit(path, lambda lines: lines.insert(14, lines.pop(15)))

    assert found(path) == [(Flaw.REORDERED, 14)]


def test_a_log_that_was_cut_is_shorter_than_what_was_signed(path):
    edit(path, lambda lines: lines.__delitem__(slice(22, None)))

    assert found(path) == [(Flaw.TRUNCATED, 22)]


def test_a_log_that_was_cut_with_its_checkpoints_is_older_than_what_was_kept_elsewhere(
    path, tmp_path
):
    kept = newest(path)
    old = tmp_path / "old" / "audit.jsonl"
    old.parent.mkdir()
    notes = path.with_name("audit.jsonl.checkpoints").read_bytes().split(b"\n\n\n")
    short = [*notes[:4], b""]
    old.with_name("audit.jsonl.checkpoints").write_bytes(b"\n\n\n".join(short))
    size = int(short[-2].split(b"\n")[1])
    old.write_bytes(b"".join(readers.lines_of(path)[:size]))

    assert found(old) == []
    assert {flaw for flaw, _ in found(old, kept)} == {Flaw.ROLLBACK, Flaw.TRUNCATED}
    assert found(path, kept) == []


def test_another_log_is_not_the_one_that_was_kept(path, tmp_path):
    other = tmp_path / "other" / "audit.jsonl"
    write(other)

    assert found(other, newest(path)) == [(Flaw.ORIGIN, None)]


def test_a_log_that_went_another_way_from_a_copy_is_a_fork(path, tmp_path):
    copy = tmp_path / "copy" / "audit.jsonl"
    shutil.copytree(path.parent, copy.parent, ignore=lambda *_: {"copy"})
    for one, event in ((path, "a"), (copy, "b")):
        log = AuditLog(one, clock=FakeClock(), source="worker")
        log.record(event)
        log.close()

    assert found(copy, newest(path)) == [(Flaw.FORK, 31)]


def test_a_signature_that_does_not_fit_is_named(path):
    notes = path.with_name("audit.jsonl.checkpoints")
    content = notes.read_bytes().split(b"\n\n\n")
    content[1] = content[1].replace(b"time 17", b"time 18")
    notes.write_bytes(b"\n\n\n".join(content))

    [(flaw, _)] = found(path)
    assert flaw is Flaw.SIGNATURE


def test_a_thief_of_todays_key_cannot_sign_for_yesterday(path):
    """He has the key file and the log, and makes a checkpoint of the first epoch anew."""
    stolen = load_epoch(path.with_name("audit.jsonl.key"))
    notes = path.with_name("audit.jsonl.checkpoints")
    content = notes.read_bytes().split(b"\n\n\n")
    first = parse_note(content[1] + b"\n").note
    assert (first.epoch, stolen.number) == (0, 2)
    content[1] = sign_note(first, stolen.key).encode().rstrip(b"\n")
    notes.write_bytes(b"\n\n\n".join(content))

    assert [flaw for flaw, _ in found(path)] == [Flaw.SIGNATURE]


def test_an_epoch_whose_key_nobody_introduced_is_named(path):
    path.with_name("audit.jsonl.key").unlink()
    write(path, 3, epochs=1)

    assert found(path) == [(Flaw.EPOCH_MISSING, None)]


def test_no_checkpoint_is_no_proof(path):
    path.with_name("audit.jsonl.checkpoints").unlink()

    assert found(path) == [(Flaw.UNSEALED, None)]


def test_text_that_is_no_checkpoint_is_named(path):
    with path.with_name("audit.jsonl.checkpoints").open("ab") as notes:
        notes.write(b"x" * 100)

    assert found(path) == [(Flaw.NOTE, None)]


def test_a_line_that_was_not_finished_is_told_and_is_no_harm(path):
    with path.open("ab") as log:
        log.write(b'{"event":"a')
    assert found(path) == [(Flaw.TORN, 30)]

    write(path, 2, epochs=1)

    assert found(path) == [(Flaw.TORN, 30)]
    events = [json.loads(line)["event"] for line in readers.lines_of(path)[31:]]
    assert events == ["audit.torn", "message.replay", "message.replay"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_byte_can_be_changed_unseen(path, data):
    before = path.read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    content = bytearray(before)
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    try:
        assert found(path) != []
    finally:
        path.write_bytes(before)
