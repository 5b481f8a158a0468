"""Syslog as settings describe it: its servers, what goes there, and how it begins and ends."""

from __future__ import annotations

import atexit
import contextlib
import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cardoon.audit import AuditLog
from cardoon.clock import Clock
from cardoon.config import Settings, follow
from cardoon.endpoints import Tls
from cardoon.exceptions import ImproperlyConfigured
from cardoon.log import LEVELS, TASK_LOGGER
from cardoon.syslog.backlog import Backlog, MemoryBacklog
from cardoon.syslog.catalogue import find_event
from cardoon.syslog.folding import Folding
from cardoon.syslog.formats import writer_of
from cardoon.syslog.handler import LOG_EVENT, SyslogHandler, severity_of
from cardoon.syslog.links import DatagramLink, Link, StreamLink, Wait
from cardoon.syslog.messages import MAX_BYTES, MAX_DATAGRAM_BYTES, Entry
from cardoon.syslog.sender import Route, Sender
from cardoon.syslog.spool import SpoolBacklog, make_folder
from cardoon.syslog.stream import Stream
from cardoon.syslog_target import FACILITIES, Target, parse_target

FLUSH_SECONDS = 5.0
"""At the end, for what is still here; a server that is away must not keep a process from ending."""
TEST_EVENT = "syslog.test"
_NOT_FIELDS = frozenset({"time", "event"})


class Trial(NamedTuple):
    """What became of a test of one server."""

    server: str
    failure: str
    is_one_way: bool
    """Whether nobody can say that it came."""


class Syslog:
    """Sends audit records, and what is logged, to every server of `syslog_address`.

    Raises `ImproperlyConfigured` where the settings cannot be; that a server is away is no error.
    """

    def __init__(self, settings: Settings, *, clock: Clock, worker: str = "") -> None:
        """`worker` is the name that stands in what is logged, if it is one that logs."""
        self._origin = {"worker": worker} if worker else {}
        self._settings = settings
        self._clock = clock
        self._facility = FACILITIES[settings.syslog_security_facility]
        self._stream = Stream(
            clock=clock,
            enterprise=settings.syslog_enterprise_number,
            facility=self._facility,
            write=writer_of(settings.syslog_format),
        )
        self._folding = Folding(
            self._stream.tell, clock=clock, seconds=settings.syslog_fold_seconds
        )
        self._handler: SyslogHandler | None = None
        self.senders = tuple(
            self._make_sender(parse_target(one)) for one in settings.syslog_address
        )

    def start(self, audit: AuditLog) -> None:
        """Send from now on what is recorded there, and what is logged in this process."""
        if not self.senders:
            return
        settings = self._settings
        self._handler = SyslogHandler(
            self._stream.tell,
            facility=FACILITIES[settings.syslog_facility],
            level=LEVELS[settings.syslog_level],
            origin=self._origin,
        )
        for one in _own_loggers():
            one.addHandler(self._handler)
        audit.follow(self.take)
        atexit.register(self.close)
        for sender in self.senders:
            sender.start()

    def take(self, record: Mapping[str, object]) -> None:
        """Send an audit record, or count it if it repeats another. Neither waits nor raises."""
        name = str(record["event"])
        event = find_event(name)
        self._folding.take(
            Entry(
                event=name,
                severity=event.severity,
                facility=self._facility,
                moment=datetime.fromisoformat(str(record["time"])).timestamp(),
                text=event.title,
                fields={key: told for key, told in record.items() if key not in _NOT_FIELDS},
                is_security=True,
            )
        )

    def tell_of_task(self, level: int, text: str, fields: Mapping[str, object]) -> None:
        """Send what a task process has logged, at a level of `logging`. Neither waits nor raises."""
        self._stream.tell(
            Entry(
                event=LOG_EVENT,
                severity=severity_of(level),
                facility=FACILITIES[self._settings.syslog_facility],
                moment=self._clock.now(),
                text=text,
                fields={**fields, **self._origin},
            )
        )

    def try_out(self, timeout: float) -> list[Trial]:
        """Send a test to each server, in at most so many seconds; then it is closed."""
        event = find_event(TEST_EVENT)
        self._stream.tell(
            Entry(
                event=TEST_EVENT,
                severity=event.severity,
                facility=self._facility,
                moment=self._clock.now(),
                text=event.title,
                is_security=True,
            )
        )
        self.close(timeout)
        return [Trial(one.route.name, one.failure, one.is_one_way) for one in self.senders]

    def close(self, timeout: float = FLUSH_SECONDS) -> bool:
        """Send what is here, in at most so many seconds; whether all of it has come. Safe twice."""
        atexit.unregister(self.close)
        if self._handler is not None:
            for one in _own_loggers():
                one.removeHandler(self._handler)
            self._handler = None
        self._folding.close()
        until = self._clock.monotonic() + timeout
        for sender in self.senders:  # all of them at once
            sender.end_by(until)
        came = [sender.close(until - self._clock.monotonic()) for sender in self.senders]
        return all(came)

    def _make_sender(self, target: Target) -> Sender:
        settings = self._settings
        if not (target.is_local or target.kind == "tls" or settings.unsafe_allow_plaintext_syslog):
            raise ImproperlyConfigured(
                f"syslog_address: plain text to {target} can be read and forged by everybody on the way; "
                f"use tls://{target.host}, or set unsafe_allow_plaintext_syslog=True where the network "
                "itself is trusted, or goes one way"
            )
        route = Route(
            name=str(target),
            open_link=self._link_to(target),
            make_backlog=self._backlog_of(target),
            is_lasting=bool(settings.syslog_spool),
            batch_bytes=1 if target.is_datagram else 64 << 10,
        )
        size = settings.syslog_queue_size
        sender = Sender(route, make_gap=self._stream.make_gap, size=size, clock=self._clock)
        most = MAX_DATAGRAM_BYTES if target.kind == "udp" else MAX_BYTES
        self._stream.lead_to(sender, most_bytes=most)
        return sender

    def _link_to(self, target: Target) -> Callable[[Wait], Link]:
        if target.is_datagram:
            return partial(_datagrams, target)
        context, name = None, ""
        if target.kind == "tls":
            told = dict(self._settings.syslog_tls)
            password = told.get("key_password", "")
            if password:
                told["key_password"] = follow(password, name="syslog_tls: key_password")
            tls = Tls(**told)
            context, name = _context_of(tls), tls.server_name
        return partial(_stream, target, context, name)

    def _backlog_of(self, target: Target) -> Callable[[], Backlog]:
        settings = self._settings
        if not settings.syslog_spool:
            return partial(MemoryBacklog, replay_bytes=0) if target.is_datagram else MemoryBacklog
        folder = Path(settings.syslog_spool).expanduser()
        make_folder(folder)

        def make_backlog() -> Backlog:
            return SpoolBacklog(
                folder,
                server=str(target),
                stream=self._stream.id,
                most_bytes=settings.syslog_spool_bytes,
            )

        return make_backlog


@contextlib.contextmanager
def sending(audit: AuditLog, settings: Settings, *, clock: Clock) -> Iterator[None]:
    """Send what is recorded and logged meanwhile; then close the log, and wait for what is on its way."""
    syslog = Syslog(settings, clock=clock)
    syslog.start(audit)
    try:
        yield
    finally:
        audit.close()  # its last checkpoint is sent, too
        syslog.close()


def _own_loggers() -> list[logging.Logger]:
    """The root, and the tasks' logger where it keeps its records to itself."""
    tasks = logging.getLogger(TASK_LOGGER)
    return [logging.getLogger(), *([] if tasks.propagate else [tasks])]


def _context_of(tls: Tls) -> ssl.SSLContext:
    try:
        return tls.context()
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(f"syslog_tls: {error}") from error


def _datagrams(target: Target, wait: Wait) -> Link:
    return DatagramLink(target, wait=wait)


def _stream(target: Target, context: ssl.SSLContext | None, name: str, wait: Wait) -> Link:
    return StreamLink(target, wait=wait, context=context, server_name=name)
