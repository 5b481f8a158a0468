"""A world with a time of its own: threads that take turns, one at a time, in an order that a seed decides.

Code that blocks can so be simulated as it is. A thread runs until it sleeps; then whoever wakes next goes
on, and the clock jumps to that moment.
"""

from __future__ import annotations

import _thread
import heapq
import threading
from collections.abc import Callable
from random import Random

from cardoon.testing.clock import START


class Killed(BaseException):
    """Ends a strand from within."""


class WorldClock:
    """The clocks of one host; `skew` is by how much its wall clock is wrong."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.skew = 0.0

    def now(self) -> float:
        return START + self._world.time + self.skew

    def monotonic(self) -> float:
        return self._world.time


class Host:
    """Where strands live: they die and freeze together."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = WorldClock(world)
        self.is_dead = False
        self.frozen_until = 0.0
        self.strands: list[Strand] = []

    def start(self, work: Callable[[], None]) -> Strand:
        """Begin something that may sleep."""
        strand = Strand(self, work)
        self.strands.append(strand)
        self.world.after(0.0, strand.go_on)
        return strand

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something later that does not sleep; late if the host is frozen, never if it is dead."""

        def act_if_alive() -> None:
            if self.is_dead:
                return
            if self.world.time < self.frozen_until:
                self.world.after(self.frozen_until - self.world.time, act_if_alive)
            else:
                act()

        self.world.after(seconds, act_if_alive)

    def die(self) -> None:
        """All at once, wherever they are; not from one of its own strands."""
        self.is_dead = True
        for strand in self.strands:
            strand.go_on()


class Strand:
    """A thread of the simulated world."""

    def __init__(self, host: Host, work: Callable[[], None]) -> None:
        self._host = host
        self._work = work
        self._turn = _thread.allocate_lock()
        self._turn.acquire()
        self._thread: threading.Thread | None = None
        self._wake = 0
        """Counts sleeps, so that a wake-up that comes late is for no other sleep."""
        self.is_over = False

    def go_on(self) -> None:
        """The world gives it its turn, and waits until it sleeps or ends."""
        if self.is_over:
            return
        host, world = self._host, self._host.world
        if not host.is_dead and world.time < host.frozen_until:
            world.after(host.frozen_until - world.time, self.go_on)
            return
        if self._thread is None:
            if host.is_dead:
                self.is_over = True
                return
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        world.current = self
        self._turn.release()
        world.turn.acquire()

    def sleep(self, seconds: float) -> None:
        """Let the others go on for so long, or until `wake`. Called by the strand itself."""
        self._wake += 1
        self._host.world.after(seconds, self._waker(self._wake))
        self._host.world.turn.release()
        self._turn.acquire()
        if self._host.is_dead:
            raise Killed

    def wake(self) -> None:
        """End its sleep now."""
        self._host.world.after(0.0, self._waker(self._wake))

    def _waker(self, number: int) -> Callable[[], None]:
        def wake() -> None:
            if self._wake == number and not self.is_over:
                self._wake += 1
                self.go_on()

        return wake

    def _run(self) -> None:
        self._turn.acquire()
        try:
            if not self._host.is_dead:
                self._work()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  # it is a finding, and the world tells it
            self._host.world.errors.append(error)
        finally:
            self.is_over = True
            self._host.world.turn.release()


class World:
    """Time, chance, and what happens next."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.time = 0.0
        self.turn = _thread.allocate_lock()
        """Released by the strand that ran."""
        self.turn.acquire()
        self.current: Strand | None = None
        """The one whose turn it is."""
        self.errors: list[BaseException] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something `seconds` from now."""
        self._number += 1
        heapq.heappush(self._due, (self.time + seconds, self._number, act))

    def sleep(self, seconds: float) -> None:
        """Have the strand that calls this sleep."""
        assert self.current is not None
        self.current.sleep(seconds)

    def run_until(self, moment: float) -> None:
        """Let time pass; raises what went wrong in a strand."""
        while self._due and self._due[0][0] <= moment:
            self.time, _, act = heapq.heappop(self._due)
            act()
            if self.errors:
                raise self.errors[0]
        self.time = moment
