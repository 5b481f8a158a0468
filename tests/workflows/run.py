"""Perform many random canvases: `python tests/workflows/run.py --count 10000`."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.workflows.acting import Theatre  # found by the line above


def run(count: int, seed: int, stores: list[str]) -> int:
    """Perform `count` canvases on each store; return the exit status."""
    failures = 0
    for store in stores:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            theatre = Theatre(Path(folder), store=store)
            for number in range(seed, seed + count):
                random = Random(number)
                try:
                    theatre.perform(
                        random,
                        trouble=random.choice((0.0, 0.1, 0.3)),
                        faults=random.choice((0.0, 0.1, 0.3)),
                    )
                except Exception:  # noqa: BLE001  # whatever it is, it is what we look for
                    failures += 1
                    traceback.print_exc()
                    print(f"seed {number} on {store}", flush=True)
                    if failures >= 10:
                        return 1
            theatre.close()
        seconds = time.perf_counter() - started
        print(f"{count:,} canvases on {store} in {seconds:.0f} s", flush=True)
    return 1 if failures else 0


def main() -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", choices=["memory", "sqlite"], action="append")
    arguments = parser.parse_args()
    logging.getLogger("cardoon").setLevel(logging.ERROR)  # lost leases are what this is about
    return run(arguments.count, arguments.seed, arguments.store or ["memory", "sqlite"])


if __name__ == "__main__":
    sys.exit(main())
