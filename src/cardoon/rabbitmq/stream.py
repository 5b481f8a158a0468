"""The bytes of one connection: pika has the protocol, and this moves what it says and hears.

Whoever has something to say says it himself, in his own thread, and all of it in one write; a thread listens,
and hands over all that has come at once. Only one of them uses pika's connection at a time: who finds it in use
leaves his action to the one who uses it. So nobody ever waits for it, whatever locks he holds.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pika
from pika.exceptions import StreamLostError

from cardoon.clock import SystemClock
from cardoon.endpoints import Endpoint
from cardoon.rabbitmq.frames import HEAD, Reader
from cardoon.rabbitmq.sturdy import SturdyConnection

_MOST_READ = 2**16
"""Bytes that one read takes."""

_READS_IN_TURN = 4
"""How often is read before those who have something to say get their turn."""

_MAX_FRAME_BYTES = 2**17
"""The largest frame that pika lets a server send; one that says it is longer is not waited for."""

_WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_TIME = SystemClock()


class _Timer:
    """What is to be done at a moment."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action = action


class Stream:
    """One socket. `post` and `stop` may be called from any thread; the rest by who uses the connection."""

    def __init__(self) -> None:
        self.heard = 0
        """Bytes that have come, by which one sees that the server lives."""
        self._in_use = threading.Lock()
        self._actions: deque[Callable[[], None]] = deque()
        self._unsent = bytearray()
        self._received = b""
        self._timers: list[_Timer] = []
        self._is_over = False
        self._socket: socket.socket | None = None
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._listener: threading.Thread | None = None

    def post(self, action: Callable[[], None]) -> None:
        """Do this as soon as nobody uses the connection: here and now, as a rule."""
        self._actions.append(action)
        self._take_turns()

    def stop(self) -> None:
        """Have `run` come to its end."""
        self._is_over = True
        self._ring()

    def write(self, data: bytes) -> None:
        """Send this with all else that is said in the same turn."""
        self._unsent += data

    def call_later(self, seconds: float, action: Callable[[], None]) -> _Timer:
        """Do this after so many seconds, unless it is called off."""
        timer = _Timer(_TIME.monotonic() + seconds, action)
        self._timers.append(timer)
        self._ring_for_listener()
        return timer

    def call_off(self, timer: object) -> None:
        """Do not do it."""
        if timer in self._timers:
            self._timers.remove(timer)

    def run(self, connected: socket.socket, connection: Link, rest: Callable[[], None]) -> None:
        """Listen until it is over, and close the socket. `rest` is called when all has been heard."""
        self._listener = threading.current_thread()
        connected.setblocking(False)
        error: Exception | None = None
        try:
            with self._using():
                self._socket = connected
                connection.begin()
                self._speak()
            while not self._is_over:
                self._wait()
                with self._using():
                    self._hear(connection)
                    rest()
                    self._run_due()
                    self._speak()
        except (OSError, EOFError) as lost:
            error = StreamLostError(f"Stream connection lost: {lost!r}")
        finally:
            self._is_over = True
            with self._using():
                self._socket = None
                with contextlib.suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)
                connected.close()
                connection.end(error)

    def close(self) -> None:
        """Let go of what wakes the listener; safe twice."""
        self._ear.close()
        self._bell.close()

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """For the listener: use the connection, and then do what was left meanwhile."""
        with self._in_use:
            yield
        self._take_turns()

    def _take_turns(self) -> None:
        # Who leaves an action behind while this is let go of finds it free, or is seen by the next look.
        while self._actions and self._in_use.acquire(blocking=False):
            try:
                self._speak()
            except BaseException:
                self._unsent.clear()
                self.stop()  # nobody knows how much was said, so nobody goes on from here
                raise
            finally:
                self._in_use.release()

    def _speak(self) -> None:
        """Do what others have left, and send what there is to say."""
        while self._actions:
            self._actions.popleft()()
        if self._socket is None:
            return
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except _WOULD_BLOCK:
            self._ring_for_listener()  # who waits until there is room
        except OSError:
            self._unsent.clear()
            self._ring_for_listener()  # who finds out what has become of it

    def _wait(self) -> None:
        """Wait until something has come, can be sent or is due."""
        connected = self._socket
        assert connected is not None
        poll = select.poll()
        poll.register(self._ear, select.POLLIN)
        poll.register(connected, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        moments = [timer.at for timer in list(self._timers)]  # which others change meanwhile
        pause = max(0.0, min(moments) - _TIME.monotonic()) * 1000 if moments else None
        poll.poll(pause)
        with contextlib.suppress(*_WOULD_BLOCK):
            while self._ear.recv(512):
                pass

    def _hear(self, connection: Link) -> None:
        connected = self._socket
        assert connected is not None
        for _ in range(_READS_IN_TURN):
            try:
                data = connected.recv(_MOST_READ)
            except _WOULD_BLOCK:
                return
            if not data:
                raise EOFError("the server has closed the connection")
            self.heard += len(data)
            self._hand_on(data, connection)
        if isinstance(connected, ssl.SSLSocket) and connected.pending():
            self._ring()  # it is read already, so no poll would tell

    def _hand_on(self, data: bytes, connection: Link) -> None:
        """Frame by frame: of a long text pika would copy the rest behind each frame."""
        if self._received:
            data = self._received + data
        start = 0
        while len(data) - start >= HEAD.size and not self._is_over:
            *_, size = HEAD.unpack_from(data, start)
            if size > _MAX_FRAME_BYTES:
                raise OSError(f"the server speaks of a frame of {size} bytes; is it AMQP 0-9-1?")
            end = start + HEAD.size + size + 1
            if end > len(data):
                break
            connection.hear(data[start:end])
            start = end
        self._received = data[start:]

    def _run_due(self) -> None:
        now = _TIME.monotonic()
        for timer in [each for each in self._timers if each.at <= now]:
            self.call_off(timer)
            timer.action()

    def _ring_for_listener(self) -> None:
        if threading.current_thread() is not self._listener:
            self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # it rings already, or all is over
            self._bell.send(b"\0")


class Link(SturdyConnection):
    """pika's connection, for a stream that is connected already."""

    def __init__(
        self, parameters: pika.ConnectionParameters, stream: Stream, **callbacks: Any
    ) -> None:
        self._stream = stream
        self.reader: Reader | None = None
        """Who gets messages and confirms, once there is a channel for them."""
        super().__init__(parameters, **callbacks)

    def begin(self) -> None:
        """Say the first word."""
        self._on_stream_connected()

    def hear(self, frame: bytes) -> None:
        """One frame has come."""
        if self.reader is not None and self.reader.take(frame):
            self.bytes_received += len(frame)  # by which pika knows that the server lives
        else:
            self._on_data_available(frame)

    def end(self, error: Exception | None) -> None:
        """The stream has ended: by our wish, or by an error."""
        if error is not None or self._error is not None:
            self._on_stream_terminated(error)

    def _adapter_connect_stream(self) -> None:
        pass

    def _adapter_disconnect_stream(self) -> None:
        self._stream.stop()

    def _adapter_call_later(self, delay: float, callback: Callable[[], None]) -> object:
        return self._stream.call_later(delay, callback)

    def _adapter_remove_timeout(self, timeout_id: object) -> None:
        self._stream.call_off(timeout_id)

    def _adapter_add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        self._stream.post(callback)

    def _adapter_emit_data(self, data: bytes) -> None:
        self._stream.write(data)


def connect(
    endpoint: Endpoint, context: ssl.SSLContext | None, *, timeout: float, silence: float
) -> socket.socket:
    """A connected socket, with TLS where there is a context. Raises `OSError`.

    `timeout` bounds each of its steps; a link whose other end acknowledges nothing for `silence` seconds is
    given up by the kernel.
    """
    connected = socket.create_connection((endpoint.host, endpoint.port), timeout)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = int(silence * 1000)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        if context is None or endpoint.tls is None:
            return connected
        name = endpoint.tls.server_name or endpoint.host
        return context.wrap_socket(connected, server_hostname=name)
    except BaseException:
        connected.close()
        raise
