"""Counts the sessions that signers begin: each costs the replay store memory, whatever it is used for.

A session has 8,192 messages and lasts ten minutes, so an honest process begins six an hour, and one more
for every 8,192 messages. A signer that begins one with every message makes the store keep 1 KiB for each.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque

from cardoon.clock import Clock
from cardoon.exceptions import Refusal, RefusedError

WINDOW_SECONDS = 3600.0
MAX_SIGNERS = 4096
"""Signers that are counted at a time; whoever was heard of first is forgotten."""


class _Begun:
    """The sessions of one signer within the window, and when each was seen first, in order."""

    __slots__ = ("known", "since")

    def __init__(self) -> None:
        self.known: set[bytes] = set()
        self.since: deque[tuple[float, bytes]] = deque()


class SessionMeter:
    """The sessions of the last hour, for each signer. Counts what this process has seen.

    Takes some 250 bytes for each session, of which a signer has no more than its limit. Safe from several
    threads without a lock: the worst that two at once do is to count one session twice.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._begun: OrderedDict[bytes, _Begun] = OrderedDict()

    def check(self, signer: bytes, session: bytes, limit: int) -> None:
        """Raise `RefusedError` for a session that is one more than `limit` within an hour."""
        begun = self._begun.get(signer)
        if begun is None:
            begun = self._add(signer)
        if session in begun.known:
            return
        now = self._clock.monotonic()
        with contextlib.suppress(IndexError):  # another thread took the last one
            while begun.since and now - begun.since[0][0] >= WINDOW_SECONDS:
                begun.known.discard(begun.since.popleft()[1])
        if len(begun.known) >= limit:
            raise RefusedError(
                Refusal.TOO_MANY_SESSIONS,
                f"its signer began {limit} sessions within the hour, all that max_sessions allows",
            )
        begun.known.add(session)
        begun.since.append((now, session))

    def _add(self, signer: bytes) -> _Begun:
        with contextlib.suppress(KeyError):
            while len(self._begun) >= MAX_SIGNERS:
                self._begun.popitem(last=False)
        return self._begun.setdefault(signer, _Begun())
