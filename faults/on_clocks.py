"""Tasks that are due late, last long, or whose worker has lost its clock."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

from faults.matrix import UNBOUNDED, fault
from faults.on_workers import SETTLE_SECONDS
from faults.stage import FaultError, Stage

LATE = 200
"""Tasks with a time."""
ETA, LONG_ETA = 15.0, 45.0
LONG_TASK = 50.0
JUMP = 7200
"""Seconds."""
JUMP_LASTS = 6.0


def _note_lateness(stage: Stage, countdown: float) -> None:
    """How much later than due the last one began; and none may begin early."""
    due = {entry.ident: entry.at + countdown for entry in stage.ledger.entries["try"]}
    late = [e.at - due[e.ident] for e in stage.ledger.entries["begin"] if e.ident in due]
    stage.extra["late s"] = max(late, default=UNBOUNDED)
    stage.extra["early"] = sum(seconds < 0 for seconds in late)


@fault(count=LATE, most={"late s": 1.0}, exactly={"early": 0})
def eta_kill(stage: Stage) -> None:
    """The worker is killed while 200 tasks wait for their time, and started again."""
    worker = stage.ready_worker()
    stage.send(count=min(LATE, stage.count), seconds=0.001, countdown=ETA)
    stage.pass_time(3.0)
    stage.fault()
    worker.kill()
    stage.worker()
    stage.settle(SETTLE_SECONDS)
    _note_lateness(stage, ETA)


@fault(count=LATE, most={"late s": 1.0}, exactly={"early": 0})
def eta_long(stage: Stage) -> None:
    """Two hundred tasks wait for longer than a lease, before two workers."""
    stage.ready_worker("first")
    stage.ready_worker("second")
    stage.fault()
    stage.send(count=min(LATE, stage.count), seconds=0.001, countdown=LONG_ETA)
    stage.settle(SETTLE_SECONDS)
    _note_lateness(stage, LONG_ETA)


@fault(count=8)
def long_task(stage: Stage) -> None:
    """Eight tasks that last longer than a lease, before two workers."""
    stage.ready_worker("first")
    stage.ready_worker("second")
    stage.fault()
    stage.send(count=min(8, stage.count), seconds=LONG_TASK)
    stage.settle(LONG_TASK * 2 + SETTLE_SECONDS)


@fault("server", "hosts", count=400, most={"unresolved": UNBOUNDED})
def clock_jump(stage: Stage) -> None:
    """The wall clock of one of two workers jumps two hours ahead, and two hours back."""
    # Only where workers have hosts of their own. Clients refuse results that were signed in the future,
    # until then; see docs/delivery.md.
    shift = _ClockShift(stage.folder)
    stage.ready_worker("steady")
    stage.ready_worker("jumping", env=shift.environment)
    stage.client(seconds=0.3, rate=20.0)
    stage.until_ended(stage.count * 0.2)
    stage.fault()
    for seconds in (JUMP, -JUMP):
        shift.set(seconds)
        stage.pass_time(JUMP_LASTS)
    shift.set(0)
    stage.heal()
    stage.settle(SETTLE_SECONDS)


class _ClockShift:
    """A library that shifts the wall clock of the processes that load it, and no other clock."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "shift"
        self.set(0)
        library = folder / "shift.so"
        compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
        source = Path(__file__).with_name("clock_shift.c")
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise FaultError(f"clock_jump needs a C compiler: {error}") from error
        self.environment = {"LD_PRELOAD": str(library), "FAULTS_CLOCK_SHIFT": str(self._file)}

    def set(self, seconds: int) -> None:
        """Shift by so many seconds from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._file)
