"""Posting: short-lived frames on named channels, such as answers to commands, and events."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from cardoon.exceptions import ImproperlyConfigured

EVENTS = "events"
"""The channel of all that workers tell, and of what clients tell of their sends."""

MAX_FRAME_BYTES = 256 * 1024
"""The longest frame that may be posted."""

MAX_KEEP = 100_000
"""So many frames a channel may keep at most."""

MAX_POSTED_AT_ONCE = 1000
"""What one call of `post` takes, and one of `posted` returns, however many are asked for."""

MAX_BYTES_AT_ONCE = 16 * 2**20
"""One call of `posted` returns no more than this, but for a first frame."""

MAX_LIFE_SECONDS = 86_400.0
"""No frame is kept for longer, whatever `expires_at` says."""

REMEMBERED_SECONDS = 3600.0
"""How long after its last frame has expired a channel still knows its numbers."""

_CHANNEL = re.compile(r"[a-z0-9.-]{1,64}")


@runtime_checkable
class Posting(Protocol):
    """A broker that carries short-lived frames on named channels: opaque bytes, lost without harm.

    The frames of a channel are numbered from 1, without gaps. A channel is there as soon as something is
    posted on it, and is forgotten `REMEMBERED_SECONDS` after its last frame has expired; then it begins
    with 1 again. What is posted need not survive the store's crash, and may be there twice where the
    store's answer was lost on the way.
    """

    def post(self, channel: str, frames: Sequence[bytes], *, expires_at: float, keep: int) -> None:
        """Append frames, all or none. The channel keeps the newest `keep` of all that it has.

        None of these is kept longer than until `expires_at`, in seconds since the epoch, or for
        `MAX_LIFE_SECONDS`. Raises `ImproperlyConfigured` for what `check_post` refuses.
        """
        ...

    def posted(
        self, channel: str, after: int, *, limit: int, timeout: float
    ) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order, at most `limit`, each with its number.

        Fewer where those would be more than `MAX_POSTED_AT_ONCE` or `MAX_BYTES_AT_ONCE`.

        Waits up to `timeout` seconds for the first. A gap in the numbers means that frames were dropped.
        Where `after` is higher than any number that the channel knows, it has begun anew: then it is
        read from its beginning.
        """
        ...

    def position(self, channel: str) -> int:
        """The number of the newest frame so far, 0 for none: where one begins who wants what comes."""
        ...


def posting_of(broker: object) -> Posting:
    """The broker, if it can post; else `ImproperlyConfigured` with what to use."""
    if isinstance(broker, Posting):
        return broker
    raise ImproperlyConfigured(
        f"broker_url: {type(broker).__name__} carries no events and no answers to commands; use "
        "sqlite, redis, postgresql, or amqp with one of these as its store"
    )


def check_channel(channel: str) -> None:
    """`ImproperlyConfigured` for what is no channel's name."""
    if not _CHANNEL.fullmatch(channel):
        raise ImproperlyConfigured(
            f"channel {channel[:80]!r}: a channel's name is 1 to 64 of the characters a-z, 0-9, "
            "'.' and '-'; choose another"
        )


def check_post(channel: str, frames: Sequence[bytes], *, expires_at: float, keep: int) -> None:
    """`ImproperlyConfigured` for what may not be posted, before anything is."""
    check_channel(channel)
    if not math.isfinite(expires_at):
        raise ImproperlyConfigured(
            f"channel {channel!r}: expires_at is {expires_at!r}, which is no time; give seconds "
            "since the epoch"
        )
    if not 1 <= keep <= MAX_KEEP:
        raise ImproperlyConfigured(
            f"channel {channel!r}: keep is {keep!r}; it must be 1 to {MAX_KEEP}"
        )
    if len(frames) > MAX_POSTED_AT_ONCE:
        raise ImproperlyConfigured(
            f"channel {channel!r}: {len(frames)} frames at once; post at most {MAX_POSTED_AT_ONCE}"
        )
    longest = max(map(len, frames), default=0)
    if longest > MAX_FRAME_BYTES:
        raise ImproperlyConfigured(
            f"channel {channel!r}: a frame of {longest} bytes; the longest that may be posted has "
            f"{MAX_FRAME_BYTES}, so post less, or in parts"
        )


def check_reading(channel: str, *, limit: int) -> int:
    """How many frames one call returns at most; `ImproperlyConfigured` for what cannot be read."""
    check_channel(channel)
    if limit < 1:
        raise ImproperlyConfigured(f"channel {channel!r}: limit is {limit!r}; it must be 1 or more")
    return min(limit, MAX_POSTED_AT_ONCE)
