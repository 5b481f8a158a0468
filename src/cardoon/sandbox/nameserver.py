"""A name server for one connection: knows the names of a list, and says of others that there are none.

For libraries that ask for themselves (libpq, curl): a task's C library is told to ask over TCP, and its
connection to a name server ends here. RFC 1035; queries come from tasks and are bounded.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping

from cardoon.sandbox.loop import READ, Loop

PORT = 53
SECONDS = 10.0
"""How long one connection may last."""
_MAX_QUERIES = 32
"""On one connection; a resolver asks for A and AAAA, with each domain that it searches."""
_MAX_BYTES = 512
"""Of a query."""

_HEADER = struct.Struct("!6H")
_QUESTION = struct.Struct("!2H")
_RESPONSE, _RECURSION_WANTED, _RECURSION, _NO_SUCH_NAME = 0x8400, 0x0100, 0x0080, 3
_A, _INTERNET = 1, 1


class NameServer:
    """Answers at our end of a pair of sockets, then closes it. Belongs to the thread of its loop."""

    def __init__(
        self,
        loop: Loop,
        ours: socket.socket,
        names: Mapping[str, str],
        *,
        on_closed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._socket = ours
        self._names = names
        self._on_closed = on_closed
        self._received = bytearray()
        self._queries = 0
        self._is_closed = False
        ours.setblocking(False)
        loop.watch(ours.fileno(), READ, lambda _: self._hear())
        self._deadline = loop.after(SECONDS, self.close)

    def close(self) -> None:
        """Answer no more; safe twice."""
        if not self._is_closed:
            self._is_closed = True
            self._deadline.cancel()
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._on_closed()

    def _hear(self) -> None:
        try:
            found = self._socket.recv(4096)
            if not found:
                self.close()
                return
            self._received += found
            while len(self._received) >= 2:
                size = int.from_bytes(self._received[:2], "big")
                self._queries += 1
                if size > _MAX_BYTES or self._queries > _MAX_QUERIES:
                    raise ValueError("that is no query of a resolver")  # noqa: TRY301
                if len(self._received) < 2 + size:
                    self._queries -= 1
                    return
                query = bytes(self._received[2 : 2 + size])
                del self._received[: 2 + size]
                told = answer(query, self._names)
                # Short answers to few queries fit into the buffer of a pair; a task that does not read
                # them loses its connection.
                self._socket.sendall(len(told).to_bytes(2, "big") + told)
        except (OSError, ValueError):  # it is gone, does not read, or asks nonsense
            self.close()


def answer(query: bytes, names: Mapping[str, str]) -> bytes:
    """The answer to a query; `ValueError` for bytes that are none."""
    if len(query) < _HEADER.size:
        raise ValueError("a query has a header")
    number, flags, questions, *_ = _HEADER.unpack_from(query)
    if flags & 0x8000 or questions != 1:
        raise ValueError("a query asks one question")
    name, end = _read_name(query, _HEADER.size)
    if end + _QUESTION.size > len(query):
        raise ValueError("the question is cut")
    kind, place = _QUESTION.unpack_from(query, end)
    asked = query[_HEADER.size : end + _QUESTION.size]
    address = names.get(name)
    told = b""
    if address is not None and (kind, place) == (_A, _INTERNET):
        # The name is that of the question, at byte 12; good for no time at all.
        told = struct.pack("!HHHIH", 0xC00C, _A, _INTERNET, 0, 4) + socket.inet_aton(address)
    code = _NO_SUCH_NAME if address is None else 0
    flags = _RESPONSE | (flags & _RECURSION_WANTED) | _RECURSION | code
    return _HEADER.pack(number, flags, 1, 1 if told else 0, 0, 0) + asked + told


def _read_name(query: bytes, start: int) -> tuple[str, int]:
    """A name of labels, without compression, which questions do not have; and where it ends."""
    labels: list[str] = []
    while True:
        if start >= len(query):
            raise ValueError("the name is cut")
        size = query[start]
        start += 1
        if size == 0:
            return ".".join(labels).lower(), start
        if size > 63 or start + size > len(query):
            raise ValueError("a label is too long")
        labels.append(query[start : start + size].decode("ascii", "replace"))
        start += size
