"""What was found, for programs, and the table of all checks for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cardoon.doctor.advisories import EDITED
from cardoon.doctor.catalogue import CATALOGUE
from cardoon.doctor.check import Verdict
from cardoon.doctor.examining import count, score
from cardoon.doctor.lures import Trial


def to_mapping(verdicts: Sequence[Verdict], *, canaries: Trial | None = None) -> dict[str, Any]:
    """As JSON can say it."""
    return {
        **({} if canaries is None else {"canaries": canaries.told()}),
        "score": score(verdicts),
        "findings": {one.text: number for one, number in count(verdicts).items()},
        "advisories": EDITED,
        "checks": [
            {
                "id": one.check.id,
                "group": one.check.group,
                "severity": one.check.severity.text,
                "title": one.check.title,
                "state": one.state.value,
                "evidence": list(one.evidence),
                "remedy": one.check.remedy,
                "documentation": one.check.anchor,
            }
            for one in verdicts
        ],
    }


def table() -> Iterator[str]:
    """The lines of the table in docs/doctor.md."""
    yield "| id | severity | what | looks at | what mends it |"
    yield "|---|---|---|---|---|"
    for one in CATALOGUE:
        mark = " (D)" if one.deploy else ""
        told = (one.title, one.looks_at, one.remedy)
        cells = " | ".join(text.replace("|", "\\|") for text in told)
        yield f'| <a id="{one.id.lower()}"></a>{one.id}{mark} | {one.severity.text} | {cells} |'
