"""Recording: few, small, named, signed records that outlive whoever wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from cardoon.exceptions import ImproperlyConfigured

MAX_FRAME_BYTES = 64 * 1024
"""The longest frame of a record."""

MAX_NAME_BYTES = 200
"""The longest name of a record, in UTF-8."""

MAX_RECORDS = 10_000
"""So many records of a kind there may be."""

_KIND = re.compile(r"[a-z0-9.-]{1,32}")


class Record(NamedTuple):
    """What lies under a name."""

    revision: int
    """1 for a record that was made and never written again."""
    frame: bytes


@runtime_checkable
class Recording(Protocol):
    """A broker or result backend that keeps few, small, named, signed records, with compare-and-set.

    What was written is durable when the call returns. A record that is dropped is forgotten with its
    revision: one that is made under its name afterwards begins with 1 again, so frames that must not be
    mistaken for each other have something in them that tells them apart.
    """

    def records(self, kind: str) -> Mapping[str, Record]:
        """All records of a kind, by name."""
        ...

    def put_record(self, kind: str, name: str, frame: bytes, *, revision: int) -> bool:
        """Write if the record's revision is still `revision`, 0 if it must not exist yet.

        Returns whether it was written; the new revision is one higher. Of several that name the same
        one, one is written. Raises `ImproperlyConfigured` for what `check_record` refuses, and where
        there would be more than `MAX_RECORDS`.
        """
        ...

    def drop_record(self, kind: str, name: str, *, revision: int) -> bool:
        """Delete the record if its revision is still this one; whether it was deleted.

        Where the store's answer was lost on the way, so it says too of one that is gone by then.
        """
        ...


def recording_of(broker: object, backend: object = None) -> Recording:
    """The broker if it keeps records, or the result backend; else `ImproperlyConfigured`."""
    for store in (broker, backend):
        if isinstance(store, Recording):
            return store
    beside = "" if backend is None else f", and neither does {type(backend).__name__}"
    raise ImproperlyConfigured(
        f"broker_url: {type(broker).__name__} keeps no records{beside}; use sqlite, redis, "
        "postgresql, or amqp with one of these as its store"
    )


def check_kind(kind: str) -> None:
    """`ImproperlyConfigured` for what is no kind of records."""
    if not _KIND.fullmatch(kind):
        raise ImproperlyConfigured(
            f"records of kind {kind[:40]!r}: a kind is 1 to 32 of the characters a-z, 0-9, '.' and "
            "'-'; choose another"
        )


def check_record(kind: str, name: str, frame: bytes = b"", *, revision: int) -> None:
    """`ImproperlyConfigured` for a record that cannot be kept, or named, before anything is."""
    check_kind(kind)
    if not name.isprintable() or not 1 <= len(name.encode(errors="replace")) <= MAX_NAME_BYTES:
        raise ImproperlyConfigured(
            f"{kind} record {name[:80]!r}: a name is 1 to {MAX_NAME_BYTES} bytes of printable text; "
            "choose another"
        )
    if len(frame) > MAX_FRAME_BYTES:
        raise ImproperlyConfigured(
            f"{kind} record {name!r}: its {len(frame)} bytes are more than the {MAX_FRAME_BYTES} "
            "that a record may have; store less in it"
        )
    if revision < 0:
        raise ImproperlyConfigured(
            f"{kind} record {name!r}: revision is {revision}; it must be 0 or more"
        )


def check_room(kind: str, name: str, count: int) -> None:
    """`ImproperlyConfigured` where one more record would be too many."""
    if count >= MAX_RECORDS:
        raise ImproperlyConfigured(
            f"{kind} record {name!r}: there are {MAX_RECORDS} records of this kind already, the most "
            "there may be; drop some first"
        )
