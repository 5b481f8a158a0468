"""Who may do what. The gate asks for every message, after it knows who signed."""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol

from cardoon.security.identity import Identity
from cardoon.security.origins import Parties


class Action(enum.StrEnum):
    """What a signer does by sending a message."""

    SEND = "send"
    """Have a task run."""
    RESULT = "result"
    """Say how a task went."""
    EVENT = "event"
    CONTROL = "control"
    """Command a worker."""
    REPLY = "reply"
    """Answer a command."""
    KEYS = "keys"
    """Say to which keys everybody seals."""
    SCHEDULE = "schedule"
    """Say when a task is to be sent, and how far it was."""


class Request(NamedTuple):
    """What a policy decides about."""

    action: Action
    signer: Identity | None
    """None for a message that is not signed, where those are accepted at all."""
    task: str
    """The name of the task, of the command or of the keyset."""
    queue: str
    """Where the message came from; empty where there are no queues."""
    length: int = 0
    """Of its body as carried, in bytes."""
    ahead: float = 0.0
    """Seconds between its signature and when it is to be run."""
    headers: bytes = b""
    """As signed: what it says of its origin, and of the task that it maps."""
    session: bytes = b""
    """Of its nonce; empty where nothing remembers that."""
    encrypted: bool = False


class Policy(Protocol):
    """Decides on requests."""

    def check(self, request: Request) -> Parties | None:
        """Raise `RefusedError(DENIED)` unless the request is allowed.

        Returns on whose behalf it is asked; None where nobody keeps account of that.
        """
        ...


class AllowTrusted:
    """Allows everything to everybody whom the gate lets in, as Celery does."""

    def check(self, request: Request) -> None:
        """Allow it."""
