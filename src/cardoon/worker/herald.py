"""Herald: the worker's end of the notices; carries them to the zygote, and receivers' requests back.

What the zygote asks for is untrusted, and answered by the desk like what a task asks for.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cardoon.worker.desk import Desk
from cardoon.worker.ipc import (
    FROM_RECEIVERS,
    NOTICE_BYTES,
    PREFIX_BYTES,
    Channel,
    ChannelClosedError,
    Frame,
    FrameType,
    IpcError,
    field,
    pack_frame,
)
from cardoon.worker.notices import OF_MESSAGES
from cardoon.worker.nursery import Nursery
from cardoon.worker.outbox import MAX_WAITING, Outbox
from cardoon.worker.own_commands import OwnCommands

logger = logging.getLogger(__name__)

MAX_REPLIES = 64 << 20
"""Bytes that may wait for receivers that ask and do not read; their process ends beyond that."""
MAX_DEATHS = 3
"""Zygotes that may die under it, before it tells of messages no more."""


class Herald:
    """`Notices` for the zygote of a worker. Safe from threads; nothing waits for a receiver."""

    def __init__(
        self, nursery: Nursery, wanted: frozenset[str], own: OwnCommands | None = None
    ) -> None:
        self.wanted = wanted
        self._own = own
        if own is not None:
            own.deliver = lambda _head, packed: self._outbox.put(packed, len(packed))
        self._nursery = nursery
        self._desk: Desk | None = None
        self._wire: _Wire | None = None
        self._deaths = 0
        beat = self._beat if "heartbeat_sent" in wanted else None
        self._outbox: Outbox[bytes] = Outbox(self._deliver, name="herald", beat=beat)

    def start(self, desk: Desk) -> None:
        """Begin to tell, and to have `desk` answer what receivers ask for."""
        self._desk = desk
        self._connect()
        self._nursery.on_restart = self._reconnect
        self._outbox.start()

    def tell(self, name: str, told: Mapping[str, Any]) -> None:
        """Tell the zygote; dropped, with a line in the log, while too much waits for its receivers."""
        packed = pack_frame(FrameType.NOTICE, {"signal": name, **told})
        if len(packed) - PREFIX_BYTES > NOTICE_BYTES:
            logger.warning("a notice of %s is too large and was dropped", name)
            return
        # What happens to messages must not keep the worker's own story from being told.
        most = MAX_WAITING if name in OF_MESSAGES else 2 * MAX_WAITING
        self._outbox.put(packed, len(packed), most=most)

    def close(self, timeout: float) -> None:
        """Send `worker_shutdown`, and wait until receivers are done, or for `timeout` seconds."""
        wire = self._wire
        self.tell("worker_shutdown", {})
        if wire is not None and not wire.ended.wait(timeout):
            logger.warning("receivers of signals did not end within %g seconds", timeout)
        self._outbox.close()
        if wire is not None:
            wire.close()
        self._outbox.join(1.0)

    def _beat(self) -> None:
        self.tell("heartbeat_sent", {})

    def _deliver(self, packed: bytes) -> None:
        wire = self._wire
        try:
            if wire is not None:
                wire.channel.write(packed)
        except IpcError:  # the zygote has died; the supervisor starts another
            wire = None

    def _connect(self) -> None:
        self._wire = _Wire(self._nursery.take_notices(), self._hear)

    def _reconnect(self) -> None:
        """The zygote has died, perhaps of a receiver, and another one has begun."""
        self._deaths += 1
        if self._deaths >= MAX_DEATHS and self.wanted & OF_MESSAGES:
            logger.error(
                "the zygote died %d times; signals of messages are sent no more: %s",
                self._deaths,
                ", ".join(sorted(self.wanted & OF_MESSAGES)),
            )
            self.wanted -= OF_MESSAGES
        if self._wire is not None:
            self._wire.close()
        self._connect()
        if self._own is not None:
            self._own.lost()

    def _hear(self, wire: _Wire, frame: Frame) -> None:
        if frame.type is FrameType.ANSWERED and self._own is not None:
            self._own.answered(frame)
            return
        assert self._desk is not None
        number = field(frame, "n", int)
        self._desk.take(_Answer(self, wire, number), frame)

    def answer(self, wire: _Wire, packed: bytes) -> None:
        """Send the reply to a request; the zygote ends that asks and does not read."""
        if wire is self._wire and not self._outbox.put(packed, len(packed), most=MAX_REPLIES):
            wire.close()


class _Answer:
    """Where the answer to a request of a receiver goes."""

    keys: tuple[int, ...] = ()
    """It asks on behalf of no job."""

    def __init__(self, herald: Herald, wire: _Wire, number: int) -> None:
        self._herald = herald
        self._wire = wire
        self._number = number

    def answer(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send the reply."""
        packed = pack_frame(FrameType.REPLY, {"n": self._number, **head}, body)
        self._herald.answer(self._wire, packed)


class _Wire:
    """The channel to one zygote, and the thread that reads what its receivers ask for."""

    def __init__(self, sock: socket.socket, hear: Callable[[_Wire, Frame], None]) -> None:
        self.channel = Channel(sock, FROM_RECEIVERS)
        self.ended = threading.Event()
        self._hear = hear
        threading.Thread(target=self._read, name="receivers", daemon=True).start()

    def close(self) -> None:
        """End it from this side: whoever waits on it in the zygote hears of it."""
        try:
            self.channel.socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other side was faster
            self.ended.set()

    def _read(self) -> None:
        try:
            while frame := self.channel.receive():
                self._hear(self, frame)
        except ChannelClosedError:
            pass  # the zygote has done all, or is gone
        except IpcError as error:
            logger.error("the channel of the receivers is closed: %s", error)  # noqa: TRY400
        finally:
            self.channel.socket.close()
            self.ended.set()
