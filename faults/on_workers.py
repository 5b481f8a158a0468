"""Workers are killed, stopped and frozen."""

from __future__ import annotations

import contextlib
import os
import random
import signal

from faults.matrix import UNBOUNDED, fault
from faults.stage import CONCURRENCY, Stage

SETTLE_SECONDS = 90.0


@fault(most={"doubles": CONCURRENCY, "pause s": 3.0})
def kill9_all(stage: Stage) -> None:
    """SIGKILL of all processes of the worker; it is started again under its name."""
    stage.send(seconds=0.005)
    worker = stage.worker()
    stage.until_ended(stage.count * 0.3)
    stage.fault()
    worker.kill()
    stage.worker()
    stage.settle(SETTLE_SECONDS)
    stage.extra["pause s"] = stage.ledger.longest_pause(after=stage.fault_at)


@fault(most={"doubles": 10})
def kill9_storm(stage: Stage) -> None:
    """Ten times SIGKILL of all processes of a busy worker."""
    stage.send(seconds=0.005)
    worker = stage.worker()
    chance = random.Random(7)
    for number in range(1, 11):
        stage.until_ended(stage.count * (number - chance.random() * 0.3) / 14)
        stage.fault()
        worker.kill()
        worker = stage.worker()
    stage.settle(SETTLE_SECONDS)


@fault()
def kill9_idle_storm(stage: Stage) -> None:
    """Ten times SIGKILL of a mostly idle worker, while tasks trickle in."""
    worker = stage.ready_worker()
    # Slow enough to last as long as the storm. What is lost here is lost between the claim and the first
    # durable step.
    stage.client(count=stage.count // 2, rate=min(40.0, stage.count / 50), seconds=0.001)
    chance = random.Random(11)
    for _ in range(10):
        stage.until(lambda: stage.ledger.sent - stage.ledger.ended <= 1)
        stage.pass_time(chance.random() * 0.6)
        stage.fault()
        worker.kill()
        worker = stage.worker()
    stage.settle(SETTLE_SECONDS)


@fault(most={"doubles": 1})
def kill9_child(stage: Stage) -> None:
    """Twenty times SIGKILL of a random task process."""
    stage.send(seconds=0.02)
    worker = stage.worker()
    chance = random.Random(3)
    stage.fault()
    for number in range(1, 21):
        stage.until_ended(stage.count * number / 24)
        with contextlib.suppress(ProcessLookupError):
            if pids := worker.task_processes():
                os.kill(chance.choice(pids), signal.SIGKILL)
    stage.settle(SETTLE_SECONDS)


@fault(count=CONCURRENCY, most={"restart s": 3.0})
def term_long(stage: Stage) -> None:
    """SIGTERM while tasks run that last longer than the grace of 25 s; then another worker begins."""
    stage.send(count=CONCURRENCY, seconds=32.0)
    worker = stage.worker()
    stage.until(lambda: len(stage.ledger.idents("begin")) == CONCURRENCY)
    stage.fault()
    stage.terminate(worker)
    stage.heal()
    stage.worker("second")
    stage.settle(SETTLE_SECONDS)
    again = [e.at - stage.heal_at for e in stage.ledger.entries["begin"] if e.at > stage.heal_at]
    stage.extra["restart s"] = max(again) if len(again) == CONCURRENCY else UNBOUNDED


@fault(count=24, most={"unclean": 1})
def term_killed(stage: Stage) -> None:
    """SIGTERM while tasks of 6 s run, and SIGKILL after 3 s instead of 25; then another worker begins."""
    stage.send(seconds=6.0)
    worker = stage.worker()
    stage.until(lambda: len(stage.ledger.idents("begin")) == CONCURRENCY)
    stage.pass_time(2.0)
    stage.fault()
    stage.terminate(worker, patience=3.0)
    stage.worker("second")
    stage.settle(SETTLE_SECONDS)


@fault()
def term_rolling(stage: Stage) -> None:
    """Six rolling restarts: a new worker begins, and the old one gets SIGTERM."""
    stage.send(seconds=0.02)
    worker = stage.worker("worker0")
    stage.fault()
    for number in range(1, 7):
        stage.until_ended(stage.count * number / 8)
        following = stage.worker(f"worker{number}")
        stage.terminate(worker)
        worker = following
    stage.settle(SETTLE_SECONDS)


@fault(most={"doubles": CONCURRENCY})
def stop_cont(stage: Stage) -> None:
    """A worker is frozen for 35 s, longer than its leases, and thawed; another one goes on."""
    stage.send(seconds=0.02)
    frozen = stage.worker("frozen")
    stage.until_ended(stage.count * 0.2)
    other = stage.worker("other")
    stage.until(lambda: "success in" in other.log.read_text(errors="replace"))
    stage.fault()
    frozen.signal_all(signal.SIGSTOP)
    stage.pass_time(35.0)
    frozen.signal_all(signal.SIGCONT)
    stage.heal()
    stage.settle(SETTLE_SECONDS)
    # What the frozen one still holds, it has to find out and say before it is stopped.
    stage.pass_time(5.0)
