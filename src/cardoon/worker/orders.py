"""What a worker is told by control messages: which of them it may carry out, and how often.

Whoever can write the store can show a command again, for as long as it is valid: to a worker that has
carried it out, and to one that was started since. Standing commands may be heard again, for that changes
nothing. Any other is for the moment: it must have been signed since the worker began, is valid for five
minutes at most, and is carried out once.
"""

from __future__ import annotations

import fnmatch

from cardoon.clock import Clock
from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.headers import parse_headers
from cardoon.message.protocol import EVERY_WORKER, STANDING_COMMANDS, Kind
from cardoon.security.gate import Gate, VerifiedMessage
from cardoon.security.replay import Nonce

MAX_REMEMBERED = 1000
"""Commands for the moment, of one signer; each is remembered for as long as it is valid."""
MAX_PATTERN = 256
"""Characters of the pattern that a worker's name must fit."""
MAX_SIGNERS = 100
"""Whose commands are remembered at a time; there are few operators."""


class Orders:
    """Opens control messages. For one thread.

    `worker` is what this one is called in the audience of a message.
    """

    def __init__(self, gate: Gate, *, clock: Clock, worker: str) -> None:
        self._gate = gate
        self._clock = clock
        self._worker = worker
        self._audience = frozenset({EVERY_WORKER, worker})
        self._since = clock.now() - gate.skew
        self._done: dict[bytes, set[Nonce]] = {}

    def open(self, frame: bytes) -> VerifiedMessage:
        """A command that is to be carried out; `RefusedError` for any other."""
        message = self._gate.open(frame, kind=Kind.CONTROL, audience=self._audience)
        check_pattern(message, self._worker)
        if message.claims.task not in STANDING_COMMANDS:
            self._check_moment(message)
        return message

    def is_new(self, message: VerifiedMessage) -> bool:
        """Whether a standing command is heard for the first time, and was given since this worker began."""
        try:
            self._check_moment(message)
        except RefusedError:
            return False
        return True

    def check(self, message: VerifiedMessage, command: str) -> None:
        """`RefusedError` unless its signer may give `command` as well, which is what it comes to."""
        self._gate.check_command(message, command)

    def _check_moment(self, message: VerifiedMessage) -> None:
        if message.claims.issued_at < self._since:
            raise RefusedError(Refusal.EXPIRED, "it was signed before this worker was started")
        done = self._done_of(b"" if message.signer is None else message.signer.fingerprint)
        if message.nonce in done:
            raise RefusedError(Refusal.REPLAYED, "this worker has carried it out before")
        if len(done) >= MAX_REMEMBERED:
            raise RefusedError(
                Refusal.REPLAYED,
                f"its signer gave {MAX_REMEMBERED} commands within minutes, so that no more can be told "
                "from copies",
            )
        done.add(message.nonce)

    def _done_of(self, signer: bytes) -> set[Nonce]:
        """What a signer had carried out, without what the gate refuses by its age by now."""
        now = self._clock.now()
        fresh = {
            who: {one for one in done if one.expires_at > now} for who, done in self._done.items()
        }
        self._done = {who: done for who, done in fresh.items() if done}
        if signer not in self._done and len(self._done) >= MAX_SIGNERS:
            raise RefusedError(
                Refusal.REPLAYED, f"{MAX_SIGNERS} signers gave commands within minutes"
            )
        return self._done.setdefault(signer, set())


def wants_reply(message: VerifiedMessage) -> bool:
    """Whether somebody waits for an answer, on the channel that the message's id names."""
    return parse_headers(message.claims.headers).get("reply") is True


def check_pattern(message: VerifiedMessage, worker: str) -> None:
    """`RefusedError` for a command that names a pattern which the worker's name does not fit."""
    pattern = parse_headers(message.claims.headers).get("pattern", "*")
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        raise RefusedError(Refusal.BAD_CLAIMS, "its pattern is no short text")
    if not fnmatch.fnmatchcase(worker, pattern):
        raise RefusedError(Refusal.WRONG_AUDIENCE, f"meant for {pattern}")
