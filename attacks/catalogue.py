"""All attacks: the modules that enter them, in the order in which they are tried."""

from __future__ import annotations

from attacks import (
    on_certificates,
    on_chords,
    on_claims,
    on_commands,
    on_floods,
    on_forging,
    on_insiders,
    on_replays,
    on_results,
    on_stores,
)
from attacks.matrix import ATTACKS, Attack

MODULES = (
    on_forging,
    on_claims,
    on_certificates,
    on_insiders,
    on_replays,
    on_results,
    on_chords,
    on_commands,
    on_stores,
    on_floods,
)
"""Which have entered their attacks by being imported."""


def all_attacks() -> list[Attack]:
    """In order: those that may break something come last."""
    found = list(ATTACKS.values())
    return sorted(found, key=lambda one: one.alone)
