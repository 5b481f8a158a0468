"""The run: every peer in turn within each measurement, every measurement in each repetition."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from subprocess import SubprocessError

from benchmarks import canvas, machine, measure, report
from benchmarks.measure import ROOT, Figures, PeerError
from benchmarks.peers import PEERS, Peer
from benchmarks.report import Run

_DEPTH_TASKS = 10_000
_SHALLOW, _DEEP = 1_000, 100_000

Measured = Iterator[tuple[str, Figures]]


class Benchmark:
    """The measurements, by name; each yields figures for one row or for several."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.steps: dict[str, Callable[[Peer], Measured]] = {
            "drain": lambda peer: self._send_and_drain(peer, "send", results=False),
            "bulk": lambda peer: self._send_and_drain(peer, "bulk", results=False),
            "results": lambda peer: self._send_and_drain(peer, "send", results=True),
            "bulk-results": lambda peer: self._send_and_drain(peer, "bulk", results=True),
            "latency": self._latency,
            "depth": self._depth,
        }

    def run(self) -> list[Run]:
        """Measure everything that was asked for; prints a line for each figure."""
        runs: list[Run] = []
        for repetition in range(self._options.reps):
            # Whoever comes first finds a colder machine, so they take turns.
            turn = repetition % len(PEERS)
            for step, measured in self.steps.items():
                for peer in (*PEERS[turn:], *PEERS[:turn]):
                    if self._is_wanted(peer, step):
                        runs += self._run_one(measured, step, peer, repetition)
        return runs

    def _is_wanted(self, peer: Peer, step: str) -> bool:
        if "bulk" in step and not peer.has_bulk:
            return False
        if step == "depth" and not peer.is_signed:
            return False
        chosen = self._options.only
        return not chosen or any(_chooses(text, peer, step) for text in chosen)

    def _run_one(
        self, measured: Callable[[Peer], Measured], step: str, peer: Peer, repetition: int
    ) -> Iterator[Run]:
        try:
            for name, figures in measured(peer):
                yield _told(Run(name, peer.name, repetition, figures))
        except (PeerError, SubprocessError, ZeroDivisionError) as error:
            yield _told(Run(step, peer.name, repetition, {"error": str(error)[-500:]}))

    def _send_and_drain(self, peer: Peer, action: str, *, results: bool) -> Measured:
        """Send, and drain what was sent. Sending is measured once, without results."""
        count = max(100, round(self._options.tasks * peer.share))
        in_bulk = action == "bulk"
        with measure.site(peer, self._options.dir, results=results) as place:
            sent = measure.measure_sending(place, action, count)
            if not results:
                yield report.BULK if in_bulk else report.SEND, sent
            drained = measure.measure_drain(place, count)
        match results, in_bulk:
            case False, False:
                yield report.DRAIN, drained
            case False, True:
                yield report.DRAIN_BATCH, drained
            case True, False:
                yield report.RESULTS, drained
            case True, True:
                yield report.RESULTS_BATCH, drained

    def _latency(self, peer: Peer) -> Measured:
        count = max(50, round(self._options.latency * peer.share))
        with measure.site(peer, self._options.dir, results=True) as place:
            told = measure.measure_latency(place, count)
        yield report.LATENCY, {"p50": told["p50"], "cpu_us": told["cpu_us"]}
        yield report.LATENCY_TAIL, {"p99": told["p99"]}
        yield report.IDLE, {"idle": told["idle"]}

    def _depth(self, peer: Peer) -> Measured:
        count = min(_DEPTH_TASKS, self._options.tasks)
        for name, depth in ((report.SHALLOW, _SHALLOW), (report.DEEP, _DEEP)):
            with measure.site(peer, self._options.dir, results=False) as place:
                yield name, measure.measure_depth(place, depth=depth, count=count)


def main() -> int:
    """Measure, and print the table."""
    options = _parse_options()
    options.dir.mkdir(parents=True, exist_ok=True)
    if options.what == "canvas":
        return canvas.main(options)
    about = machine.describe(options.dir)
    print("  ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    runs = Benchmark(options).run()
    table = report.make_table(runs)
    print(f"\n{report.align(table)}\n")
    warnings = report.warnings_of(runs)
    for warning in warnings:
        print(f"! {warning}")
    if options.json:
        told = {
            "machine": about,
            "tasks": options.tasks,
            "repetitions": options.reps,
            "runs": [run._asdict() for run in runs],
            "table": table,
            "warnings": warnings,
        }
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", default="peers", choices=["peers", "canvas"])
    parser.add_argument("--tasks", type=int, default=10_000, help="messages in one measurement")
    parser.add_argument("--reps", type=int, default=3, help="repetitions of everything")
    parser.add_argument("--latency", type=int, default=1_000, help="round trips in one measurement")
    parser.add_argument(
        "--only",
        action="append",
        metavar="PEER[:STEP,...]",
        help="a peer (or 'all') and steps of drain, bulk, results, bulk-results, latency, depth; "
        "may be repeated",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--dir", type=Path, default=ROOT / "benchmarks" / "out", help="the disk")
    parser.add_argument("--quick", action="store_true", help="one short repetition, about a minute")
    options = parser.parse_args()
    if options.quick:
        options.tasks, options.reps, options.latency = 3_000, 1, 300
    options.dir = options.dir.resolve()
    return options


def _chooses(text: str, peer: Peer, step: str) -> bool:
    name, _, steps = text.partition(":")
    return name in {"all", peer.name} and (not steps or step in steps.split(","))


def _told(run: Run) -> Run:
    shown: Sequence[str] = [
        f"{name} {value:,.2f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in run.figures.items()
    ]
    print(f"{time.strftime('%H:%M:%S')} {run.peer:15} {run.measurement:34}", *shown, flush=True)
    return run


if __name__ == "__main__":
    sys.exit(main())
