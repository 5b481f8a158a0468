"""The handler of `logging`: gives records to a stream, and comes back at once, whatever the servers do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from cardoon.context import current_request
from cardoon.exceptions import SoftShutdown, SoftTimeLimitExceeded, Terminated
from cardoon.syslog.messages import Entry, Severity

LOG_EVENT = "log"
"""Stands where other messages have the name of what happened."""
NOT_SENT = "is_not_for_syslog"
"""Attribute of a record that is for other handlers alone."""
_OWN_LOGGER = "cardoon.syslog"
MAX_TRACE = 4000
"""Characters of a traceback, its end, where the error is."""


class SyslogHandler(logging.Handler):
    """Hands records to `tell`; those of the syslog senders themselves are for other handlers."""

    def __init__(
        self,
        tell: Callable[[Entry], None],
        *,
        facility: int,
        level: int,
        origin: Mapping[str, object] | None = None,
    ) -> None:
        """`origin` are fields of every record."""
        super().__init__(level)
        self._origin = dict(origin or {})
        self._tell = tell
        self._facility = facility

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record sent. Does not wait, and raises nothing but what interrupts the task that logs."""
        if record.name == _OWN_LOGGER or record.name.startswith(f"{_OWN_LOGGER}."):
            return  # what a sender has to say of itself would come back to it
        if record.__dict__.get(NOT_SENT):
            return
        try:
            self._tell(self._entry_of(record))
        except (SoftTimeLimitExceeded, SoftShutdown, Terminated):
            raise
        except Exception:  # noqa: BLE001  # whoever logs is not to suffer for it
            self.handleError(record)

    def _entry_of(self, record: logging.LogRecord) -> Entry:
        text = text_of(record, self.formatter)
        fields: dict[str, object] = {"logger": record.name, "level": record.levelname}
        request, given = current_request(), record.__dict__
        if "task_id" in given:
            fields |= {"task": given.get("task_name"), "task_id": given["task_id"]}
        elif request is not None:
            fields |= {"task": request.task, "task_id": request.id}
        fields |= self._origin
        return Entry(
            event=LOG_EVENT,
            severity=severity_of(record.levelno),
            facility=self._facility,
            moment=record.created,
            text=text,
            fields={name: value for name, value in fields.items() if value not in {None, "???"}},
        )


def text_of(
    record: logging.LogRecord,
    formatter: logging.Formatter | None = None,
    *,
    most: int | None = None,
    most_trace: int = MAX_TRACE,
) -> str:
    """The message of a record, and below it the end of its traceback, if it has one.

    Both are cut, in characters; with `most`, the message so that the traceback has room.
    """
    text, trace = record.getMessage(), ""
    if record.exc_info and record.exc_info[0] is not None:
        told = (formatter or _PLAIN).formatException(record.exc_info)
        trace = f"\n{told[-most_trace:]}"
    return (text if most is None else text[: most - len(trace)]) + trace


def severity_of(level: int) -> Severity:
    """The severity of a level of `logging`, also of one between those that have names."""
    if level >= logging.CRITICAL:
        return Severity.CRITICAL
    if level >= logging.ERROR:
        return Severity.ERROR
    if level >= logging.WARNING:
        return Severity.WARNING
    return Severity.INFO if level >= logging.INFO else Severity.DEBUG


_PLAIN = logging.Formatter()
