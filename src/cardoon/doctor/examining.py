"""Runs checks at the same time, each bounded in time, and judges the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from cardoon.doctor.check import Check, Severity, State, Verdict
from cardoon.doctor.scene import NotApplicableError, Scene, UncheckedError

PATIENCE = 5.0
"""Seconds for all checks together; what has not answered then is unchecked."""
_THREADS = 16
_MOST_EVIDENCE = 20
_MOST_CHARACTERS = 400
_WEIGHTS = {
    Severity.INFO: 0,
    Severity.LOW: 1,
    Severity.MEDIUM: 3,
    Severity.HIGH: 8,
    Severity.CRITICAL: 20,
}


def examine(scene: Scene, checks: Sequence[Check], *, patience: float = PATIENCE) -> list[Verdict]:
    """What each check has found, in their order, after at most `patience` seconds.

    Never raises: what goes wrong in a check makes it unchecked.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="doctor")
    try:
        asked = {one.id: pool.submit(ask, one, scene) for one in checks}
        wait(asked.values(), timeout=patience)
        return [_answer(one, asked[one.id]) for one in checks]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def ask(check: Check, scene: Scene) -> Verdict:
    """What one check has found. What it saw before it could not go on is a finding all the same."""
    seen: list[str] = []
    state, why = State.UNCHECKED, ""
    try:
        for one in _bounded(check.ask(scene)):
            seen.append(one)  # noqa: PERF402  # what was seen before an error counts
        return Verdict(check, State.FINDING if seen else State.OK, tuple(seen))
    except NotApplicableError as error:
        state, why = State.NOT_APPLICABLE, str(error)
    except UncheckedError as error:
        why = str(error)
    except Exception as error:  # noqa: BLE001  # files and servers may hold anything; it is not well then
        why = f"{type(error).__name__}: {error}"
    if seen:
        return Verdict(check, State.FINDING, (*seen, f"not looked at further: {_cut(why)}"))
    return Verdict(check, state, (_cut(why),))


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "..."


def _bounded(evidence: Iterable[str]) -> Iterable[str]:
    for number, one in enumerate(evidence):
        if number == _MOST_EVIDENCE:
            yield "and more"
            return
        yield _cut(one)


def _answer(check: Check, asked: Future[Verdict]) -> Verdict:
    if asked.done() and not asked.cancelled():
        return asked.result()
    return Verdict(check, State.UNCHECKED, ("it took too long",))


def worst(verdicts: Iterable[Verdict]) -> Severity:
    """The highest severity of what is open; INFO where nothing is."""
    return max((one.check.severity for one in verdicts if one.is_open), default=Severity.INFO)


def count(verdicts: Iterable[Verdict]) -> Mapping[Severity, int]:
    """How many open findings there are of each severity."""
    found = Counter(one.check.severity for one in verdicts if one.is_open)
    return {one: found[one] for one in sorted(Severity, reverse=True)}


def score(verdicts: Iterable[Verdict]) -> int:
    """From 0 to 100: the share of what is well, by weight. What is unchecked is not well, nor is what is waived."""
    whole = well = 0
    for one in verdicts:
        if one.state is not State.NOT_APPLICABLE:
            weight = _WEIGHTS[one.check.severity]
            whole += weight
            well += weight if one.state is State.OK else 0
    return 100 if not whole else well * 100 // whole
