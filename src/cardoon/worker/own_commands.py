"""Commands of somebody's own: the worker's end of those that run where the app is, and that end.

What comes back is untrusted, as all that user code says: it is an answer, and nothing is done with it but to
send it to whoever asked.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cardoon.worker.control import ControlState, Panel, run_command
from cardoon.worker.ipc import Frame, FrameType, IpcError, field, pack_frame
from cardoon.worker.receivers import MAX_SECONDS, LocalHerald, WorkerInfo, limited

MAX_RUNNING = 100
"""Commands of one worker's app that have not answered."""
MAX_TOLD = 200 * 1024
"""Bytes of what one answers."""
MAX_GIVEN = 64 * 1024
"""Bytes of its arguments."""


def registered_commands() -> list[str]:
    """The names, aliases included, that the app has registered."""
    return sorted(Panel.data)


def carry_out(info: WorkerInfo, head: Mapping[str, Any]) -> dict[str, Any]:
    """Run the command of a COMMAND frame, for a bounded time; the head of the ANSWERED frame."""
    name = str(head["name"])
    told: Any = {"error": f"{name} took longer than {MAX_SECONDS:g} seconds, or ended its process"}
    with limited(f"the command {name}"):
        told = run_command(name, head["arguments"], ControlState(info.hostname, info.app))
    return {"n": head["n"], "told": _plain(name, told)}


def _plain(name: str, told: Any) -> Any:
    try:
        text = json.dumps(told)
    except (TypeError, ValueError, RecursionError) as error:
        return {"error": f"{name} returned what no JSON can say: {error}"}
    if len(text) > MAX_TOLD:
        return {"error": f"{name} returned {len(text)} bytes; at most {MAX_TOLD} are sent"}
    return told


class OwnCommands:
    """`clerk.Others`: has them run, and passes on what they return. Safe from threads."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.deliver: Callable[[dict[str, Any], bytes], bool] = lambda _head, _packed: False
        """Takes a frame's head, and the frame, to where it runs; False if it cannot."""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()  # protects the table
        self._running: dict[int, tuple[str, Callable[[Any], None]]] = {}

    def run(self, name: str, arguments: Mapping[str, Any], answer: Callable[[Any], None]) -> None:
        """Have one run; `answer` is called from another thread."""
        number = next(self._numbers)
        head = {"n": number, "name": name, "arguments": dict(arguments)}
        packed = pack_frame(FrameType.COMMAND, head)
        if len(packed) > MAX_GIVEN:
            answer({"error": f"{name}: its arguments have more than {MAX_GIVEN} bytes"})
            return
        with self._lock:
            if len(self._running) >= MAX_RUNNING:
                self._running.pop(next(iter(self._running)))  # it will not come any more
            self._running[number] = (name, answer)
        if not self.deliver(head, packed):
            self._end(number, {"error": f"{name}: the worker's app is busy or gone; try again"})

    def answered(self, frame: Frame) -> None:
        """Take an ANSWERED frame; `IpcError` for one that makes no sense."""
        if "told" not in frame.head:
            raise IpcError("ANSWERED frame: told is missing")
        self._end(field(frame, "n", int), frame.head["told"])

    def lost(self) -> None:
        """The process where they ran is gone."""
        for number, (name, _) in list(self._running.items()):
            self._end(number, {"error": f"{name}: the process that ran it has died"})

    def _end(self, number: int, told: Any) -> None:
        with self._lock:
            _, answer = self._running.pop(number, ("", None))
        if answer is not None:
            answer(told)


def run_locally(own: OwnCommands, herald: LocalHerald) -> None:
    """Have them run in this process, which has the app, in the thread of the receivers of its signals."""

    def deliver(head: dict[str, Any], _packed: bytes) -> bool:
        return herald.run(
            lambda info: own.answered(Frame(FrameType.ANSWERED, carry_out(info, head)))
        )

    own.deliver = deliver
