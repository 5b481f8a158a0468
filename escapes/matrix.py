"""The attempts by name, each with its category, its proof, and where it is known to succeed."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from escapes.proofs import Proof
from escapes.world import World

Act = Callable[[World], Any]

LEVELS = ("process", "confined", "strict")
PEOPLE = ("root", "user")
PROFILES = ("plain", "listed", "subprocess")
"""Kinds of profiles: nothing but computing; TCP to one listed address; processes of its own (strict only)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt."""

    name: str
    category: str
    text: str
    act: Act
    before: Act | None
    """What an earlier task did, of the same profile; in the control, in the same process."""
    proof: Proof
    profile: str
    needs: str
    """What only root, or other kernels and machines, could do: why its control may fail for others."""
    open_in: Mapping[str, str]
    """Levels whose documentation says that it succeeds, and what it says."""
    must: bool
    """Whether it is to succeed, since it uses what is granted."""
    through: tuple[str, ...]
    """Whether it needs a worker (`"worker"`), or can do with a bare process too."""
    patience: float
    """Seconds that it may take."""


ATTEMPTS: dict[str, Attempt] = {}


def attempt(
    category: str,
    *,
    proof: Proof,
    name: str = "",
    text: str = "",
    before: Act | None = None,
    profile: str = "plain",
    needs: str = "",
    open_in: Mapping[str, str] | None = None,
    must: bool = False,
    worker_only: bool = False,
    patience: float = 10.0,
) -> Callable[[Act], Act]:
    """Enter an attempt, under its function's name and with its docstring unless others are given."""

    def enter(act: Act) -> Act:
        known = name or act.__name__
        said = text or (act.__doc__ or "").strip()
        assert said, f"{known} does not say what it does"
        assert known not in ATTEMPTS, f"{known} is there already"
        assert profile in PROFILES, profile
        ATTEMPTS[known] = Attempt(
            name=known,
            category=category,
            text=said,
            act=act,
            before=before,
            proof=proof,
            profile=profile,
            needs=needs,
            open_in=dict(open_in or {}),
            must=must,
            through=("worker",) if worker_only else ("worker", "fork"),
            patience=patience,
        )
        return act

    return enter


def run_act(act: Act, world: World) -> dict[str, Any]:
    """What a task process does: `{"got": ...}`, or `{"refused": ...}` with what stopped it."""
    try:
        return {"got": act(world)}
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return {"refused": f"{type(error).__name__}: {error}"[:300], "line": where.lineno}
