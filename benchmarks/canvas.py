"""Canvases of growing size: seconds and bytes for each member, which should not grow.

python -m benchmarks canvas
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import machine, measure, servers
from benchmarks.peers import PEERS, Peer
from benchmarks.report import align
from benchmarks.servers import Store

_SIZES = {"chain": (100, 1000), "chord": (100, 1000, 10_000), "group": (100, 1000, 10_000)}
_HEAD = ("canvas", "members", "sent in", "done in", "sent, a member", "done, a member", "bytes")


class Measured(NamedTuple):
    """One canvas, sent and run; seconds."""

    sent: float
    done: float


def main(options: argparse.Namespace) -> int:
    """Measure every kind in every size, and print a table."""
    peer = next(one for one in PEERS if one.is_signed and one.broker == "sqlite")
    print("  ".join(f"{name} {value}" for name, value in machine.describe(options.dir).items()))
    with servers.open_store("sqlite", options.dir) as store:
        rows = _measure(peer, store, options)
    print(f"\n{align(rows)}")
    return 0


def _measure(peer: Peer, store: Store, options: argparse.Namespace) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [_HEAD]
    with measure.site(peer, store, options.dir, results=True) as place, place.worker():
        place.client("latency", 50)
        for kind, sizes in _SIZES.items():
            for size in sizes:
                runs = [
                    Measured(**place.client(f"canvas-{kind}", size)) for _ in range(options.reps)
                ]
                data = _bytes_of(peer, store, options.dir, kind=kind, size=size)
                rows.append(_row(kind, size, runs, data))
                print(align([_HEAD, rows[-1]]).splitlines()[-1], flush=True)
    return rows


def _bytes_of(peer: Peer, store: Store, folder: Path, *, kind: str, size: int) -> float:
    """Bytes of signed messages for each member."""
    with measure.site(peer, store, folder, results=True) as place:
        place.client(f"sent-{kind}", size)
        path = place.folder / ".cardoon" / "cardoon.db"
        with contextlib.closing(sqlite3.connect(path)) as database:
            (total,) = database.execute("SELECT sum(length(frame)) FROM frame").fetchone()
    return float(total) / size


def _row(kind: str, size: int, runs: Sequence[Measured], data: float) -> tuple[str, ...]:
    sent = statistics.median(run.sent for run in runs)
    done = statistics.median(run.done for run in runs)
    each = [f"{seconds / size * 1e6:,.0f} us" for seconds in (sent, done)]
    return (kind, f"{size:,}", f"{sent:.3f} s", f"{done:.3f} s", *each, f"{data:,.0f}")
