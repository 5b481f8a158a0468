"""The worker's end of all nests: has one made for each sandbox profile in use, and has it fork.

To the supervisor it looks like the nursery: it is asked for processes, and says which were born and have
died. What died with its nest is told as an orphan, whose task is not to blame. A nest is made anew after
a child died as one does that was attacked, and after so many forks: all children of a nest have one
layout of memory, which nobody is to find out by trying. Nests of confined tasks have a hatch to the
warden, and end with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cardoon.exceptions import CardoonError
from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.profile import Level, Sandbox
from cardoon.worker.forking import ForkClient, Told
from cardoon.worker.grouping import TaskGroups
from cardoon.worker.ipc import FROM_NEST, Frame, FrameType, IpcError, field
from cardoon.worker.nursery import Nursery
from cardoon.worker.watch import Told as Refused
from cardoon.worker.watch import WardenLostError, Watch

logger = logging.getLogger(__name__)

MAX_FORKS = 10_000
"""Of one nest."""
MAX_FAILURES = 5
"""Nests in a row that come to nothing; then the worker gives up."""
MAX_SUSPICIOUS = 1_000
"""Deaths as of an attack, after which the app is imported anew: nests share the layout of memory of the
process that they are forked from, and this is little of what finding it out by trying takes."""
SUSPICIOUS = frozenset(
    -one for one in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGSYS)
)
"""Exit codes of a process that may have been probing."""


class Nest:
    """What the worker knows of one nest."""

    def __init__(self, number: int, profile: int, client: ForkClient) -> None:
        self.number = number
        self.profile = profile
        self.client = client
        self.children: set[int] = set()
        self.forks = 0
        self.is_serving = False
        self.handle: int | None = None

    def close(self) -> None:
        """End it, and its children with it; safe twice."""
        self.client.close()
        if self.handle is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.handle, signal.SIGKILL)
            os.close(self.handle)
            self.handle = None


class Hatchery:
    """Asks nests for processes. Used by one thread at a time."""

    def __init__(
        self,
        nursery: Nursery,
        profiles: Sequence[Sandbox],
        *,
        sandbox: Mapping[str, Any],
        reached: Sequence[str],
        watch: Watch | None = None,
        groups: TaskGroups | None = None,
    ) -> None:
        """`sandbox` is what nests are told of this machine, as `holding.Footing` reads it.

        `reached` is what results tell of each profile: no nest serves that says otherwise.

        `watch` is not started yet; without one nobody hears of refusals, or connects to what is listed.
        """
        self._nursery = nursery
        self.profiles = profiles
        self._sandbox = dict(sandbox)
        self._watch = watch
        self._groups = groups
        self._refused: list[Refused] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(nursery, selectors.EVENT_READ)
        self._nests: dict[int, Nest] = {}
        self._current: dict[int, Nest] = {}
        """The one that forks, by profile; others live until their last child has died."""
        self._number = 0
        self._failures = 0
        self._suspicious = 0
        self._orphans: list[Told] = []
        self._reached = reached

    def fileno(self) -> int:
        """What to wait for, for selectors."""
        return self._selector.fileno()  # epoll and kqueue have one

    def fork(self, descriptors: Sequence[int], head: Mapping[str, Any]) -> None:
        """Ask for a process of the profile that `head` names."""
        nest = self._current.get(head["profile"])
        if nest is None or nest.forks >= MAX_FORKS:
            try:
                nest = self._make_nest(head["profile"])
            except WardenLostError:  # which `receive` sees as well
                self._orphans.append(_orphan(head["index"]))
                return
        try:
            doors = self._open_doors(head)
        except ConfinementError as error:
            self._orphans.append(_orphan(head["index"]))
            self._fail(str(error))
            return
        with contextlib.suppress(IpcError):  # who is asked is dead; `receive` sees it, and says so
            nest.forks += 1
            nest.children.add(head["index"])
            nest.client.ask(FrameType.FORK, head, [*descriptors, *doors])
        for one in doors:
            os.close(one)

    def receive(self) -> list[Told]:
        """Births and deaths.

        `IpcError` when the zygote is gone, or has had its time; `CardoonError` if no nest lives.
        """
        if self._suspicious >= MAX_SUSPICIOUS:
            raise IpcError(f"{self._suspicious} task processes have died as of an attack")
        told: list[Told] = []
        for key, _ in self._selector.select(0):
            if key.fileobj is self._nursery:
                self._hear_zygote()
            elif key.fileobj is self._watch:
                self._hear_warden()
            elif key.data.number in self._nests:
                told += self._hear_nest(key.data)
        told += self._orphans
        self._orphans = []
        return told

    def refusals(self) -> list[Refused]:
        """What the warden has told by now of what tasks were refused."""
        if self._watch is not None and self._watch.pid is not None:
            with contextlib.suppress(WardenLostError):  # which `receive` sees as well
                self._refused += self._watch.receive()
        refused, self._refused = self._refused, []
        return refused

    def restart(self) -> None:
        """Start another zygote in place of one that died with its nests."""
        for nest in list(self._nests.values()):
            self._forget(nest)
        self._orphans = []
        self._suspicious = 0
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._nursery)
        self._nursery.restart()
        self._selector.register(self._nursery, selectors.EVENT_READ)

    def close(self) -> None:
        """End all nests; safe twice."""
        for nest in list(self._nests.values()):
            self._forget(nest)
        self._selector.close()
        if self._groups is not None:
            self._groups.close()
        if self._watch is not None:
            self._watch.stop()

    def _open_doors(self, head: Mapping[str, Any]) -> list[int]:
        """The door of a control group for a new process, if there are groups."""
        if self._groups is None:
            return []
        return [self._groups.begin(head["index"], self.profiles[head["profile"]])]

    def _end_groups(self, indices: Iterable[int]) -> None:
        if self._groups is not None:
            for one in indices:
                self._groups.end(one)

    def _make_nest(self, profile: int) -> Nest:
        hatch = self._hatch_for(profile)
        self._number += 1
        ours, theirs = socket.socketpair()
        nest = Nest(self._number, profile, ForkClient(ours, FROM_NEST))
        self._nests[nest.number] = nest
        self._current[profile] = nest
        self._selector.register(nest.client, selectors.EVENT_READ, nest)
        ends = [one for one in (theirs, hatch) if one is not None]
        with theirs, hatch or contextlib.nullcontext(), contextlib.suppress(IpcError):
            self._nursery.make_nest(
                [one.fileno() for one in ends],
                {
                    "index": nest.number,
                    "profile": self.profiles[profile].to_mapping(),
                    "sandbox": self._sandbox,
                },
            )
        return nest

    def _hatch_for(self, profile: int) -> socket.socket | None:
        """A way to the warden, who is started for the first nest that needs one."""
        if self._watch is None or self.profiles[profile].level is Level.PROCESS:
            return None
        if self._watch.pid is None:
            self._watch.start()
            self._selector.register(self._watch, selectors.EVENT_READ)
        return self._watch.hatch_for(self.profiles[profile])

    def _hear_warden(self) -> None:
        """Take in what tasks were refused; a dead warden is the end of those that it watched."""
        assert self._watch is not None
        try:
            self._refused += self._watch.receive()
        except WardenLostError as error:
            self._selector.unregister(self._watch)
            self._watch.stop()
            logger.error("%s; another is started, and nests with it", error)  # noqa: TRY400
            self._fail(str(error))
            for nest in list(self._nests.values()):
                if self.profiles[nest.profile].level is not Level.PROCESS:
                    self._orphans += map(_orphan, sorted(nest.children))
                    self._forget(nest)

    def _hear_zygote(self) -> None:
        for frame, handle in self._nursery.receive():
            nest = self._nests.get(frame.head["index"])
            match frame.type:
                case FrameType.FORKED if nest is not None:
                    nest.handle = handle
                case FrameType.FORKED if handle is not None:
                    os.close(handle)
                case FrameType.DIED if nest is not None:
                    self._lose(nest, f"exit code {frame.head['code']}")

    def _hear_nest(self, nest: Nest) -> list[Told]:
        told: list[Told] = []
        try:
            for frame, handle in nest.client.receive():
                if frame.type is FrameType.NESTED:
                    self._take_report(nest, frame)
                    continue
                if frame.type is FrameType.DIED:
                    self._note_death(nest, frame)
                told.append((frame, handle))
        except IpcError as error:
            self._lose(nest, str(error))
        return told

    def _take_report(self, nest: Nest, frame: Frame) -> None:
        if "error" in frame.head:
            self._lose(nest, field(frame, "error", str))
            return
        reached, expected = field(frame, "reached", str), self._reached[nest.profile]
        if reached != expected:
            self._lose(nest, f"a nest has reached {reached!r}, and not {expected!r}")
            return
        nest.is_serving = True
        self._failures = 0

    def _note_death(self, nest: Nest, frame: Frame) -> None:
        nest.children.discard(field(frame, "index", int))
        self._end_groups([field(frame, "index", int)])
        code = field(frame, "code", int)
        self._suspicious += code in SUSPICIOUS
        if code in SUSPICIOUS and self._current.get(nest.profile) is nest:
            logger.warning(
                "a task process died of %s; its nest is made anew", signal.Signals(-code).name
            )
            del self._current[nest.profile]
        if not nest.children and self._current.get(nest.profile) is not nest:
            self._forget(nest)

    def _lose(self, nest: Nest, reason: str) -> None:
        """A nest is dead, and its children with it; the next fork makes another one."""
        self._orphans += map(_orphan, sorted(nest.children))
        was_serving = nest.is_serving
        self._forget(nest)
        if was_serving:
            logger.error("the nest of profile %d died (%s); another is made", nest.profile, reason)
            return
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise CardoonError(f"tasks cannot be isolated: {reason}")

    def _forget(self, nest: Nest) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(nest.client)
        nest.close()
        self._end_groups(nest.children)
        self._nests.pop(nest.number, None)
        if self._current.get(nest.profile) is nest:
            del self._current[nest.profile]


def _orphan(index: int) -> Told:
    """The death of a process that was none of its own doing."""
    return Frame(FrameType.DIED, {"index": index, "code": -signal.SIGKILL, "orphan": True}), None
