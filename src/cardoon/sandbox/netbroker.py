"""Connects on behalf of tasks: resolves what a listed name means now, and tries its addresses.

Nothing here blocks the loop that it runs in: names are resolved by a few threads, sockets connect by
themselves. A task's own address bytes are copied once, judged, and never read again.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from cardoon.sandbox.loop import WRITE, Loop, Timer
from cardoon.sandbox.netrules import IpAddress, NetworkRules, Refused, Target, parse_ip

CONNECT_SECONDS = 10.0
"""How long names and connections may take together; then it is ETIMEDOUT."""
_IMPATIENT_SECONDS = 0.25
"""How long a socket that does not block waits for one of several addresses (RFC 8305, section 5)."""
_RESOLVERS = 4
_MAX_RESOLVING = 2048
"""Names in the queue of the threads; beyond, a connection fails with EAGAIN."""
_MAX_ADDRESSES = 8
"""Addresses of one name that are tried."""

_MAX_SOCKADDR = 128  # sizeof(struct sockaddr_storage)
_FAMILY = struct.Struct("=H")
_INET = struct.Struct("!HHI")
_INET6_BYTES = 24  # without the scope, as RFC 2133 had it


class Peer(NamedTuple):
    """What a `struct sockaddr` of a task says."""

    family: int
    address: IpAddress | None = None
    port: int = 0
    scope: int = 0
    path: bytes = b""
    """Of a unix socket; an abstract one begins with a zero."""


def parse_sockaddr(found: bytes) -> Peer:
    """Read an address as the kernel would; `OSError` with the errno that it would give."""
    if not 2 <= len(found) <= _MAX_SOCKADDR:
        raise OSError(errno.EINVAL, "no address is of that length")
    family = _FAMILY.unpack_from(found)[0]
    if family == socket.AF_INET:
        if len(found) < 16:
            raise OSError(errno.EINVAL, "the address is too short")
        _, port, number = _INET.unpack_from(found)
        return Peer(family, ipaddress.IPv4Address(number), port)
    if family == socket.AF_INET6:
        if len(found) < _INET6_BYTES:
            raise OSError(errno.EINVAL, "the address is too short")
        port = int.from_bytes(found[2:4], "big")
        scope = int.from_bytes(found[24:28], "little") if len(found) >= 28 else 0
        return Peer(family, ipaddress.IPv6Address(found[8:24]), port, scope)
    if family == socket.AF_UNIX:
        path = found[2:]
        return Peer(family, path=path if path.startswith(b"\0") else path.split(b"\0")[0])
    return Peer(family)


class Dialled(NamedTuple):
    """How it went: a socket, or why there is none."""

    socket: socket.socket | None
    error: int = 0
    """An errno; with a socket, 0 or EINPROGRESS."""
    refused: Refused | None = None


OnDialled = Callable[[Dialled], None]
Resolve = Callable[[str], Sequence[IpAddress]]


def resolve(host: str) -> list[IpAddress]:
    """The addresses of a name, in the order of preference of the system; none if there are none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return []
    texts = dict.fromkeys(str(one[4][0]).partition("%")[0] for one in found)
    return [ipaddress.ip_address(text) for text in texts]


class NetBroker:
    """Makes connections for tasks, many at a time. Belongs to the thread of its loop."""

    def __init__(self, loop: Loop, *, resolve: Resolve = resolve) -> None:
        self._loop = loop
        self._resolve = resolve
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")
        self._resolving = 0
        self._known = KnownNames(resolve, loop.now)

    def dial(
        self, rules: NetworkRules, target: Target, done: OnDialled, *, hurried: bool = False
    ) -> None:
        """Connect with what `rules` allow of a target, and tell how it went, perhaps at once.

        `hurried` is for a socket that does not block: it is given back while it connects, where there is
        only one address left to try.
        """
        attempt = _Attempt(self._loop, rules, target, done, hurried=hurried)
        names = [host for host, _ in rules.denied if parse_ip(host) is None]
        literal = parse_ip(target.host)
        if literal is not None and not names:
            attempt.begin([literal], set())
            return
        if self._resolving >= _MAX_RESOLVING:
            attempt.end(Dialled(None, errno.EAGAIN))
            return
        self._resolving += 1

        def find() -> None:
            found = [literal] if literal is not None else list(self._resolve(target.host))
            own = {
                (str(ip), port)
                for host, port in rules.denied
                if parse_ip(host) is None
                for ip in self._known.find(host)
            }
            self._loop.post(lambda: use(found, own))

        def use(found: list[IpAddress], own: set[tuple[str, int]]) -> None:
            self._resolving -= 1
            attempt.begin(found, own)

        self._threads.submit(find)


class KnownNames:
    """What the worker's own servers are called and mean. For the threads that resolve."""

    _GOOD_SECONDS = 30.0

    def __init__(self, resolve: Resolve, clock: Callable[[], float]) -> None:
        self._resolve = resolve
        self._clock = clock
        self._lock = threading.Lock()  # protects the table
        self._table: dict[str, tuple[float, set[IpAddress]]] = {}

    def find(self, host: str) -> set[IpAddress]:
        """Every address that a name has been seen to mean."""
        now = self._clock()
        with self._lock:
            until, known = self._table.get(host, (0.0, set()))
        if now >= until:
            # What it meant before is not forgotten: a server that moves may still answer there.
            known = set(list(known | set(self._resolve(host)))[-64:])
            with self._lock:
                self._table[host] = (now + self._GOOD_SECONDS, known)
        return known


class _Attempt:
    """One target, its addresses one after the other, until a socket connects or time is up."""

    def __init__(
        self, loop: Loop, rules: NetworkRules, target: Target, done: OnDialled, *, hurried: bool
    ) -> None:
        self._loop = loop
        self._rules = rules
        self._target = target
        self._done: OnDialled | None = done
        self._hurried = hurried
        self._left: list[IpAddress] = []
        self._error = errno.EHOSTUNREACH
        self._socket: socket.socket | None = None
        self._patience: Timer | None = None
        self._deadline = loop.after(CONNECT_SECONDS, lambda: self._fail(errno.ETIMEDOUT))

    def begin(self, found: Sequence[IpAddress], own: set[tuple[str, int]]) -> None:
        """Try these addresses, but those that the rules refuse."""
        if self._done is None:  # the name took too long
            return
        refused = None
        for address in found[:_MAX_ADDRESSES]:
            reason = self._rules.allows(self._target, address, own)
            refused = refused or reason
            if reason is None:
                self._left.append(address)
        if not self._left and refused is not None:
            self.end(Dialled(None, errno.EPERM, refused))
        else:
            self._try_next()

    def end(self, told: Dialled) -> None:
        """Tell how it went, once."""
        self._deadline.cancel()
        done, self._done = self._done, None
        if done is not None:
            done(told)

    def _try_next(self) -> None:
        while self._left:
            address = self._left.pop(0)
            try:
                opened = _open(address)
            except OSError as error:
                self._error = error.errno or errno.EMFILE
                continue
            code = opened.connect_ex(_sockaddr(address, self._target))
            if code == 0 or (code == errno.EINPROGRESS and self._hurried and not self._left):
                self.end(Dialled(opened, code))
                return
            if code == errno.EINPROGRESS:
                self._wait(opened)
                return
            opened.close()
            self._error = code
        self._fail(self._error)

    def _wait(self, opened: socket.socket) -> None:
        self._socket = opened
        self._loop.watch(opened.fileno(), WRITE, self._settled)
        if self._left:
            share = CONNECT_SECONDS / (len(self._left) + 2)
            seconds = _IMPATIENT_SECONDS if self._hurried else share
            self._patience = self._loop.after(seconds, self._give_up)

    def _settled(self, _: int) -> None:
        opened = self._let_go()
        if opened is None:
            return
        error = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            opened.close()
            self._error = error
            self._try_next()
        else:
            self.end(Dialled(opened))

    def _give_up(self) -> None:
        self._error = errno.ETIMEDOUT
        if opened := self._let_go():
            opened.close()
        self._try_next()

    def _let_go(self) -> socket.socket | None:
        opened, self._socket = self._socket, None
        if opened is not None:
            self._loop.forget(opened.fileno())
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        return opened

    def _fail(self, error: int) -> None:
        if opened := self._let_go():
            opened.close()
        self.end(Dialled(None, error))


def _open(address: IpAddress) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    opened = socket.socket(
        family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_TCP
    )
    # What a task set for its own socket is lost with it; these two are what clients set.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return opened


def _sockaddr(address: IpAddress, target: Target) -> tuple[Any, ...]:
    if address.version == 4:
        return (str(address), target.port)
    return (str(address), target.port, 0, target.scope)
