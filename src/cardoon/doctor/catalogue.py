"""All checks, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cardoon.doctor import (
    accounts,
    brokers,
    code,
    configuration,
    control,
    keys,
    logs,
    messages,
    network,
    process,
)
from cardoon.doctor.check import GROUPS, Check
from cardoon.exceptions import ImproperlyConfigured

CATALOGUE: Sequence[Check] = (
    *brokers.CHECKS,
    *accounts.CHECKS,
    *messages.CHECKS,
    *keys.CHECKS,
    *code.CHECKS,
    *process.CHECKS,
    *network.CHECKS,
    *logs.CHECKS,
    *control.CHECKS,
    *configuration.CHECKS,
)
BY_ID = {one.id: one for one in CATALOGUE}
GROUP_NAMES = tuple(dict.fromkeys(GROUPS.values()))


def select(
    *, groups: Collection[str] = (), ids: Collection[str] = (), deploy: bool = False
) -> list[Check]:
    """The checks of some groups, or those of some ids; those of hosts that serve only if they are meant.

    Raises `ImproperlyConfigured` for an id that no check has.
    """
    for one in ids:
        require(one)
    return [
        one
        for one in CATALOGUE
        if (one.id in ids if ids else (deploy or not one.deploy))
        and (not groups or one.group in groups)
    ]


def require(id: str) -> Check:
    """The check of an id; `ImproperlyConfigured` for none."""
    if id not in BY_ID:
        raise ImproperlyConfigured(f"no check has the id {id!r}; see docs/doctor.md")
    return BY_ID[id]
