"""Whether the rules that are loaded are those of the settings."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from cardoon.exceptions import CardoonError
from cardoon.firewall.nft import Nft
from cardoon.firewall.planning import Plan
from cardoon.firewall.table import Difference, compare


class Verdict(enum.StrEnum):
    """Only `OK` is well: what could not be checked is not."""

    OK = "ok"
    CHANGED = "changed"
    ABSENT = "absent"
    UNKNOWN = "could-not-check"


class Finding(NamedTuple):
    """What a look has shown."""

    verdict: Verdict
    digest: str = ""
    """Of the rules that are loaded, where there are some."""
    expected: str = ""
    """Of the rules that should be."""
    differences: tuple[Difference, ...] = ()
    reason: str = ""
    """Why it could not be checked."""

    def describe(self) -> str:
        """One line for a log."""
        match self.verdict:
            case Verdict.OK:
                return f"the firewall is as it should be, digest {self.digest}"
            case Verdict.UNKNOWN:
                return f"the firewall could not be checked: {self.reason}"
            case Verdict.ABSENT | Verdict.CHANGED:
                told = "; ".join(map(str, self.differences[:5]))
                more = len(self.differences) - 5
                return f"{told}; and {more} more" if more > 0 else told


def judge(make: Callable[[], Plan], nft: Nft) -> Finding:
    """Hold what is loaded against what `make` plans; never raises for what nft or the settings say."""
    try:
        expected = make().ruleset.table()
        found = nft.table()
    except CardoonError as error:
        return Finding(Verdict.UNKNOWN, reason=str(error))
    differences = tuple(compare(expected, found))
    if found is None:
        return Finding(Verdict.ABSENT, expected=expected.digest(), differences=differences)
    verdict = Verdict.CHANGED if differences else Verdict.OK
    return Finding(verdict, found.digest(), expected.digest(), differences)
