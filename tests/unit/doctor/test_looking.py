"""What the doctor sees of an audit log and of a baseline that lie here."""

from __future__ import annotations

import pytest

from cardoon.audit import AuditLog
from cardoon.config import Conf
from cardoon.doctor.catalogue import CATALOGUE
from cardoon.doctor.check import State
from cardoon.doctor.examining import ask
from cardoon.doctor.looking import look
from cardoon.testing import FakeClock


def verdict_of(name, **settings):
    conf = Conf({})
    conf.update(settings)
    check = next(one for one in CATALOGUE if one.id == name)
    return ask(check, look(conf.settings(), clock=FakeClock(), environ={}))


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(path, clock=FakeClock(), source="worker")
    for number in range(3):
        audit.record("worker.start", number=number)
    audit.close()
    return path


def test_a_log_as_it_was_written_is_well(log):
    assert verdict_of("LOG-03", security_audit_log=str(log)).state is State.OK


def test_a_record_that_was_changed_is_named(log):
    log.write_bytes(log.read_bytes().replace(b'"number":1', b'"number":7'))

    verdict = verdict_of("LOG-03", security_audit_log=str(log))

    assert verdict.state is State.FINDING
    assert any("record " in one for one in verdict.evidence)


def test_there_is_nothing_to_judge_before_the_first_record(tmp_path):
    verdict = verdict_of("LOG-03", security_audit_log=str(tmp_path / "none.jsonl"))

    assert verdict.state is State.NOT_APPLICABLE


def test_a_baseline_that_is_not_there_is_told(tmp_path):
    verdict = verdict_of(
        "COD-09",
        integrity_baseline=str(tmp_path / "host.baseline"),
        integrity_key=[],
        state_directory=str(tmp_path),
    )
    assert verdict.state is State.NOT_APPLICABLE

    key = tmp_path / "approver.pem"
    verdict = verdict_of(
        "COD-09",
        integrity_baseline=str(tmp_path / "host.baseline"),
        integrity_key=[str(key)],
        state_directory=str(tmp_path),
    )
    assert verdict.state is State.FINDING
    assert str(key) in verdict.evidence[0]
