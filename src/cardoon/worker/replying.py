"""ReplyTo: where the answer to a request of a task process goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cardoon.worker.child import TaskProcess
from cardoon.worker.ipc import Frame, FrameType

Sending = Callable[[TaskProcess, FrameType, dict[str, Any], bytes], None]
"""Sends a frame to a process, unless it is dead."""


class ReplyTo:
    """Where the answer to a request of a task process goes."""

    __slots__ = ("_allowance", "_number", "_process", "_send", "keys")

    def __init__(self, send: Sending, process: TaskProcess, number: int | None) -> None:
        self._send = send
        self._process = process
        self._number = number
        self._allowance = process.allowance
        self.keys = tuple(process.jobs)
        """The jobs that it held when it asked: on whose behalf it may ask."""

    def answer(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send the reply; nothing happens if the process is gone."""
        if self._number is not None:
            if self._allowance is not None:
                self._allowance.answered(self._number)
            self._send(self._process, FrameType.REPLY, {"n": self._number, **head}, body)


OnRequest = Callable[[ReplyTo, Frame], None]
