"""Opening the baseline that settings name: approved, of this host, and no older than one that was seen."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cardoon.exceptions import ImproperlyConfigured
from cardoon.integrity.approval import load_approver
from cardoon.integrity.baseline import Baseline, open_baseline
from cardoon.integrity.serials import highest_serial, note_serial, refuse_older


@dataclass(frozen=True, slots=True)
class Place:
    """Where a host's baseline is, whose signatures count, and where its serial is remembered."""

    baseline: Path
    keys: tuple[Path, ...]
    state: Path
    host: str

    def __post_init__(self) -> None:
        if not self.keys:
            raise ImproperlyConfigured(
                f"integrity_baseline is {str(self.baseline)!r}, and integrity_key is not set; name the public key that "
                "approves baselines"
            )


def make_place(baseline: str, keys: tuple[str, ...], state: Path) -> Place:
    """A place from what settings say; of this host."""
    return Place(
        Path(baseline).expanduser(),
        tuple(Path(one).expanduser() for one in keys),
        state,
        socket.gethostname(),
    )


@contextlib.contextmanager
def judge_approved(place: Place) -> Iterator[Baseline]:
    """Open the baseline; `SecurityError` for one that does not count. Changes nothing."""
    keys = [load_approver(path) for path in place.keys]
    with open_baseline(place.baseline) as baseline:
        baseline.check_approval(keys)
        baseline.check_host(place.host)
        refuse_older(baseline.head.serial, highest_serial(place.state))
        yield baseline


@contextlib.contextmanager
def open_approved(place: Place) -> Iterator[Baseline]:
    """Open the baseline and remember its serial; `SecurityError` for one that does not count."""
    with judge_approved(place) as baseline:
        note_serial(place.state, baseline.head.serial)
        yield baseline
