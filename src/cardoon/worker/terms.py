"""The terms of a message, as they were signed: from when, until when and for how long it may run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from cardoon.message.protocol import Claims
from cardoon.worker.held import Held
from cardoon.worker.inputs import Inputs

_MOST_SECONDS = 366 * 86400.0
"""A year: more is no limit and no delay."""


def time_left(
    claims: Claims, headers: Mapping[str, Any], inputs: Inputs | None, now: float
) -> float:
    """Seconds until it may run, by what was signed."""
    left = 0.0 if claims.eta is None else claims.eta / 1000 - now
    if inputs is not None and inputs.can_run:
        left = max(left, inputs.ended_at + _after(headers, "delay", 0.0) - now)
    return left


def expiry(held: Held) -> float:
    """When it is too late to begin; seconds since the epoch."""
    expires = held.message.claims.expires
    moment = float("inf") if expires is None else expires / 1000
    if held.inputs is not None:
        moment = min(moment, held.inputs.ended_at + _after(held.headers, "expires", float("inf")))
    return moment


def limits(held: Held) -> tuple[float | None, float | None]:
    """Hard and soft limit: the message's own, or else the task's."""
    match held.headers.get("timelimit"):
        case [hard, soft]:
            pass
        case _:
            hard = soft = None
    return (
        hard if _is_seconds(hard) else held.rules.time_limit,
        soft if _is_seconds(soft) else held.rules.soft_time_limit,
    )


def _after(headers: Mapping[str, Any], name: str, otherwise: float) -> float:
    """Seconds that count from the end of what a task waited for."""
    told = headers.get("after")
    value = told.get(name) if isinstance(told, dict) else None
    return value if _is_seconds(value) else otherwise


def _is_seconds(value: object) -> TypeGuard[float]:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 < value <= _MOST_SECONDS
