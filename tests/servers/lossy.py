"""A link to a server on loopback that fails on demand."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.servers.ground import free_port


class LossyLink:
    """Passes on what it is sent to `port`; `swallow` and `cut_answers` make it fail.

    `swallow` keeps connections open and passes on nothing more on those that there are: a half-open
    link. `cut_answers` closes that many connections instead of passing on an answer.
    """

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self.connections = 0
        self._target = port
        self._lock = threading.Lock()
        self._epoch = 0
        self._cuts = 0
        self._cut_at = b""
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """From now on the connections that there are lead nowhere."""
        with self._lock:
            self._epoch += 1

    def cut_answers(self, count: int, *, to: bytes = b"") -> None:
        """Lose the next answers to requests that hold these bytes, and their connections."""
        with self._lock:
            self._cuts, self._cut_at = count, to

    @property
    def cuts_left(self) -> int:
        """How many answers are still to be lost."""
        return self._cuts

    def close(self) -> None:
        """End all connections."""
        # A blocked accept holds the socket open until it is shut down.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            links, self._open = self._open, set()
        for link in links:
            _end(link)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                epoch = self._epoch
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {near, far}
            state = {"cut": False}
            for pair in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pass, args=(*pair, epoch, state), daemon=True).start()

    def _pass(self, source, sink, is_request, epoch, state) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self._lock:
                    if epoch != self._epoch:
                        continue
                    if is_request and self._cuts and self._cut_at in data:
                        self._cuts -= 1
                        state["cut"] = True
                    elif not is_request and state["cut"]:
                        break
                sink.sendall(data)
        for link in (source, sink):
            _end(link)


def _end(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
    link.close()
