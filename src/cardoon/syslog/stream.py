"""The stream: all messages of one run of a process, numbered, and given to every server."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
from collections.abc import Callable
from typing import Protocol

from cardoon.clock import Clock
from cardoon.syslog.intake import Gap
from cardoon.syslog.messages import (
    MAX_BYTES,
    Entry,
    Frame,
    Origin,
    Severity,
    Writer,
    pack,
    write_plain,
)

GAP_EVENT = "audit.gap"


class Exit(Protocol):
    """Where frames leave: a sender, or what stands in for it."""

    def put(self, frame: Frame) -> None:
        """Take a frame, without waiting."""
        ...


def make_stream_id() -> str:
    """An id that no other run of any process has."""
    return secrets.token_hex(8)


class Stream:
    """Numbers messages and packs them. For any thread; in a process that was forked, it begins anew."""

    def __init__(
        self,
        *,
        clock: Clock,
        enterprise: int,
        facility: int,
        write: Writer = write_plain,
        make_id: Callable[[], str] = make_stream_id,
    ) -> None:
        self._clock = clock
        self._enterprise = enterprise
        self._facility = facility
        self._write = write
        self._make_id = make_id
        self._exits: list[tuple[Exit, int]] = []
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._numbers = itertools.count(1)
        self._origin = Origin(
            host=socket.gethostname(),
            pid=self._pid,
            stream=self._make_id(),
            enterprise=self._enterprise,
        )

    @property
    def id(self) -> str:
        """Of this run of this process."""
        self._check_pid()
        return self._origin.stream

    def lead_to(self, exit_: Exit, *, most_bytes: int = MAX_BYTES) -> None:
        """Give each message from now on to this exit, too, in at most so many bytes."""
        self._exits.append((exit_, most_bytes))

    def tell(self, entry: Entry) -> None:
        """Number a message, and have it sent to every server."""
        self._check_pid()
        number = next(self._numbers)
        packed: dict[int, Frame] = {}
        for exit_, most in self._exits:
            if most not in packed:
                packed[most] = self._pack(entry, number, most)
            exit_.put(packed[most])

    def make_gap(self, gap: Gap) -> Frame:
        """A message that others are missing, for the server that does not get them."""
        entry = Entry(
            event=GAP_EVENT,
            severity=Severity.ALERT,
            facility=self._facility,
            moment=self._clock.now(),
            text=f"{gap.count} messages had no room and are lost",
            fields={"count": gap.count, "first_seq": gap.first, "last_seq": gap.last},
            is_security=True,
        )
        self._check_pid()
        number = next(self._numbers)
        return self._pack(entry, number, min((most for _, most in self._exits), default=MAX_BYTES))

    def _pack(self, entry: Entry, number: int, most: int) -> Frame:
        octets = pack(entry, self._origin, number, write=self._write, most=most)
        return Frame(number, entry.is_security, octets)

    def _check_pid(self) -> None:
        if os.getpid() != self._pid:
            self._begin_anew()
