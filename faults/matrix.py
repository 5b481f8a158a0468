"""The faults by name, each with what it does and with its goals, and the run of one of them."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from faults.places import CLUSTER, can_mount
from faults.stage import Figures, Stage

Scenario = Callable[[Stage], None]

UNBOUNDED = math.inf
SEND_SECONDS = 9.5
"""How long a send tries to get through (`task_publish_timeout`), but for what reaching a server takes."""
USUAL: Mapping[str, float] = {
    "lost": 0,
    "stuck": 0,
    "doubles": 0,
    "buried": 0,
    "left": 0,
    "errors": 0,
    "unresolved": 0,
    "gone": 0,
    "unclean": 0,
    "exit s": 30.0,
}
"""The most that any fault may do, where its own goals do not say otherwise.

    lost        sends that returned, whose body never ended, and of which the broker knows nothing
    stuck       the same, but the message still lies in a queue
    buried      kept as dead letters or in the quarantine, though nothing was wrong with them
    doubles     bodies that ended once more than once
    left        messages in the queues at the end, of whatever
    errors      sends that raised, unless the broker was away for longer than they try
    unresolved  tasks that ended and whose result is not there
    gone        workers that ended by themselves
    unclean     workers that did not obey SIGTERM, or with a bad exit code
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of damage."""

    name: str
    text: str
    act: Scenario
    needs: frozenset[str]
    """`server`: a broker apart; `network`: a link to it that can be cut; `disk`: one that can be filled;
    `cluster`: three nodes; `hosts`: workers whose clocks differ."""
    count: int | None
    """The most tasks that it needs."""
    most: Mapping[str, float]
    """Bounds of figures, `USUAL` included."""
    exactly: Mapping[str, float] = field(default_factory=dict)


FAULTS: dict[str, Fault] = {}
QUICK = (
    "kill9_all",
    "kill9_idle_storm",
    "kill9_child",
    "term_rolling",
    "broker_kill9",
    "net_pop_lost",
    "net_flap",
    "poison_garbage",
    "poison_killer",
    "chord_worker_killed",
)
"""Those that run with the tests."""


def fault(
    *needs: str,
    count: int | None = None,
    most: Mapping[str, float] | None = None,
    exactly: Mapping[str, float] | None = None,
) -> Callable[[Scenario], Scenario]:
    """Enter a scenario in the matrix, under its function's name."""

    def enter(act: Scenario) -> Scenario:
        assert act.__doc__, "a scenario says what it does"
        FAULTS[act.__name__] = Fault(
            name=act.__name__,
            text=act.__doc__.strip(),
            act=act,
            needs=frozenset(needs),
            count=count,
            most={**USUAL, **(most or {})},
            exactly=exactly or {},
        )
        return act

    return enter


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one run came to."""

    fault: str
    broker: str
    figures: Figures
    missed: tuple[str, ...]
    """Goals that were not reached, in words; or why there are no figures."""
    seconds: float
    reason: str = ""
    """Why it was not run."""
    evidence: str = ""
    """What workers said, where a goal was missed."""


def is_for(fault: Fault, broker: str) -> bool:
    """Whether a fault is tried on this broker at all: those of single nodes on several, all else on one."""
    return ("cluster" in fault.needs) == (broker == CLUSTER)


def reason_against(fault: Fault, broker: str) -> str:
    """Why a fault is not for this broker, or cannot be made here; empty where it can."""
    if not is_for(fault, broker):
        return "does not apply"
    if broker == "sqlite" and fault.needs & {"server", "network"}:
        return "does not apply"
    if broker in {"sqlite", "rabbitmq"} and "hosts" in fault.needs:
        return "does not apply: what keeps the time, alone or beside it, is a file, so of one host"
    if "disk" in fault.needs and not can_mount():
        return "needs root, for a small disk"
    return ""


def run(fault: Fault, broker: str, *, count: int) -> Row:
    """Do the damage in a fresh folder, and hold the figures against the goals."""
    begun = time.monotonic()
    figures: Figures = {}
    missed: tuple[str, ...] = ()
    evidence = ""
    reason = reason_against(fault, broker)
    if not reason:
        wanted = count if fault.count is None else min(count, fault.count)
        with tempfile.TemporaryDirectory(prefix=f"cardoon-{fault.name}-") as folder:
            Path(folder).chmod(0o711)  # PostgreSQL, which does not run as root, has its data below
            stage = Stage(
                broker,
                Path(folder) / "stage",
                count=wanted,
                on_small_disk="disk" in fault.needs,
            )
            try:
                stage.open()
                fault.act(stage)
                figures = stage.finish()
                missed = judge(fault, figures)
            except Exception as error:  # a run that fails must not hide the others
                missed = (f"{type(error).__name__}: {error}",)
            finally:
                evidence = stage.evidence() if missed else ""
                stage.close()
    return Row(
        fault=fault.name,
        broker=broker,
        figures=figures,
        missed=missed,
        seconds=time.monotonic() - begun,
        reason=reason,
        evidence=evidence,
    )


def judge(fault: Fault, figures: Figures) -> tuple[str, ...]:
    """The goals that these figures miss."""
    bounds = dict(fault.most)
    if figures.get("outage s", 0.0) >= SEND_SECONDS:
        bounds["errors"] = UNBOUNDED
    over = [
        f"{name} {figures[name]:g}, at most {bound:g} allowed"
        for name, bound in bounds.items()
        if figures.get(name, 0.0) > bound
    ]
    other = [
        f"{name} {figures.get(name, 0.0):g} instead of {value:g}"
        for name, value in fault.exactly.items()
        if figures.get(name, 0.0) != value
    ]
    return (*over, *other)
