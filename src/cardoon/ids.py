"""Task ids: UUIDs of version 7, which sort by the time they were made.

A store that indexes by id writes neighbours together: with random ids, a million waiting messages make
a bulk send five times as expensive.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from cardoon.clock import Clock

_RANDOM_BYTES = 10
_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_KEEP = ~(0xF << 76 | 0b11 << 62)


def make_id(clock: Clock, random: Callable[[int], bytes] = os.urandom) -> str:
    """A new id (RFC 9562, 5.7): 48 bits of milliseconds, 74 random ones, so nobody can guess it."""
    value = int(clock.now() * 1000) << 80 | int.from_bytes(random(_RANDOM_BYTES))
    text = f"{value & _KEEP | _VERSION | _VARIANT:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
