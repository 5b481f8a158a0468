"""All attacks: the modules that enter them, in the order in which they are tried."""

from __future__ import annotations

from attacks import on_forging
from attacks.matrix import ATTACKS, Attack

MODULES = (on_forging,)
"""Which have entered their attacks by being imported."""


def all_attacks() -> list[Attack]:
    """In order: those that may break something come last."""
    found = list(ATTACKS.values())
    return sorted(found, key=lambda one: one.alone)
