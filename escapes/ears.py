"""Listeners of all kinds, which write down what they hear: who is reached there has left its sandbox."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from pathlib import Path

STREAMS = ("broker", "metadata", "broker6", "granted", "unix", "abstract")
DATAGRAMS = ("udp", "dns", "unix_datagram")
_LOOK_SECONDS = 0.02
_MOST_BYTES = 1 << 20


class Ears:
    """Opened once, for all attempts. Threads: one that listens, those that ask."""

    def __init__(self, folder: Path, abstract: str) -> None:
        self._folder = folder
        self.abstract = abstract
        self.ports: dict[str, int] = {}
        self._heard: dict[str, bytearray] = {name: bytearray() for name in (*STREAMS, *DATAGRAMS)}
        self._heard["served"] = bytearray()
        self._selector = selectors.DefaultSelector()
        self._is_closed = False
        for name in STREAMS:
            self._listen(name, self._stream(name))
        for name in DATAGRAMS:
            self._listen(name, self._datagram(name))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.ports["served"] = free.getsockname()[1]
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    @property
    def unix(self) -> str:
        """Where the stream socket lies."""
        return str(self._folder / "service.sock")

    @property
    def unix_datagram(self) -> str:
        """Where the datagram socket lies."""
        return str(self._folder / "datagram.sock")

    def wait_for(self, channel: str, token: str, *, seconds: float) -> bool:
        """Whether a channel hears the token, within seconds."""
        end = time.monotonic() + seconds
        while token.encode() not in self._heard[channel]:
            if time.monotonic() > end:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def _visit(self) -> None:
        """Connect to the port where an attempt may serve, and hear what it says."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.ports["served"]), 0.2) as sock,
        ):
            self._heard["served"] += sock.recv(100)

    def close(self) -> None:
        """Hear no more."""
        self._is_closed = True
        self._thread.join(5)
        for key in list(self._selector.get_map().values()):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            sock.close()
        self._selector.close()

    def _listen(self, name: str, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, name)

    def _stream(self, name: str) -> socket.socket:
        match name:
            case "unix":
                sock = socket.socket(socket.AF_UNIX)
                sock.bind(self.unix)
                Path(self.unix).chmod(0o777)
            case "abstract":
                sock = socket.socket(socket.AF_UNIX)
                sock.bind("\0" + self.abstract)
            case _:
                is_six = name.endswith("6")
                sock = socket.socket(socket.AF_INET6 if is_six else socket.AF_INET)
                fast_open = 23
                sock.setsockopt(socket.IPPROTO_TCP, fast_open, 16)
                sock.bind(("::1" if is_six else "127.0.0.1", 0))
                self.ports[name] = sock.getsockname()[1]
        sock.listen(64)
        return sock

    def _datagram(self, name: str) -> socket.socket:
        if name == "unix_datagram":
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.bind(self.unix_datagram)
            Path(self.unix_datagram).chmod(0o777)
            return sock
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        self.ports[name] = sock.getsockname()[1]
        return sock

    def _hear(self) -> None:
        while not self._is_closed:
            self._visit()
            for key, _ in self._selector.select(0.2):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                with contextlib.suppress(OSError):
                    self._take(sock, key.data)

    def _take(self, sock: socket.socket, name: str) -> None:
        is_listening = (
            sock.type == socket.SOCK_STREAM
            and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        )
        if is_listening:
            peer, _ = sock.accept()
            self._listen(name, peer)
            return
        try:
            content = sock.recv(65536)
        except OSError:
            content = b""
        if content:
            self._heard[name] += content[: _MOST_BYTES - len(self._heard[name])]
        elif sock.type == socket.SOCK_STREAM:
            self._selector.unregister(sock)
            sock.close()
