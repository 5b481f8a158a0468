"""The run: on each broker every peer in turn within each measurement, everything in each repetition."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from subprocess import SubprocessError

from benchmarks import canvas, integrity, isolated, machine, measure, report
from benchmarks.measure import ROOT, Figures, PeerError
from benchmarks.peers import PEERS, Peer
from benchmarks.report import Run
from benchmarks.servers import STORES, MissingError, Store, open_store
from cardoon import Cardoon
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.exceptions import ImproperlyConfigured

_DEPTH_TASKS = 10_000
_SHALLOW, _DEEP = 1_000, 100_000
_LIBRARIES = {"taskiq": "taskiq_redis"}
"""What a peer of another name than its library needs."""

Measured = Iterator[tuple[str, Figures]]


class Benchmark:
    """The measurements on one broker, by name; each yields figures for one row or for several."""

    def __init__(self, options: argparse.Namespace, store: Store, peers: Sequence[Peer]) -> None:
        self._options = options
        self._store = store
        self._peers = peers
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
            turn = repetition % max(1, len(self._peers))
            for step, measured in self.steps.items():
                for peer in (*self._peers[turn:], *self._peers[:turn]):
                    if self._is_wanted(peer, step):
                        runs += self._run_one(measured, step, peer, repetition)
        return runs

    def _is_wanted(self, peer: Peer, step: str) -> bool:
        if ("bulk" in step and not peer.has_bulk) or ("results" in step and not peer.has_results):
            return False
        if step == "depth" and (not peer.is_signed or peer.is_sealed):
            return False
        chosen = self._options.only
        return not chosen or any(_chooses(text, peer, step) for text in chosen)

    def _run_one(
        self, measured: Callable[[Peer], Measured], step: str, peer: Peer, repetition: int
    ) -> Iterator[Run]:
        try:
            for name, figures in measured(peer):
                yield _told(Run(peer.broker, name, peer.name, repetition, figures))
        except (PeerError, SubprocessError, ZeroDivisionError) as error:
            figures = {"error": str(error)[-500:]}
            yield _told(Run(peer.broker, step, peer.name, repetition, figures))

    def _site(
        self, peer: Peer, *, results: bool
    ) -> contextlib.AbstractContextManager[measure.Site]:
        return measure.site(peer, self._store, self._options.dir, results=results)

    def _send_and_drain(self, peer: Peer, action: str, *, results: bool) -> Measured:
        """Send, and drain what was sent. Sending is measured once, without results."""
        count = max(100, round(self._options.tasks * peer.share))
        in_bulk = action == "bulk"
        with self._site(peer, results=results) as place:
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
        with self._site(peer, results=True) as place:
            told = measure.measure_latency(place, count)
        yield report.LATENCY, {"p50": told["p50"], "cpu_us": told["cpu_us"]}
        yield report.LATENCY_TAIL, {"p99": told["p99"]}
        yield report.IDLE, {"idle": told["idle"]}

    def _depth(self, peer: Peer) -> Measured:
        count = min(_DEPTH_TASKS, self._options.tasks)
        for name, depth in ((report.SHALLOW, _SHALLOW), (report.DEEP, _DEEP)):
            with self._site(peer, results=False) as place:
                yield name, measure.measure_depth(place, depth=depth, count=count)


def main() -> int:
    """Measure, and print a table for each broker."""
    options = _parse_options()
    options.dir.mkdir(parents=True, exist_ok=True)
    if options.what == "canvas":
        return canvas.main(options)
    if options.what == "isolated":
        return isolated.main(options)
    if options.what == "integrity":
        return integrity.main(options)
    about = machine.describe(options.dir)
    print("  ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    told = [_measure(name, options) for name in options.broker or STORES]
    for one in told:
        if one["runs"]:
            print(f"\n{one['about']}\n\n{report.align(one['table'])}\n")
            print(*(f"  {line}" for line in one["promises"]), sep="\n")
        for line in (*one["skipped"], *one["warnings"]):
            print(f"! {line}")
    if options.json:
        settings = {"tasks": options.tasks, "repetitions": options.reps}
        whole = {"machine": about, **settings, "brokers": told}
        options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return 0 if all(one["runs"] for one in told) or not options.broker else 1


def _measure(name: str, options: argparse.Namespace) -> Figures:
    """One broker: all runs, and what the report says of them."""
    runs: list[Run] = []
    skipped: list[str] = []
    about = name
    try:
        with open_store(name, options.dir) as store:
            about = store.about
            print(f"\n{about}", flush=True)
            peers = _contestants(store, options, skipped)
            runs = Benchmark(options, store, peers).run()
    except MissingError as error:
        skipped.append(f"{name}: skipped: {error}")
    for line in skipped:
        print(f"! {line}", flush=True)
    return {
        "broker": name,
        "about": about,
        "runs": [run._asdict() for run in runs],
        "table": report.make_table(runs),
        "promises": report.promises_of(runs),
        "skipped": skipped,
        "warnings": report.warnings_of(runs),
    }


def _contestants(store: Store, options: argparse.Namespace, skipped: list[str]) -> list[Peer]:
    """Those that can be measured here; who cannot is told, and why."""
    found = []
    for peer in PEERS:
        if peer.broker != store.name or (peer.is_slow and not options.all):
            continue
        reason = _lack_of(peer, store, options.dir)
        if reason:
            skipped.append(f"{peer.broker}: {peer.name} skipped: {reason}")
        else:
            found.append(peer)
    return found


def _lack_of(peer: Peer, store: Store, folder: Path) -> str:
    """Why a peer cannot be measured, if it cannot."""
    if not peer.is_ours:
        library = _LIBRARIES.get(peer.name, peer.name)
        return "" if importlib.util.find_spec(library) else f"{library} is not installed"
    urls = store.fresh(folder)
    probe = Cardoon("probe")
    probe.conf.update(broker_url=urls.broker, result_backend=urls.results)
    # Without signatures, which would need an identity before anything else.
    probe.conf.update(
        task_serializer="json", accept_content=["json"], state_directory=str(folder / ".cardoon")
    )
    try:
        Deployment(probe.settings, clock=SystemClock()).open_broker().close()
    except ImproperlyConfigured as error:
        return str(error)
    return ""


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "what", nargs="?", default="peers", choices=["peers", "canvas", "isolated", "integrity"]
    )
    parser.add_argument(
        "--broker", action="append", choices=list(STORES),
        help="measure on this one; may be repeated; without it, on all that are installed",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="measure the slowest peers too")
    parser.add_argument("--files", type=int, default=50_000, help="files of `integrity`")
    parser.add_argument("--tasks", type=int, help="messages in one measurement (10,000)")
    parser.add_argument("--reps", type=int, help="repetitions of everything (3)")
    parser.add_argument("--latency", type=int, help="round trips in one measurement (1,000)")
    parser.add_argument(
        "--only",
        action="append",
        metavar="PEER[:STEP,...]",
        help="a peer (or 'all') and steps of drain, bulk, results, bulk-results, latency, depth; "
        "may be repeated",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--dir", type=Path, default=ROOT / "benchmarks" / "out", help="the disk")
    parser.add_argument(
        "--quick", action="store_true", help="one short repetition, about a minute on each broker"
    )
    options = parser.parse_args()
    sizes = (3_000, 1, 300) if options.quick else (10_000, 3, 1_000)
    for name, size in zip(("tasks", "reps", "latency"), sizes, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, size)
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
