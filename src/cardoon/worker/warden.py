"""The warden: answers for the kernel what tasks may not do, writes it down, and connects on their behalf.

A process of its own, because it reads what tasks wrote in their memory and speaks with servers that they
chose; it has no key, no task's code, and gives up what it does not need before it hears of a task. It has
one loop. Task processes hand it the listeners of their filters, nests the sockets that stand for listed
addresses; the worker tells it profiles, and is told what was refused.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import sys

from cardoon.sandbox import nameserver
from cardoon.sandbox.given import Given
from cardoon.sandbox.loop import HANGUP, READ, WRITE, Loop
from cardoon.sandbox.nameserver import NameServer
from cardoon.sandbox.netbroker import Dialled, NetBroker, Peer, parse_sockaddr
from cardoon.sandbox.netrules import NetworkRules, Refused, Target
from cardoon.sandbox.notifying import Flags, Listener, Notification, read_flags, take
from cardoon.sandbox.refusals import Refusal, call_name, describe, tell_peer
from cardoon.sandbox.relaying import Relays
from cardoon.worker.humbling import give_up_powers
from cardoon.worker.ipc import (
    TO_WARDEN,
    Frame,
    FrameReader,
    FrameType,
    IpcError,
    field,
    pack_frame,
)

logger = logging.getLogger(__name__)

MAX_KINDS = 20
"""Of refused calls of one task that are told apart; the rest is counted as `more`."""
MAX_REFUSED = 1000
"""Refused calls of one task; then it is told as a flood, and gets no answer any more."""
MAX_CONNECTS = 10_000
"""Connections that one task may ask for; then it gets EAGAIN."""
MAX_PENDING = 64
"""Connections that one task may wait for at a time."""
FLOOD = "flood"
"""The rule that tells the worker to end a task."""
_MAX_DETAIL = 256
_MAX_UNSENT = 4 << 20
_ADDRESS_BYTES = 128


class _Profile:
    """What the warden knows of one nest."""

    def __init__(self, number: int, rules: NetworkRules, *, connects: bool) -> None:
        self.number = number
        self.rules = rules
        self.connects = connects
        """Whether connect() is carried out for its tasks, where the rules allow it."""
        self.connections = 0
        """Made in the place of tasks."""


class _Watched:
    """One task process: its listener, and what it was refused."""

    def __init__(self, token: int, listener: Listener, profile: _Profile) -> None:
        self.token = token
        self.listener = listener
        self.profile = profile
        self.kinds: dict[tuple[str, str], list[int]] = {}
        """How often each was refused, and how much of that is told."""
        self.refused = 0
        self.connects = 0
        self.pending = 0
        self.given = Given()
        self.is_gone = False


class Warden:
    """Serves one worker over a control socket, until that closes."""

    def __init__(self, control: socket.socket, *, broker: NetBroker | None = None) -> None:
        self._loop = Loop()
        self._broker = broker or NetBroker(self._loop)
        self._control = control
        self._reader = FrameReader(TO_WARDEN)
        self._unsent = bytearray()
        self._is_over = False

    def serve(self) -> None:
        """Answer until the worker is gone."""
        self._control.setblocking(False)
        self._loop.watch(self._control.fileno(), READ, self._hear_worker)
        while not self._is_over:
            self._loop.turn(60.0)

    # The worker

    def _hear_worker(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if not events & (READ | HANGUP):
            return
        try:
            found = self._control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            found = b""
        if not found:
            self._is_over = True
            return
        for frame in self._reader.feed(found):
            self._open_hatch(frame)

    def _open_hatch(self, frame: Frame) -> None:
        """A nest is to be: make the socket through which it and its children speak with us."""
        number = field(frame, "number", int)
        network = frame.head["network"]  # None, a word or a list; the worker has checked it
        denied = [(str(host), int(port)) for host, port in field(frame, "denied", list)]
        rules = NetworkRules(network, denied)
        profile = _Profile(number, rules, connects=field(frame, "connects", bool))
        # Made here, so that the kernel tells those who have the other end who we are.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        relays = Relays(
            self._loop,
            self._broker,
            rules,
            on_refused=lambda refused: self._tell(profile, 0, "connect", refused.text, 1),
        )
        ours.setblocking(False)
        self._loop.watch(ours.fileno(), READ, lambda _: self._hear_hatch(ours, profile, relays))
        with theirs:
            # The worker reads now, since it waits for this. The descriptor goes with the first byte of
            # its frame, so what is left of others goes before.
            self._control.setblocking(True)
            self._control.sendall(self._unsent)
            self._unsent.clear()
            packed = pack_frame(FrameType.HATCH, {"number": number})
            socket.send_fds(self._control, [packed], [theirs.fileno()])
            self._control.setblocking(False)

    def _tell(self, profile: _Profile, token: int, rule: str, detail: str, count: int) -> None:
        head = {
            "profile": profile.number,
            "token": token,
            "rule": rule,
            "detail": detail[:_MAX_DETAIL],
            "count": count,
        }
        if len(self._unsent) > _MAX_UNSENT:
            logger.error("the worker does not read what was refused; this is lost: %s", head)
            return
        self._unsent += pack_frame(FrameType.VIOLATION, head)
        self._flush()

    def _flush(self) -> None:
        while self._unsent:
            try:
                sent = self._control.send(self._unsent)
            except BlockingIOError:
                self._loop.change(self._control.fileno(), READ | WRITE)
                return
            except OSError:
                self._is_over = True
                return
            del self._unsent[:sent]
        self._loop.change(self._control.fileno(), READ)

    # Nests

    def _hear_hatch(self, hatch: socket.socket, profile: _Profile, relays: Relays) -> None:
        try:
            handed = take(hatch)
        except BlockingIOError:
            return
        except ValueError as error:  # there was no descriptor left: what would be asked gets ENOSYS
            logger.error("what a nest handed over is lost: %s", error)  # noqa: TRY400
            return
        except OSError:
            logger.exception("the hatch of a nest is closed")
            handed = None
        if handed is None:  # the nest and its children are gone
            self._loop.forget(hatch.fileno())
            hatch.close()
            relays.close()
            made = profile.connections + relays.made
            if made:
                logger.info(
                    "sandbox %d: %d connections made; %d bytes sent through relays, %d received",
                    *(profile.number, made, relays.sent, relays.received),
                )
            return
        if handed.listed is not None:
            try:
                relays.serve(handed.listed, handed.descriptor)
            except (OSError, ValueError):
                logger.exception("a socket of a nest is not served")
            return
        task = _Watched(handed.token, Listener(handed.descriptor), profile)
        self._loop.watch(handed.descriptor, READ, lambda _: self._hear_task(task))

    # Tasks

    def _hear_task(self, task: _Watched) -> None:
        events = _look(task.listener.fileno())
        try:
            if events & select.POLLIN:
                note = task.listener.receive()
                if note is not None:
                    self._answer(task, note)
            elif events:
                self._forget(task)
        except Exception:  # whatever a task thinks up costs that task alone
            logger.exception("a task's listener is given up")
            self._forget(task)

    def _answer(self, task: _Watched, note: Notification) -> None:
        if call_name(note) == "connect" and task.profile.connects:
            try:
                self._connect(task, note)
            except OSError as error:
                task.listener.answer(note, error.errno or errno.EINVAL)
        else:
            self._refuse(task, note, describe(task.listener, note))

    def _refuse(self, task: _Watched, note: Notification, refusal: Refusal) -> None:
        """Write it down and tell it, then answer: the worker knows before the task can say more."""
        task.refused += 1
        key = (refusal.rule, refusal.detail)
        if key not in task.kinds and len(task.kinds) >= MAX_KINDS:
            key = ("more", "")
        counted = task.kinds.setdefault(key, [0, 0])
        counted[0] += 1
        if counted[0] & (counted[0] - 1) == 0:  # 1, 2, 4, 8 ...
            self._tell(task.profile, task.token, *key, counted[0] - counted[1])
            counted[1] = counted[0]
        if task.refused > MAX_REFUSED:
            self._tell(task.profile, task.token, FLOOD, f"{task.refused} refused calls", 1)
            self._forget(task)
        else:
            task.listener.answer(note, refusal.errno)

    def _connect(self, task: _Watched, note: Notification) -> None:
        """Connect on behalf of a task, if its rules allow what it asks for. `OSError`: the answer."""
        descriptor, pointer, length = (note.args[0] & 0xFFFFFFFF, note.args[1], note.args[2])
        length &= 0xFFFFFFFF
        task.connects += 1
        if task.connects > MAX_CONNECTS or task.pending >= MAX_PENDING:
            refusal = Refusal("connect", "more connections than a task may have", errno.EAGAIN)
            self._refuse(task, note, refusal)
            return
        flags = read_flags(note.pid, descriptor)
        if length > _ADDRESS_BYTES:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        found = task.listener.read(note, pointer, length) if length else b""
        if len(found) < length:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        peer = parse_sockaddr(found)
        judged = _judge(task.profile.rules, peer)
        if (
            peer.port == nameserver.PORT
            and task.profile.rules.names
            and isinstance(judged, Refused)
        ):
            self._answer_names(task, note, descriptor, flags)
            return
        if isinstance(judged, Refused):
            self._refuse(task, note, Refusal("connect", judged.text, errno.EPERM))
            return
        task.given.check(flags.inode)
        task.pending += 1

        def done(told: Dialled) -> None:
            task.pending -= 1
            with told.socket or contextlib.nullcontext():
                if not task.is_gone:
                    self._finish(task, note, told, descriptor, flags)

        hurried = flags.nonblocking and task.given.has_room
        self._broker.dial(task.profile.rules, judged, done, hurried=hurried)

    def _answer_names(
        self, task: _Watched, note: Notification, descriptor: int, flags: Flags
    ) -> None:
        """A task's C library asks for a name: be the server that it connects to."""
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(not flags.nonblocking)
            try:
                task.listener.install(note, theirs.fileno(), over=descriptor, cloexec=flags.cloexec)
            except OSError:
                ours.close()
                raise
        task.pending += 1

        def closed() -> None:
            task.pending -= 1

        NameServer(self._loop, ours, task.profile.rules.names, on_closed=closed)
        task.listener.answer(note, 0)

    def _finish(
        self, task: _Watched, note: Notification, told: Dialled, descriptor: int, flags: Flags
    ) -> None:
        """Give a task its connection, in the place of the socket that it has."""
        try:
            if told.refused is not None:
                self._refuse(task, note, Refusal("connect", told.refused.text, errno.EPERM))
                return
            if told.socket is not None:
                told.socket.setblocking(not flags.nonblocking)
                ours = told.socket.fileno()
                task.listener.install(note, ours, over=descriptor, cloexec=flags.cloexec)
                task.profile.connections += 1
                task.given.note(self._loop, told.socket, is_connected=not told.error)
            task.listener.answer(note, told.error)
        except OSError as error:  # ENOENT: it was killed or interrupted meanwhile
            if error.errno != errno.ENOENT:
                task.listener.answer(note, error.errno or errno.EBADF)

    def _forget(self, task: _Watched) -> None:
        """Its last process has ended, or it is not worth an answer any more."""
        if task.is_gone:
            return
        task.is_gone = True
        task.given.close(self._loop)
        self._loop.forget(task.listener.fileno())
        task.listener.close()
        for key, (count, told) in task.kinds.items():
            if count > told:
                self._tell(task.profile, task.token, *key, count - told)


def _judge(rules: NetworkRules, peer: Peer) -> Target | Refused:
    """What is meant by an address, or why a task may not have it."""
    if peer.address is None:
        return Refused(tell_peer(peer), "not TCP")
    return rules.judge(peer.address, peer.port, peer.scope)


def _look(descriptor: int) -> int:
    """What there is to be heard of a listener now; to receive from one without news would block."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    found = poll.poll(0)
    return found[0][1] if found else 0


def main() -> None:
    """Entry point: `python -m cardoon.worker.warden CONTROL UID`: a socket, and who tasks run as."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    control = socket.socket(fileno=int(sys.argv[1]))
    give_up_powers(int(sys.argv[2]))
    with contextlib.suppress(IpcError):
        Warden(control).serve()
    os._exit(0)  # without waiting for the threads that resolve names


if __name__ == "__main__":
    main()
