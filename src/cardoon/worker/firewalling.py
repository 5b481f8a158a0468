"""Watches that the firewall of the worker's host is there, and acts as the settings say when it is not.

Each look has a thread of its own: nft may hang, and so may whoever is asked for names. Nothing else waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cardoon.audit import AuditLog
from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.firewall.judging import Finding, Verdict, judge
from cardoon.firewall.nft import DEADLINE, Nft
from cardoon.firewall.planning import make_plan, servers_of
from cardoon.firewall.state import read_state
from cardoon.firewall.telling import Teller
from cardoon.worker.retreating import Retreat

if TYPE_CHECKING:
    from cardoon.worker.worker import Worker

logger = logging.getLogger(__name__)

EXIT_CODE = 77
"""What a worker ends with where `firewall_on_change` is `stop` (EX_NOPERM of sysexits.h)."""
LATE = 2 * DEADLINE
"""Seconds after which a look that has not ended counts as one that could not be made."""


class FirewallWatch:
    """A chore: begins a look when it is time for one. `ask` makes it, and raises nothing that it expects.

    `react` is called when the rules are gone or changed, after it is told; `on_change` is what records say of that.
    """

    def __init__(
        self,
        ask: Callable[[], Finding],
        *,
        interval: float,
        on_change: str,
        react: Callable[[], None],
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._ask = ask
        self._interval = interval
        self._react = react
        self._teller = Teller(action=on_change, audit=audit, clock=clock)
        self._clock = clock
        self._next_look = clock.monotonic()
        self._began_at = 0.0
        self._thread: threading.Thread | None = None

    @property
    def is_ok(self) -> bool:
        """Whether the last look found all as it should be."""
        return self._teller.verdict is Verdict.OK

    def look(self) -> None:
        """Begin a look if it is time; waits for nothing."""
        now = self._clock.monotonic()
        if self._thread is not None and self._thread.is_alive():
            if now - self._began_at >= LATE:
                self._take(Finding(Verdict.UNKNOWN, reason=f"no answer for {LATE:g} seconds"))
            return
        if now < self._next_look:
            return
        self._next_look = now + self._interval
        self._began_at = now
        self._thread = threading.Thread(target=self._run, name="firewall", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Wait for a look that has begun, but not for long."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(DEADLINE)

    def _run(self) -> None:
        try:
            finding = self._ask()
        except Exception as error:  # a thread that dies would leave the last verdict standing
            logger.exception("the firewall could not be checked")
            finding = Finding(Verdict.UNKNOWN, reason=type(error).__name__)
        self._take(finding)

    def _take(self, finding: Finding) -> None:
        if self._teller.take(finding):
            self._react()


def watch_firewall(worker: Worker) -> list[FirewallWatch]:
    """The watch of a worker, or none where `firewall_check_interval` is 0."""
    settings = worker.settings
    if not settings.firewall_check_interval:
        return []

    watch = FirewallWatch(
        _asker(settings, worker.deployment, worker.clock),
        interval=settings.firewall_check_interval,
        on_change=settings.firewall_on_change,
        react=Retreat(
            worker,
            setting="firewall_on_change",
            how=settings.firewall_on_change,
            exit_code=EXIT_CODE,
        ),
        audit=worker.audit,
        clock=worker.clock,
    )
    return [watch]


def _asker(settings: Settings, deployment: Deployment, clock: Clock) -> Callable[[], Finding]:
    """What tells of the firewall: the file that root writes, or nft itself."""
    if settings.firewall_state:
        path = Path(settings.firewall_state)
        return lambda: read_state(path, now=clock.now())
    servers, nft = servers_of(deployment), Nft()
    return lambda: judge(lambda: make_plan(settings, servers, role=settings.firewall_role), nft)
