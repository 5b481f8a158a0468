"""What of the settings weakens a worker: said at its start, to people and to the audit trail."""

from __future__ import annotations

from cardoon.config import Settings
from cardoon.contents import find_content, is_pickle


def unpickles(settings: Settings) -> bool:
    """Whether arguments of tasks may be pickles."""
    return any(is_pickle(find_content(one).media_type) for one in settings.accept_content)


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
    return found
