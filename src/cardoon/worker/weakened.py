"""What of the settings weakens a worker: said at its start, to people and to the audit trail."""

from __future__ import annotations

import logging

from cardoon.audit import AuditLog
from cardoon.config import Settings
from cardoon.contents import find_content, is_pickle

logger = logging.getLogger(__name__)


def unpickles(settings: Settings) -> bool:
    """Whether arguments of tasks may be pickles."""
    return any(is_pickle(find_content(one).media_type) for one in settings.accept_content)


def note_unsafe(settings: Settings, *, audit: AuditLog, worker: str) -> None:
    """Say what weakens a worker, to people and to the audit trail."""
    for name, what in find_unsafe(settings).items():
        logger.warning("%s: %s", name, what)
        audit.record("config.unsafe", setting=name, worker=worker)


def find_unsafe(settings: Settings) -> dict[str, str]:
    """The settings that are on, each with what it gives up."""
    found = {}
    if unpickles(settings):
        found["unsafe_allow_pickle"] = (
            "whoever may sign tasks can run any code in this worker's processes"
        )
    if settings.unsafe_allow_plaintext_broker:
        found["unsafe_allow_plaintext_broker"] = (
            "who is on the way to the broker can read tasks and passwords"
        )
    if settings.unsafe_allow_unverified_tls:
        found["unsafe_allow_unverified_tls"] = "whoever is on the way can be the server"
    if settings.unsafe_allow_eviction:
        found["unsafe_allow_eviction"] = (
            "a full Redis server may delete tasks, and forget which ones have run"
        )
    if settings.unsafe_allow_open_metrics and settings.worker_metrics_address:
        found["unsafe_allow_open_metrics"] = (
            "whoever reaches worker_metrics_address can read task names and counts"
        )
    if settings.unsafe_allow_plaintext_syslog and settings.syslog_address:
        found["unsafe_allow_plaintext_syslog"] = (
            "who is on the way to a syslog server can read and forge what it is told"
        )
    if settings.unsafe_sandbox_best_effort:
        found["unsafe_sandbox_best_effort"] = "tasks may reach more than their sandboxes say"
    return found
