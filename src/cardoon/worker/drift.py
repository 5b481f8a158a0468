"""Holds this host's files against their baseline while a worker runs, and does what is to be done on drift.

Checks run in a thread of their own; whatever they meet, the worker goes on unless `integrity_on_drift` says otherwise.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from cardoon.audit import AuditLog
from cardoon.clock import Clock
from cardoon.exceptions import CardoonError
from cardoon.integrity.approved import Place, make_place, open_approved
from cardoon.integrity.baseline import Baseline
from cardoon.integrity.comparison import Comparison
from cardoon.integrity.findings import Finding, Kind, summarize
from cardoon.integrity.rules import Rules
from cardoon.integrity.running import Scope
from cardoon.integrity.watching import FileWatch
from cardoon.worker.import_watch import ImportWatch, refuse_late
from cardoon.worker.retreating import Retreat
from cardoon.worker.running_code import make_look
from cardoon.worker.standing import Result, Standing

if TYPE_CHECKING:
    from cardoon.worker.worker import Worker

logger = logging.getLogger(__name__)

EXIT_DRIFTED = 78
"""What a worker ends with where `integrity_on_drift` is `stop` (EX_CONFIG of sysexits.h)."""
MOST_TOLD = 20
"""Findings of a check that have a record each; the rest are counted."""
SECONDS_BETWEEN_TELLINGS = 86_400.0
"""Of drift that stays as it is."""
SETTLING_SECONDS = 0.2
"""From a change to a check: what is deployed changes in many files at once."""
LEAST_SECONDS_BETWEEN_CHECKS = 2.0
"""Of those that changes bring about: whoever may write a file must not keep a core busy."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
"""After watching has failed."""
_LISTENING_SECONDS = 0.5


class DriftWatch:
    """Checks at the first look, then every `interval` seconds, and on changes where `watches`.

    `react` is called once there is drift, or no baseline that counts; from any thread, more than once. Not for
    what task processes alone have loaded. `find_loaded` says what runs that is not as the baseline says.
    """

    def __init__(
        self,
        place: Place,
        *,
        interval: float,
        watches: bool,
        react: Callable[[], None],
        audit: AuditLog,
        clock: Clock,
        make_watch: Callable[[Rules], FileWatch] = FileWatch,
        find_loaded: Callable[[Baseline], list[Finding]] = lambda _: [],
    ) -> None:
        self._find_loaded = find_loaded
        self._make_watch = make_watch
        self._place = place
        self._interval = interval
        self._watches = watches
        self._react = react
        self._audit = audit
        self._clock = clock
        self._due_at = clock.monotonic()
        self._told: tuple[object, float] | None = None
        self._checking = threading.Lock()  # one check at a time
        self._wanted = threading.Event()
        self._stop = threading.Event()
        self._is_full_wanted = True
        self._threads: list[threading.Thread] = []
        self.drift: Counter[Kind] = Counter()
        """Findings of the last check."""
        self.serial = 0
        self.checked_at = 0.0
        """When the last full check ended, in seconds since the epoch; 0 before the first."""
        self.standing = Standing()
        """What is told to those who ask."""

    def look(self) -> None:
        """Check at once the first time, before any task runs; from then on see whether a check is due."""
        now = self._clock.monotonic()
        if not self._threads:
            self.check()
            self._start(self._check_when_wanted, "integrity")
            if self._watches:
                self._start(self._watch_on, "integrity watch")
        elif now < self._due_at:
            return
        else:
            self.want(full=True)
        self._due_at = now + self._interval

    def end(self) -> None:
        """Check no more; a check that runs is waited for a moment."""
        self._stop.set()
        self._wanted.set()
        for thread in list(self._threads):
            thread.join(2.0)

    def request(self) -> None:
        """Have a full check soon; from any thread."""
        self.want(full=True)

    def want(self, *, full: bool) -> None:
        """Have a check soon; from any thread."""
        self._is_full_wanted = self._is_full_wanted or full
        self._wanted.set()

    def check(self, *, quick: bool = False) -> None:
        """Hold the files against the baseline now, tell what is found, and react to it. Raises nothing."""
        with self._checking:
            try:
                findings = self._compare(quick=quick)
            except CardoonError as error:
                self._tell_invalid(str(error))
            except Exception:  # a check that fails is told, and must not end what looks
                logger.exception("integrity: the check failed")
                self._tell_invalid("the check failed; see the log of the worker")
            else:
                self._tell(findings)
                if not any(self.drift[kind] for kind in Kind if kind is not Kind.TASK_LOADED):
                    return
            self._react()

    def _compare(self, *, quick: bool) -> list[Finding]:
        kinds: Counter[Kind] = Counter()
        findings: list[Finding] = []
        with open_approved(self._place) as baseline:
            self._note_serial(baseline.head.serial)
            digest = baseline.digest.hex()
            quick = (
                quick and digest == self.standing.digest
            )  # another one is held against all files
            loaded = self._find_loaded(baseline)
            certain = [one for one in loaded if one.kind is Kind.LOADED]
            files = Comparison(baseline.head.rules, baseline.lines(), quick=quick)
            others = (one for one in loaded if one.kind is not Kind.LOADED)
            for finding in itertools.chain(certain, files, others):
                kinds[finding.kind] += 1
                if len(findings) < MOST_TOLD:
                    findings.append(finding)
        self.drift = kinds
        if not quick:
            self.checked_at = self._clock.now()
        total = kinds.total()
        if total or not quick:
            self.standing = Standing(
                serial=baseline.head.serial,
                digest=digest,
                checked_at=self.checked_at,
                result=Result.DRIFT if total else Result.OK,
                findings=total,
            )
        return findings

    def _note_serial(self, serial: int) -> None:
        if serial != self.serial:
            self.serial = serial
            self._audit.record(
                "integrity.baseline", baseline_serial=serial, path=self._place.baseline
            )

    def _tell(self, findings: list[Finding]) -> None:
        if not self._is_news((tuple(findings), tuple(sorted(self.drift.items())))):
            return
        total = self.drift.total()
        if not total:
            self._audit.record("integrity.check_ok", baseline_serial=self.serial)
            return
        logger.critical(
            "files are not what baseline %d says: %s; see `cardoon integrity check`, and find out who changed them",
            self.serial,
            summarize(findings, 3) + (f" ({total} in all)" if total > MOST_TOLD else ""),
        )
        for finding in findings:
            self._audit.record(
                "integrity.drift",
                kind=finding.kind.value,
                path=finding.shown_path,
                detail=finding.shown_changes or None,
                total=total,
                baseline_serial=self.serial,
            )

    def _tell_invalid(self, reason: str) -> None:
        self.drift = Counter()
        self.standing = replace(self.standing, result=Result.INVALID, findings=0)
        if self._is_news(reason):
            logger.critical("integrity: %s", reason)
            self._audit.record("integrity.baseline_invalid", detail=reason)

    def _is_news(self, told: object) -> bool:
        now = self._clock.monotonic()
        is_old = self._told is not None and self._told[0] == told
        if is_old and self._told is not None and now - self._told[1] < SECONDS_BETWEEN_TELLINGS:
            return False
        self._told = told, now
        return True

    def _start(self, target: Callable[[], None], name: str) -> None:
        if self._stop.is_set():  # a worker that stops for what the first look has found
            return
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(
            thread
        )  # once it runs: the end may come at any time, and joins what is here

    def _check_when_wanted(self) -> None:
        while True:
            self._wanted.wait()
            if self._stop.is_set():
                return
            self._stop.wait(SETTLING_SECONDS)
            self._wanted.clear()
            quick, self._is_full_wanted = not self._is_full_wanted, False
            self.check(quick=quick)
            self._stop.wait(LEAST_SECONDS_BETWEEN_CHECKS)

    def _watch_on(self) -> None:
        """Have a check for each change; what ends the watching is told, and it begins anew with a full check."""
        told, pause = "", _FIRST_PAUSE
        while not self._stop.is_set():
            try:
                self._watch()
            except CardoonError:  # no baseline counts, which the checks tell
                failure = ""
            except Exception as error:  # noqa: BLE001 - watching must outlive what it meets
                failure = f"{type(error).__name__}: {error}"
            else:
                told, pause = "", _FIRST_PAUSE
                continue
            if failure and failure != told:
                logger.error("integrity: watching ended, and begins anew: %s", failure)
                self._audit.record("integrity.watch_failed", detail=failure)
            self.want(full=True)
            self._stop.wait(pause)
            told, pause = failure, min(2 * pause, _LONGEST_PAUSE)

    def _watch(self) -> None:
        """Until another baseline counts, or the worker ends."""
        seen = self.serial
        with open_approved(self._place) as baseline:
            rules = baseline.head.rules
        with contextlib.closing(self._make_watch(rules)) as watch:
            self.want(full=False)  # for what changed since the first check
            while not self._stop.is_set() and seen == self.serial:
                changed = watch.wait(_LISTENING_SECONDS)
                if changed or changed is None:
                    self.want(full=changed is None)


def make_drift_watch(worker: Worker) -> Iterator[DriftWatch | ImportWatch]:
    """What a worker's settings ask for: nothing without a baseline."""
    settings, imports = worker.settings, worker.options.imports
    refuse_late(settings, imports)
    if not settings.integrity_baseline:
        return
    react = Retreat(
        worker,
        setting="integrity_on_drift",
        how=settings.integrity_on_drift,
        exit_code=EXIT_DRIFTED,
    )
    watch = DriftWatch(
        make_place(
            settings.integrity_baseline, settings.integrity_key, worker.deployment.state_directory
        ),
        interval=settings.integrity_check_interval,
        watches=settings.integrity_watch,
        react=react,
        audit=worker.audit,
        clock=worker.clock,
        find_loaded=make_look(worker, Scope(settings.integrity_loaded)),
    )
    worker.check_files = watch.request
    worker.events.standing = lambda: watch.standing
    yield watch
    if imports is not None:
        imports.join(worker.audit, react, watch)
        yield imports
