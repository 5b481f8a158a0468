"""Times as people say them: a moment in UTC, and how far away it is."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"))
_MAX_SECONDS = 253_402_300_799
"""The end of the year 9999, behind which `datetime` has no dates."""


def moment(seconds: float) -> str:
    """A time in seconds since the epoch, to the second."""
    if not 0 <= seconds <= _MAX_SECONDS:
        return f"{seconds:.0f} seconds since 1970"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """How long something takes, in the largest unit of which it is more than one."""
    size = round(abs(seconds))
    for length, unit in _UNITS:
        # 90 minutes say more than 1 hour, and 90 seconds more than 1 minute.
        if size >= 2 * length:
            return f"{size / length:.0f} {unit}s"
    return f"{size} second{'' if size == 1 else 's'}"


def distance(seconds: float, now: float) -> str:
    """A time, and how far that is from now."""
    ahead = seconds - now
    far = f"in {duration(ahead)}" if ahead > 0 else f"{duration(ahead)} ago"
    return f"{moment(seconds)} ({far})"
