"""The doctor of a worker: what keeps it from starting, and what it tells while it runs."""

from __future__ import annotations

import json

import pytest

from cardoon.audit import AuditLog
from cardoon.config import Conf
from cardoon.doctor.catalogue import BY_ID
from cardoon.doctor.check import State, Verdict
from cardoon.exceptions import ImproperlyConfigured
from cardoon.testing import FakeClock
from cardoon.worker.checkup import Checkup


class Patient:
    """A worker's host, on which certain checks find something."""

    def __init__(self, folder, **settings):
        self.clock = FakeClock()
        self.open = []
        self.looks = 0
        self.trail = folder / "audit.jsonl"
        conf = Conf({})
        conf.update(**settings)
        self.checkup = Checkup(
            conf.settings(),
            examine=self.examine,
            audit=AuditLog(self.trail, clock=self.clock, source="worker"),
            clock=self.clock,
            worker="w1",
        )

    def examine(self):
        self.looks += 1
        if "broken" in self.open:
            raise ZeroDivisionError
        found = [Verdict(BY_ID[one], State.FINDING, ("it is so",)) for one in self.open]
        return [*found, Verdict(BY_ID["BRK-02"], State.UNCHECKED, ("no answer",))]

    def look(self):
        """Look as a worker's keeper does, and wait for it."""
        self.checkup.look()
        self.checkup.wait(10)

    def records(self):
        if not self.trail.exists():
            return []
        told = [json.loads(line) for line in self.trail.read_text().splitlines()]
        return [(one["event"], one["id"]) for one in told]


def test_nobody_looks_unless_somebody_has_asked_for_it(tmp_path):
    patient = Patient(tmp_path)

    patient.checkup.require()
    patient.look()

    assert patient.looks == 0
    assert patient.checkup.counts == {}


@pytest.mark.parametrize(
    ("required", "found", "starts"),
    [
        ("critical", ["MSG-01"], False),
        ("critical", ["MSG-04"], True),
        ("high", ["MSG-04"], False),
        ("high", ["MSG-01"], False),
        ("high", ["PRC-05"], True),
        ("high", [], True),
    ],
)
def test_what_is_severe_enough_keeps_a_worker_from_starting(tmp_path, required, found, starts):
    patient = Patient(tmp_path, doctor_require=required)
    patient.open = found

    if starts:
        patient.checkup.require()
    else:
        with pytest.raises(ImproperlyConfigured, match=found[0]):
            patient.checkup.require()

    assert patient.looks == 1


def test_what_could_not_be_checked_is_logged_and_keeps_no_worker_from_starting(tmp_path, caplog):
    patient = Patient(tmp_path, doctor_require="critical")

    patient.checkup.require()

    assert "could not check BRK-02" in caplog.text


def test_a_finding_is_told_once_and_so_is_that_it_was_mended(tmp_path):
    patient = Patient(tmp_path, doctor_interval=60)
    patient.open = ["MSG-04"]
    patient.look()
    patient.clock.advance(60)
    patient.look()
    patient.open = []
    patient.clock.advance(60)

    patient.look()

    assert patient.looks == 3
    assert patient.records() == [("doctor.finding", "MSG-04"), ("doctor.mended", "MSG-04")]


def test_it_looks_no_more_often_than_it_is_asked_to(tmp_path):
    patient = Patient(tmp_path, doctor_interval=60)
    patient.look()
    patient.clock.advance(59)

    patient.look()

    assert patient.looks == 1


def test_what_is_open_is_counted_by_severity(tmp_path):
    patient = Patient(tmp_path, doctor_interval=60)
    patient.open = ["MSG-04", "PRC-03", "PRC-05"]

    patient.look()

    assert patient.checkup.counts == {"critical": 0, "high": 2, "medium": 1, "low": 0, "info": 0}


def test_a_doctor_who_falls_over_stops_nobody(tmp_path, caplog):
    patient = Patient(tmp_path, doctor_interval=60)
    patient.open = ["broken"]

    patient.look()

    assert "the doctor could not look" in caplog.text
