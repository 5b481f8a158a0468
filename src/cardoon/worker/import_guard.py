"""The import guard of a worker's processes: how it is told to stand, and how it tells what it has stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cardoon.exceptions import DriftError, SecurityError
from cardoon.integrity.approved import Place, open_approved
from cardoon.integrity.baseline import open_baseline
from cardoon.integrity.importing import Blocked, ImportGuard, Mode
from cardoon.integrity.listing import read_listing
from cardoon.integrity.loaded import examine_loaded
from cardoon.worker.ipc import Channel, Frame, FrameType, IpcError, field

MAX_TEXT = 4096
"""Characters of a name that is told."""

_standing: list[ImportGuard] = []


def tell_guard(place: Place, mode: Mode) -> dict[str, Any]:
    """What a process is told that a guard is to stand in: the baseline, and the SHA-256 of what was approved."""
    with open_approved(place) as baseline:
        return {
            "mode": mode.value,
            "baseline": str(place.baseline.absolute()),
            "digest": baseline.digest.hex(),
        }


def stand(told: Mapping[str, Any], on_blocked: Callable[[Blocked], object]) -> None:
    """Have a guard stand in this process; `DriftError` if code that it refuses has run here already."""
    with open_baseline(Path(told["baseline"])) as baseline:
        if baseline.digest.hex() != told["digest"]:
            raise SecurityError(f"{baseline.path}: not the baseline that was approved; start anew")
        guard = ImportGuard(read_listing(baseline), Mode(told["mode"]))
    guard.on_blocked = on_blocked
    guard.install()
    _standing[:] = [guard]
    found = list(examine_loaded(guard))
    for one in found:
        on_blocked(one)
    if found and guard.refuses:
        more = f" ({len(found)} in all)" if len(found) > 1 else ""
        raise DriftError(f"{found[0]}{more}; it was loaded before imports were guarded")


def report_to(channel: Channel) -> None:
    """In a process that runs tasks: have its guard, if one stands, tell the worker."""

    def tell(found: Blocked) -> None:
        with contextlib.suppress(IpcError):  # the worker is gone
            channel.send(FrameType.BLOCKED, write_blocked(found))

    for guard in _standing:
        guard.on_blocked = tell


def write_blocked(found: Blocked) -> dict[str, str]:
    """The head of a frame: BLOCKED from a task process, BARRED from the zygote."""
    return {
        "module": found.module[:MAX_TEXT],
        "path": found.path[:MAX_TEXT],
        "expected": found.expected,
        "found": found.found,
    }


def read_blocked(frame: Frame) -> Blocked:
    """What such a frame tells; `IpcError` if it tells nothing."""
    names = ("module", "path", "expected", "found")
    return Blocked(*(str(field(frame, name, str))[:MAX_TEXT] for name in names))
