"""What was found, in the forms that other programs read: SARIF 2.1.0 (OASIS) and JUnit's XML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from cardoon.doctor.check import Severity, State, Verdict

_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
    Severity.INFO: "note",
}
_SCORES = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.0",
    Severity.LOW: "2.0",
    Severity.INFO: "0.0",
}
"""`security-severity`, by which those sort who show SARIF."""
_KINDS = {
    State.OK: "pass",
    State.FINDING: "fail",
    State.WAIVED: "fail",
    State.NOT_APPLICABLE: "notApplicable",
    State.UNCHECKED: "open",
}
"""3.27.9; `open` is what the format has for what could not be decided."""
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_sarif(verdicts: Sequence[Verdict], *, version: str) -> dict[str, Any]:
    """A log of one run by a version of Cardoon."""
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "cardoon doctor",
                        "version": version,
                        "rules": [_rule(one) for one in verdicts],
                    }
                },
                "results": [_result(number, one) for number, one in enumerate(verdicts)],
            }
        ],
    }


def _rule(verdict: Verdict) -> dict[str, Any]:
    check = verdict.check
    return {
        "id": check.id,
        "shortDescription": {"text": check.title},
        "fullDescription": {"text": " ".join((check.ask.__doc__ or check.title).split())},
        "help": {"text": check.remedy},
        "defaultConfiguration": {"level": _LEVELS[check.severity]},
        "properties": {"security-severity": _SCORES[check.severity], "tags": [check.group]},
    }


def _result(number: int, verdict: Verdict) -> dict[str, Any]:
    check, kind = verdict.check, _KINDS[verdict.state]
    told: dict[str, Any] = {
        "ruleId": check.id,
        "ruleIndex": number,
        "kind": kind,
        # 3.27.10: what did not fail has the level none.
        "level": _LEVELS[check.severity] if kind == "fail" else "none",
        "message": {"text": "\n".join([check.title, *verdict.evidence])},
        "locations": [{"logicalLocations": [{"name": check.group, "kind": "module"}]}],
    }
    if verdict.state is State.WAIVED:
        told["suppressions"] = [{"kind": "external", "justification": verdict.evidence[-1]}]
    return told


def to_junit(verdicts: Sequence[Verdict]) -> str:
    """One suite, with a case for each check: findings are failures, what is unchecked is an error."""
    states = [one.state for one in verdicts]
    skipped = states.count(State.NOT_APPLICABLE) + states.count(State.WAIVED)
    suite = ET.Element(
        "testsuite",
        name="cardoon doctor",
        tests=str(len(states)),
        failures=str(states.count(State.FINDING)),
        errors=str(states.count(State.UNCHECKED)),
        skipped=str(skipped),
    )
    names = {State.FINDING: "failure", State.UNCHECKED: "error"}
    for one in verdicts:
        check = one.check
        case = ET.SubElement(
            suite, "testcase", classname=check.group, name=f"{check.id} {check.title}"
        )
        if one.state is State.OK:
            continue
        told = ET.SubElement(case, names.get(one.state, "skipped"), type=check.severity.text)
        told.set("message", _clean(one.evidence[0] if one.evidence else check.title))
        told.text = _clean("\n".join([*one.evidence, f"-> {check.remedy}"]))
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode")


def _clean(text: str) -> str:
    """Without the characters that no XML can hold (XML 1.0, 2.2)."""
    return _NO_XML.sub("\ufffd", text)
