"""Chords, whose bodies must run once, whatever dies before."""

from __future__ import annotations

from faults.matrix import UNBOUNDED, fault
from faults.on_workers import SETTLE_SECONDS
from faults.stage import Stage

CHORDS, SIZE = 100, 20
"""At most so many, and a tenth of the tasks that a run is to have."""


def _count_bodies(stage: Stage) -> None:
    """Bodies that ended once, and bodies that were given something else than their headers' results."""
    ended = stage.ledger.counts["end"]
    bodies = [ended[ident] for ident in stage.ledger.idents("sent")]
    stage.extra["bodies"] = bodies.count(1)
    stage.extra["wrong"] = len(stage.ledger.entries["other"])
    stage.extra["chords"] = len(bodies)
    # What ran twice of the headers is what a kill costs; a body may not.
    stage.extra["doubles"] = sum(max(0, n - 1) for n in bodies)


@fault(count=40, exactly={"wrong": 0})
def chord_child_killed(stage: Stage) -> None:
    """Forty chords of ten, one header of each kills its process in its first run."""
    stage.fault()
    stage.worker()
    stage.send(kind="chord", count=min(40, stage.count), size=10, killers=1)
    stage.settle(SETTLE_SECONDS)
    _count_bodies(stage)


@fault(exactly={"wrong": 0})
def chord_worker_killed(stage: Stage) -> None:
    """A hundred chords of twenty, and five times SIGKILL of all processes of the worker."""
    worker = stage.ready_worker()
    chords = min(CHORDS, stage.count // 10)
    stage.send(kind="chord", count=chords, size=SIZE, seconds=0.005)
    for number in range(1, 6):
        stage.until_ended(chords * SIZE * number * 0.15)
        stage.fault()
        worker.kill()
        worker = stage.worker()
    stage.settle(SETTLE_SECONDS)
    _count_bodies(stage)


@fault("server", exactly={"wrong": 0}, most={"errors": UNBOUNDED})
def chord_backend_restart(stage: Stage) -> None:
    """A hundred chords of twenty, and the store of results is killed twice, for 3 s each."""
    stage.ready_worker()
    chords = min(CHORDS, stage.count // 10)
    stage.send(kind="chord", count=chords, size=SIZE, seconds=0.01)
    for number in range(1, 3):
        stage.until_ended(chords * SIZE * number * 0.25)
        stage.fault()
        stage.server.kill()
        stage.pass_time(3.0)
        stage.server.start()
        stage.heal()
    stage.settle(SETTLE_SECONDS)
    _count_bodies(stage)
