"""`cardoon doctor`: verdicts for people and programs, and exit codes."""

from __future__ import annotations

import datetime as dt
import json
from xml.etree import ElementTree as ET

import pytest

from cardoon.cli.codes import Exit
from cardoon.cli.doctor import exit_code
from cardoon.doctor.catalogue import BY_ID
from cardoon.doctor.check import State, Verdict


@pytest.fixture(autouse=True)
def own_state(project, monkeypatch):
    """Whatever folder of state lies above the test's own."""
    monkeypatch.setenv("CARDOON_STATE_DIRECTORY", str(project.state))


def doctor(project, *words):
    done = project.run("doctor", *words)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def test_what_is_well_is_exit_code_0(project):
    code, told = doctor(project, "--only", "MSG-01")

    assert code == Exit.OK
    assert "ok        MSG-01  signatures of messages" in told
    assert told.endswith("score 100: nothing found\n")


def test_a_critical_finding_is_told_with_its_evidence_and_exit_code_4(project, monkeypatch):
    monkeypatch.setenv("CARDOON_ACCEPT_CONTENT", "json")
    monkeypatch.setenv("CARDOON_TASK_SERIALIZER", "json")

    code, told = doctor(project, "--only", "MSG-01")

    assert code == Exit.CRITICAL
    assert "critical  MSG-01" in told
    assert "accept_content names 'json', which is not signed" in told
    assert "->" not in told


def test_hints_say_what_mends_it(project, monkeypatch):
    monkeypatch.setenv("CARDOON_TASK_ALWAYS_EAGER", "1")

    code, told = doctor(project, "--only", "CFG-03", "--fix-hints")

    assert code == Exit.HIGH
    assert f"-> {BY_ID['CFG-03'].remedy}" in told


def test_a_server_that_is_not_there_is_unchecked_and_not_well(project, monkeypatch):
    monkeypatch.setenv("CARDOON_BROKER_URL", "redis://127.0.0.1:1/0")

    code, told = doctor(project, "--only", "BRK-02")

    assert code == Exit.UNCHECKED
    assert "unchecked BRK-02" in told
    assert "score 0: 1 could not be checked" in told


def test_the_answer_in_json_has_everything(project, monkeypatch):
    monkeypatch.setenv("CARDOON_TASK_TIME_LIMIT", "5")

    code, told = doctor(project, "--group", "settings", "--json")

    found = json.loads(told)
    assert [one for one in found["checks"] if one["state"] != "ok"] == []
    assert code == Exit.OK
    assert found["score"] == 100
    assert found["findings"] == dict.fromkeys(["critical", "high", "medium", "low", "info"], 0)
    assert {one["id"] for one in found["checks"]} >= {"CFG-02", "CFG-03"}
    assert {one["group"] for one in found["checks"]} == {"settings"}


def test_checks_of_hosts_are_asked_only_where_they_are_meant(project):
    _, usual = doctor(project, "--group", "network", "--json")
    _, all_of_them = doctor(project, "--group", "network", "--deploy", "--json")

    assert json.loads(usual)["checks"] == []
    assert "NET-01" in {one["id"] for one in json.loads(all_of_them)["checks"]}


def test_an_id_that_no_check_has_is_an_error_with_the_remedy(project):
    assert project.error("doctor", "--only", "BRK-99") == (
        "no check has the id 'BRK-99'; see docs/doctor.md"
    )


def test_quiet_leaves_out_what_is_well(project):
    done = project.run("-q", "doctor", "--only", "MSG-01")

    assert done.stdout == "score 100: nothing found\n"


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ({}, Exit.OK),
        ({"PRC-15": State.FINDING}, Exit.ERROR),
        ({"KEY-09": State.FINDING}, Exit.OK),
        ({"PRC-15": State.FINDING, "MSG-04": State.UNCHECKED}, Exit.UNCHECKED),
        ({"MSG-04": State.FINDING, "PRC-15": State.UNCHECKED}, Exit.HIGH),
        ({"MSG-04": State.FINDING, "MSG-01": State.FINDING}, Exit.CRITICAL),
        ({"MSG-01": State.WAIVED}, Exit.OK),
        ({"MSG-01": State.NOT_APPLICABLE}, Exit.OK),
    ],
)
def test_the_exit_code_is_that_of_the_worst(states, code):
    assert exit_code([Verdict(BY_ID[one], state) for one, state in states.items()]) is code


def test_a_waiver_holds_from_then_on_and_is_told(project, monkeypatch):
    monkeypatch.setenv("CARDOON_TASK_ALWAYS_EAGER", "1")
    day = (dt.datetime.now(dt.UTC) + dt.timedelta(days=30)).date().isoformat()

    words = ("--only", "CFG-03", "--skip", "CFG-03", "--until", day, "--reason", "a test system")
    code, told = doctor(project, *words)

    assert code == Exit.OK
    assert "waived    CFG-03" in told
    assert f"waived until {day} by " in told
    assert doctor(project, "--only", "CFG-03")[0] == Exit.OK


def test_a_waiver_needs_a_date_and_a_reason(project):
    done = project.run("doctor", "--skip", "CFG-03")

    assert done.exit_code == Exit.USAGE
    assert "--skip needs --until DATE and --reason TEXT" in done.stderr


def test_a_waiver_that_somebody_has_written_by_hand_is_a_finding(project):
    project.answer("init")
    entry = {"id": "CFG-03", "until": "2099-01-01", "reason": "no", "by": "me", "at": 1}
    (project.state / "waivers.json").write_text(json.dumps({"version": 1, "waivers": [entry]}))

    code, told = doctor(project, "--only", "CFG-07")

    assert code == Exit.HIGH
    assert "a waiver of CFG-03 does not count: nobody has signed it" in told


def test_sarif_and_junit_are_answers_too(project):
    sarif = json.loads(doctor(project, "--only", "MSG-01", "--sarif")[1])
    junit = ET.fromstring(doctor(project, "--only", "MSG-01", "--junit")[1])

    assert sarif["version"] == "2.1.0"
    assert [one.get("name") for one in junit] == ["MSG-01 signatures of messages"]
