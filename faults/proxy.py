"""A TCP proxy on loopback that breaks what passes through it: cut, refused, stalled, lost, half open."""

from __future__ import annotations

import contextlib
import enum
import selectors
import socket
import struct
import threading
import time

_TICK = 0.005
_MOST = 1 << 16
_RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: close with a reset."""


class Stalled(enum.Enum):
    """What is held back."""

    NOTHING = enum.auto()
    REPLIES = enum.auto()
    ALL = enum.auto()


class _Link:
    """A connection of a client, and the one to the server that stands for it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.unsent = {client: bytearray(), server: bytearray()}
        self.finished: set[socket.socket] = set()
        """Sides that will send no more."""
        self.is_abandoned = False

    def other(self, side: socket.socket) -> socket.socket:
        return self.server if side is self.client else self.client


class Proxy:
    """Forwards a loopback port to another one, in a thread of its own.

    Damage lasts until `heal`, which forwards again and begins with what was held back; what `abandon` made
    silent stays so.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.RLock()  # guards all below
        self._selector = selectors.DefaultSelector()
        self._links: dict[socket.socket, _Link] = {}
        self._stalled = Stalled.NOTHING
        self._listener: socket.socket | None = None
        self.port = 0
        self._listen()
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def stall(self, what: Stalled = Stalled.ALL) -> None:
        """Hold back what comes from now on, in the kernel; no connection ends."""
        with self._lock:
            self._stalled = what

    def heal(self) -> None:
        """Forward everything, and accept connections."""
        with self._lock:
            self._stalled = Stalled.NOTHING
            if self._listener is None:
                self._listen()

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        with self._lock:
            for link in set(self._links.values()):
                self._reset(link)

    def refuse(self) -> None:
        """Reset every connection, and accept none."""
        with self._lock:
            self._stop_listening()
            self.cut()

    def abandon(self) -> None:
        """Forward nothing of the present connections any more."""
        with self._lock:
            for link in self._links.values():
                link.is_abandoned = True

    def close(self) -> None:
        """Reset everything, and end."""
        self._is_closing.set()
        self._thread.join(5)
        self.refuse()
        self._selector.close()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._selector.register(listener, selectors.EVENT_READ)
        self._listener = listener

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _run(self) -> None:
        while not self._is_closing.is_set():
            with self._lock:
                for key, _ in self._selector.select(_TICK):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif link := self._links.get(key.fileobj):  # type: ignore[call-overload]
                        self._read(link, key.fileobj)  # type: ignore[arg-type]
                for link in set(self._links.values()):
                    self._forward(link)
            time.sleep(0.0005)  # so that others get the lock

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            server = socket.socket()
            try:
                server.connect(("127.0.0.1", self._target))
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                server.close()
                return
            link = _Link(client, server)
            for side in (client, server):
                side.setblocking(False)
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(side, selectors.EVENT_READ)
                self._links[side] = link

    def _read(self, link: _Link, side: socket.socket) -> None:
        is_reply = side is link.server
        is_held = self._stalled is Stalled.ALL or (self._stalled is Stalled.REPLIES and is_reply)
        if is_held or link.is_abandoned:
            time.sleep(0.001)  # the selector will name it again at once
            return
        try:
            received = side.recv(_MOST)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if received:
            link.unsent[link.other(side)] += received
        else:
            link.finished.add(side)
            self._selector.unregister(side)

    def _forward(self, link: _Link) -> None:
        for side, unsent in link.unsent.items():
            try:
                while unsent:
                    del unsent[: side.send(unsent)]
                if link.other(side) in link.finished:
                    side.shutdown(socket.SHUT_WR)
            except BlockingIOError:
                continue
            except OSError:
                self._reset(link)
                return
        if len(link.finished) == 2:
            self._reset(link)

    def _reset(self, link: _Link) -> None:
        for side in (link.client, link.server):
            self._links.pop(side, None)
            if side not in link.finished:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(side)
            with contextlib.suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            side.close()
