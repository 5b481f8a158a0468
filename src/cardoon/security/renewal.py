"""Our own identity while we run: key and certificate may be replaced under us.

Short-lived certificates are the point of SPIFFE and of cert-manager, and whoever renews them writes
two files one after the other. So the files are looked at every few seconds, with the next signature,
and what they hold is taken when it is a pair that can sign now. Until then the last one goes on.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from cardoon.clock import Clock
from cardoon.exceptions import CardoonError, IdentityError, OperationalError
from cardoon.security import files
from cardoon.security.identity import Identity, PrivateIdentity
from cardoon.security.signing import SIGN_SECONDS, Draft, MessageSigner, Signed

POLL_SECONDS = 5.0
"""The longest for which a change goes unnoticed, as with the certificates of others."""
URGENT_SECONDS = 1.0
"""Between looks while something is amiss: the pair does not fit, or ours has run out."""


class IdentityEvent(enum.StrEnum):
    """What an operator should hear of our identity."""

    RELOADED = "reloaded"
    """The files have changed, and we sign as what they say from now on."""
    RELOAD_REFUSED = "reload_refused"
    """The files have changed to what cannot sign; the identity of before goes on."""


OnEvent: TypeAlias = Callable[[IdentityEvent, str], None]


class OwnIdentity:
    """The identity to sign as. Safe from several threads, and after a fork.

    `load` reads it and raises what there is to say against it; `paths` are the files that it reads. The
    first load raises; later ones are told to `on_event`, refusals when a second look finds them again,
    because between two renames every pair is a wrong one.
    """

    def __init__(
        self,
        load: Callable[[], PrivateIdentity],
        paths: Sequence[Path],
        *,
        clock: Clock,
        on_event: OnEvent,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._load = load
        self._paths = tuple(paths)
        self._clock = clock
        self._on_event = on_event
        self._poll_seconds = poll_seconds
        self._refused = ""
        self._told = ""
        # The stamp comes first: what changes while we read is then read again.
        self._stamp: tuple[tuple[int, ...], ...] | None = self._look_at_files()
        self._held = load()
        now = clock.monotonic()
        self._next_look, self._next_urgent_look = now + poll_seconds, now

    def current(self) -> PrivateIdentity:
        """Who we are at this moment. Never raises; that it has run out is for the signer to say."""
        monotonic = self._clock.monotonic()
        if monotonic >= self._next_look or (
            monotonic >= self._next_urgent_look and not self._is_valid(self._held.identity)
        ):
            self._look(monotonic)
        return self._held

    def doubt(self) -> None:
        """Something that signs for us could not: have the files looked at before long."""
        self._next_look = min(self._next_look, self._next_urgent_look)

    def _look(self, monotonic: float) -> None:
        """Read the files again if they have changed, or were refused when they last had."""
        self._next_look = monotonic + self._poll_seconds
        self._next_urgent_look = monotonic + URGENT_SECONDS
        stamp = self._look_at_files()
        if stamp == self._stamp:
            return
        try:
            found = self._load()
            if not self._is_valid(found.identity):
                raise IdentityError(f"{found.identity!r}: not valid now; issue one that is")
        except CardoonError as error:
            self._stamp = None  # a look without change must not settle it
            self._next_look = self._next_urgent_look
            self._refuse(str(error))
            return
        self._stamp = stamp
        self._refused = self._told = ""
        before = self._held
        if (found.certificate, found.chain) != (before.certificate, before.chain):
            self._held = found
            self._on_event(
                IdentityEvent.RELOADED, f"{found.identity!r} in place of {before.identity!r}"
            )

    def _refuse(self, why: str) -> None:
        if why == self._refused != self._told:
            self._told = why
            self._on_event(IdentityEvent.RELOAD_REFUSED, why)
        self._refused = why

    def _is_valid(self, identity: Identity) -> bool:
        return identity.not_before <= self._clock.now() <= identity.not_after

    def _look_at_files(self) -> tuple[tuple[int, ...], ...]:
        return tuple(files.stamp_of(path) for path in self._paths)


class _Made(NamedTuple):
    private: PrivateIdentity
    signer: MessageSigner


class RenewingSigner:
    """Signs as whoever we are at the moment: a new identity begins with a session of its own.

    `make` builds what signs as one identity. Safe from several threads, and after a fork.
    """

    def __init__(self, own: OwnIdentity, make: Callable[[PrivateIdentity], MessageSigner]) -> None:
        self._own = own
        self._make = make
        private = own.current()
        self._made = _Made(private, make(private))

    @property
    def identity(self) -> Identity | None:
        """Who signs now."""
        return self._find().identity

    def sign(self, drafts: Sequence[Draft], *, timeout: float = SIGN_SECONDS) -> list[Signed]:
        """Sign as who we are now; see `Signer.sign`."""
        try:
            return self._find().sign(drafts, timeout=timeout)
        except (OperationalError, IdentityError):
            # The key may have been replaced where it lies, a moment before our files are.
            self._own.doubt()
            raise

    def _find(self) -> MessageSigner:
        private = self._own.current()
        made = self._made
        if made.private is not private:
            # In one step, so that no thread signs as one and names the other.
            self._made = made = _Made(private, self._make(private))
        return made.signer
