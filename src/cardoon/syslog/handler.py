"""The handler of `logging`: gives records to a stream, and comes back at once, whatever the servers do."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cardoon.context import current_request
from cardoon.syslog.messages import Entry, Severity

LOG_EVENT = "log"
"""Stands where other messages have the name of what happened."""
_OWN_LOGGER = "cardoon.syslog"
MAX_TRACE = 4000
"""Characters of a traceback, its end, where the error is."""


class SyslogHandler(logging.Handler):
    """Hands records to `tell`; those of the syslog senders themselves are for other handlers."""

    def __init__(self, tell: Callable[[Entry], None], *, facility: int, level: int) -> None:
        super().__init__(level)
        self._tell = tell
        self._facility = facility

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record sent. Neither waits nor raises."""
        if record.name == _OWN_LOGGER or record.name.startswith(f"{_OWN_LOGGER}."):
            return  # what a sender has to say of itself would come back to it
        try:
            self._tell(self._entry_of(record))
        except Exception:  # noqa: BLE001  # whoever logs is not to suffer for it
            self.handleError(record)

    def _entry_of(self, record: logging.LogRecord) -> Entry:
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            trace = (self.formatter or _PLAIN).formatException(record.exc_info)
            text = f"{text}\n{trace[-MAX_TRACE:]}"
        fields: dict[str, object] = {"logger": record.name, "level": record.levelname}
        request, given = current_request(), record.__dict__
        if "task_id" in given:
            fields |= {"task": given.get("task_name"), "task_id": given["task_id"]}
        elif request is not None:
            fields |= {"task": request.task, "task_id": request.id}
        return Entry(
            event=LOG_EVENT,
            severity=severity_of(record.levelno),
            facility=self._facility,
            moment=record.created,
            text=text,
            fields={name: value for name, value in fields.items() if value not in {None, "???"}},
        )


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
