"""Listed addresses in a network of the tasks' own: a socket inside for each, and a relay outside.

In `strict` tasks have a network namespace with nothing but loopback. The nest opens a listening socket in
it for every listed address and lends it to the warden, who is outside: what connects there is joined with
a connection that the warden makes. TLS stays between task and server; the relay sees what a wire sees.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import socket
import struct
from collections.abc import Callable, Sequence

from cardoon.sandbox import notifying
from cardoon.sandbox.loop import READ, WRITE, Loop
from cardoon.sandbox.netbroker import Dialled, NetBroker
from cardoon.sandbox.netrules import NetworkRules, Refused, Target, host_names
from cardoon.sandbox.profile import split_address

logger = logging.getLogger(__name__)

MAX_OPEN = 1024
"""Connections that the tasks of one profile may have open at once; others wait to be accepted."""
_BUFFER_BYTES = 256 * 1024
"""What is held of one direction: what one side has sent and the other has not taken."""
_BACKLOG = 128
KEEPALIVE_SECONDS = 30
"""How often a task's end of a silent connection is asked whether it is there."""
_FULL_SECONDS = 0.5
"""How long nothing is accepted where there is no descriptor left."""
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds


def inside_addresses(network: Sequence[str] | str | None) -> list[tuple[str, int]]:
    """Where tasks in a network of their own reach each listed address, in the order of the list."""
    if network is None or isinstance(network, str):
        return []
    names = host_names(network)
    return [(names.get(host, host), port) for host, port in map(split_address, network)]


def foreign_addresses(network: Sequence[str] | str | None) -> list[str]:
    """Listed literal addresses that loopback has to be given before anything can listen there."""
    hosts = dict.fromkeys(host for host, _ in inside_addresses(network))
    return [host for host in hosts if not ipaddress.ip_address(host).is_loopback]


def lend_listeners(network: Sequence[str] | str | None, hatch: int) -> None:
    """In the nest, with loopback up: listen at each listed address, for the warden to answer.

    `OSError` if one cannot be had; ports below 1024 need CAP_NET_BIND_SERVICE in that namespace.
    """
    for index, (host, port) in enumerate(inside_addresses(network)):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        with contextlib.closing(listening):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(_BACKLOG)
            notifying.lend(hatch, index, listening)


OnRefused = Callable[[Refused], None]


class Relays:
    """The connections of the tasks of one profile. Belongs to the thread of its loop."""

    def __init__(
        self, loop: Loop, broker: NetBroker, rules: NetworkRules, *, on_refused: OnRefused
    ) -> None:
        self._loop = loop
        self._broker = broker
        self._rules = rules
        self._on_refused = on_refused
        self._listening: dict[int, socket.socket] = {}
        self._open: set[_Relay] = set()
        self.made = 0
        """Connections accepted so far."""
        self.sent = self.received = 0
        """Bytes of those that have ended."""

    def serve(self, index: int, descriptor: int) -> None:
        """Answer at a socket that the nest lends, for the listed address of that index."""
        listening = socket.socket(fileno=descriptor)
        if index >= len(self._rules.targets) or index in self._listening:
            listening.close()
            raise ValueError(f"nothing is listed as number {index}, or it is served already")
        listening.setblocking(False)
        self._listening[index] = listening
        target = self._rules.targets[index]
        self._loop.watch(listening.fileno(), READ, lambda _: self._accept(listening, target))

    def close(self) -> None:
        """End all of them."""
        for listening in self._listening.values():
            self._loop.forget(listening.fileno())
            listening.close()
        self._listening.clear()
        for relay in list(self._open):
            relay.close()

    def _accept(self, listening: socket.socket, target: Target) -> None:
        try:
            inner, _ = listening.accept()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                self._pause()
                self._loop.after(_FULL_SECONDS, self._resume)
            return
        inner.setblocking(False)
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A task that is gone has closed its end, which says nothing more to a server that waits.
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
        self.made += 1
        relay = _Relay(self._loop, inner, target, on_closed=self._closed)
        self._open.add(relay)
        if len(self._open) >= MAX_OPEN:
            self._pause()

        def join(told: Dialled) -> None:
            if told.refused is not None:
                self._on_refused(told.refused)
            relay.join(told)

        self._broker.dial(self._rules, target, join)

    def _closed(self, relay: _Relay) -> None:
        self.sent += relay.sent
        self.received += relay.received
        self._open.discard(relay)
        self._resume()

    def _resume(self) -> None:
        if len(self._open) < MAX_OPEN:
            for one in self._listening.values():
                self._loop.change(one.fileno(), READ)

    def _pause(self) -> None:
        """Let who connects wait, until a connection ends."""
        for one in self._listening.values():
            self._loop.change(one.fileno(), 0)


class _Relay:
    """Two sockets, and what is on its way between them."""

    def __init__(
        self,
        loop: Loop,
        inner: socket.socket,
        target: Target,
        *,
        on_closed: Callable[[_Relay], None],
    ) -> None:
        self._loop = loop
        self._inner = inner
        self._outer: socket.socket | None = None
        self._target = target
        self._on_closed = on_closed
        self._up = _Direction()
        self._down = _Direction()

    @property
    def sent(self) -> int:
        """Bytes from the task to the server."""
        return self._up.moved

    @property
    def received(self) -> int:
        """Bytes from the server to the task."""
        return self._down.moved

    def join(self, told: Dialled) -> None:
        """The other side is there, or cannot be had: then the task's connection is reset."""
        if told.socket is None:
            with contextlib.suppress(OSError):
                self._inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            logger.info("relay to %s: %s", self._target.text, errno.errorcode.get(told.error))
            self.close()
            return
        self._outer = told.socket
        for one in (self._inner, self._outer):
            self._loop.watch(one.fileno(), 0, self._move)
        self._watch()

    def close(self) -> None:
        """End both sides."""
        for one in (self._inner, self._outer):
            if one is not None and one.fileno() >= 0:
                self._loop.forget(one.fileno())
                one.close()
        self._on_closed(self)

    def _move(self, _: int) -> None:
        outer = self._outer
        if outer is None or outer.fileno() < 0:
            return
        try:
            self._up.move(self._inner, outer)
            self._down.move(outer, self._inner)
        except OSError:
            for one in (self._inner, outer):  # a reset on one side is one on the other
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close()
            return
        if self._up.is_over and self._down.is_over:
            self.close()
        else:
            self._watch()

    def _watch(self) -> None:
        """Read only what there is room for, write only what is there: nothing piles up here."""
        assert self._outer is not None
        inner = (READ if self._up.wants_more else 0) | (WRITE if self._down.waits else 0)
        outer = (READ if self._down.wants_more else 0) | (WRITE if self._up.waits else 0)
        self._wait_for(self._inner, inner, done=self._up.ended and self._down.is_over)
        self._wait_for(self._outer, outer, done=self._down.ended and self._up.is_over)

    def _wait_for(self, one: socket.socket, events: int, *, done: bool) -> None:
        """Wait for events of a side; a side that has nothing to say would tell its hang-up for ever."""
        if done:
            self._loop.forget(one.fileno())
        else:
            self._loop.change(one.fileno(), events)


class _Direction:
    """Bytes from one socket to another, at most a buffer of them held."""

    __slots__ = ("_held", "ended", "is_over", "moved")

    def __init__(self) -> None:
        self._held: memoryview = memoryview(b"")
        self.ended = False
        """The sender has said that no more comes."""
        self.is_over = False
        """And the receiver has been told."""
        self.moved = 0

    @property
    def wants_more(self) -> bool:
        """Whether there is room for what the sender has."""
        return not self._held and not self.ended

    @property
    def waits(self) -> bool:
        """Whether the receiver has not taken all."""
        return bool(self._held)

    def move(self, source: socket.socket, sink: socket.socket) -> None:
        """Carry what can be carried without waiting. `OSError` if a side is gone."""
        for _ in range(4):  # then it is the turn of others
            if self.wants_more:
                try:
                    found = source.recv(_BUFFER_BYTES)
                except BlockingIOError:
                    return
                self.ended = not found
                self._held = memoryview(found)
            while self._held:
                try:
                    sent = sink.send(self._held)
                except BlockingIOError:
                    return
                self.moved += sent
                self._held = self._held[sent:]
            if self.ended:
                if not self.is_over:
                    self.is_over = True
                    with contextlib.suppress(OSError):
                        sink.shutdown(socket.SHUT_WR)
                return
