"""Checks are run together, and what goes wrong in one is no more than that."""

from __future__ import annotations

import threading

from cardoon.doctor.check import Severity, State, Verdict, check
from cardoon.doctor.examining import ask, count, examine, score, worst
from cardoon.doctor.scene import UncheckedError
from tests.unit.doctor.hosts import Host


def made(question, id="MSG-90", severity=Severity.HIGH):
    return check(id, severity, "a matter", looks_at="nothing", remedy="none")(question)


def test_what_raises_is_unchecked_with_what_was_raised(tmp_path):
    def broken(_scene):
        raise ZeroDivisionError("a file holds anything")

    [verdict] = examine(Host(tmp_path).scene(), [made(broken)])

    assert verdict.state is State.UNCHECKED
    assert verdict.evidence == ("ZeroDivisionError: a file holds anything",)


def test_what_was_seen_before_an_error_is_a_finding(tmp_path):
    def halfway(_scene):
        yield "one is open"
        raise UncheckedError("the other cannot be read")

    verdict = ask(made(halfway), Host(tmp_path).scene())

    assert verdict.state is State.FINDING
    assert verdict.evidence == (
        "one is open",
        "not looked at further: the other cannot be read",
    )


def test_evidence_is_bounded_in_number_and_size(tmp_path):
    def endless(_scene):
        while True:
            yield "x" * 10_000

    verdict = ask(made(endless), Host(tmp_path).scene())

    assert len(verdict.evidence) == 21
    assert max(map(len, verdict.evidence)) == 403


def test_a_check_that_takes_too_long_is_unchecked_and_holds_up_no_other(tmp_path):
    released = threading.Event()

    def slow(_scene):
        released.wait(60)
        return ()

    checks = [made(slow), made(lambda _: (), "MSG-91")]
    try:
        first, second = examine(Host(tmp_path).scene(), checks, patience=0.05)
    finally:
        released.set()

    assert (first.state, first.evidence) == (State.UNCHECKED, ("it took too long",))
    assert second.state is State.OK


def test_the_score_weighs_what_is_well_and_leaves_out_what_makes_no_sense():
    low = made(lambda _: (), severity=Severity.LOW)
    high = made(lambda _: (), severity=Severity.HIGH)

    assert score([]) == 100
    assert score([Verdict(low, State.OK), Verdict(high, State.UNCHECKED)]) == 100 // 9
    assert score([Verdict(low, State.OK), Verdict(high, State.NOT_APPLICABLE)]) == 100
    assert score([Verdict(high, State.WAIVED)]) == 0


def test_only_what_is_open_is_counted():
    high = made(lambda _: (), severity=Severity.HIGH)
    found = [Verdict(high, State.FINDING), Verdict(high, State.WAIVED), Verdict(high, State.OK)]

    assert count(found)[Severity.HIGH] == 1
    assert worst(found) is Severity.HIGH
    assert worst(found[1:]) is Severity.INFO
