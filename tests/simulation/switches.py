"""The parts of the worker and the store that a simulation can switch off, to see that it notices."""

from __future__ import annotations

import enum


class Off(enum.Enum):
    """What is switched off."""

    NOTHING = "nothing"
    FENCING = "fencing"
    """Whoever names a message may end it, whatever the attempt."""
    RENEWAL = "renewal"
    """Leases are not renewed, and nobody notices."""
    TRUST_WINDOW = "trust-window"
    """A claim is carried out however late it came."""
    REPLAY_GUARD = "replay-guard"
    """A copy of a message that was carried out is carried out, too."""
    CRASH_LIMIT = "crash-limit"
    """A task may take down as many processes as it likes."""
    TAKING_BACK = "taking-back"
    """Nobody looks for leases that are over."""
    CLOCK_OF_STORE = "clock-of-store"
    """Leases are over when the wall clock of whoever looks says so."""
    IDEMPOTENCE = "idempotence"
    """A second send with an id is another message."""
    LATE_ACKNOWLEDGEMENT = "late-acknowledgement"
    """Tasks are acknowledged before they run."""
