"""What a tick is called: the same by every beat, so that of its copies one is carried out.

A tick is an entry and the moment at which it was due. From these, and from nothing else, come the id of its
task and the nonce of its message.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cardoon.broker import Unique
from cardoon.message.protocol import MAX_SEQUENCE, SESSION_BYTES
from cardoon.sender import Tick

_NAMESPACE = uuid.UUID("7c4ad0f6-5f3b-5d0e-9d0c-6b1f4a6e2c55")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNITS = (60_000_000, 1_000_000, 1_000, 1)
"""Microseconds. Ticks are counted in the largest of them that they are whole numbers of, so that those of one
entry share sessions, each of which costs the replay store memory."""
CLOCKS_SECONDS = 60.0
"""How far the clocks of beats may be apart."""


class Name(NamedTuple):
    """A tick, by name."""

    domain: str
    """The security domain, since several may share a store."""
    task: str
    entry: str
    due: datetime

    @property
    def task_id(self) -> str:
        """The id of its task."""
        return str(uuid.uuid5(_NAMESPACE, "\0".join((*self[:3], str(microseconds(self.due))))))

    @property
    def entry_id(self) -> str:
        """What its entry is called where any text may not be."""
        return str(uuid.uuid5(_NAMESPACE, "\0".join(self[:3])))

    def id_of_part(self, number: int) -> str:
        """The id of a task that is called when the tick's own has ended."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.task_id}\0{number}"))


def note_name(domain: str, task: str, entry: str, timing: str) -> str:
    """What the note of how far an entry was sent is called; another one when it is due at other times."""
    return str(uuid.uuid5(_NAMESPACE, f"note\0{domain}\0{task}\0{entry}\0{timing}"))


def make_tick(
    name: Name, *, now: float, age: float, window: float, part: int = 0, unique: bool = True
) -> Tick:
    """What is signed of a tick, or of a task that is called behind it.

    `window` is for how many seconds after it was due it may be sent, and `age` for how many more its message
    may be acted on. So no message of a tick is valid when workers have forgotten that it was carried out.
    With `unique` the store turns copies away, too, until nobody sends any.
    """
    due = microseconds(name.due)
    unit = next(one for one in _UNITS if due % one == 0)
    session, sequence = divmod(due // unit, MAX_SEQUENCE)
    told = "\0".join(("cardoon/1/beat", *name[:3], str(part), str(unit), str(session)))
    last_sent = name.due.timestamp() + window + CLOCKS_SECONDS
    return Tick(
        hashlib.sha256(told.encode()).digest()[:SESSION_BYTES],
        sequence,
        last_sent + age,
        Unique(f"tick/{name.task_id}", max(1.0, last_sent - now)) if unique else None,
    )


def microseconds(moment: datetime) -> int:
    """Since the epoch, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """The moment, in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)
