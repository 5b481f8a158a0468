"""SARIF and JUnit, as those read them who have never heard of Cardoon."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from cardoon.doctor.catalogue import BY_ID
from cardoon.doctor.check import State, Verdict
from cardoon.doctor.reports import to_junit, to_sarif

FOUND = [
    Verdict(BY_ID["MSG-01"], State.FINDING, ("accept_content names 'json'", "and more")),
    Verdict(BY_ID["MSG-02"], State.OK),
    Verdict(BY_ID["BRK-02"], State.UNCHECKED, ("a\x1b[31m:1: no answer",)),
    Verdict(BY_ID["PRC-05"], State.WAIVED, ("it is 0", "waived until 2027-02-01 by me: so")),
    Verdict(BY_ID["RED-02"], State.NOT_APPLICABLE, ("no server",)),
]


def test_sarif_has_a_rule_and_a_result_for_each_check():
    [run] = to_sarif(FOUND, version="1.2.3")["runs"]
    results = run["results"]
    rules = run["tool"]["driver"]["rules"]

    assert [one["ruleId"] for one in results] == [one["id"] for one in rules]
    assert [rules[one["ruleIndex"]]["id"] for one in results] == [one.check.id for one in FOUND]
    assert [one["kind"] for one in results] == ["fail", "pass", "open", "fail", "notApplicable"]
    assert [one["level"] for one in results] == ["error", "none", "none", "warning", "none"]
    assert results[3]["suppressions"][0]["justification"].startswith("waived until")
    assert "accept_content names 'json'\nand more" in results[0]["message"]["text"]


def test_junit_has_failures_errors_and_what_was_skipped():
    suite = ET.fromstring(to_junit(FOUND))

    told = {case.get("name")[:6]: [one.tag for one in case] for case in suite}
    assert told == {
        "MSG-01": ["failure"],
        "MSG-02": [],
        "BRK-02": ["error"],
        "PRC-05": ["skipped"],
        "RED-02": ["skipped"],
    }
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "2",
    }
    assert suite[2][0].get("message") == "a\ufffd[31m:1: no answer"
