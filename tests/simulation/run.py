"""Many histories: `python tests/simulation/run.py --seeds 1000`; then each part is switched off in turn."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.simulation import history  # found by the line above
from tests.simulation.switches import Off

Task = tuple[int, Off]
_MOST_SHOWN = 10


def main() -> int:
    """Run them, and print what went wrong; exits with 1 if anything did, or if a control was not caught."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--controls", type=int, default=100, help="seeds for each part that is off")
    parser.add_argument("--off", type=Off, action="append", choices=list(Off), metavar="PART")
    options = parser.parse_args()
    parts = options.off or list(Off)
    is_good = True
    with multiprocessing.Pool(initializer=history.quiet) as pool:
        for off in parts:
            count = options.seeds if off is Off.NOTHING else min(options.seeds, options.controls)
            tasks = [(seed, off) for seed in range(options.first, options.first + count)]
            begun = time.perf_counter()
            bad = 0
            kinds: Counter[str] = Counter()
            for (seed, _), wrong in zip(tasks, pool.imap(_run, tasks, chunksize=4), strict=True):
                bad += bool(wrong)
                kinds.update({one.partition(":")[0] for one in wrong})
                if off is Off.NOTHING and wrong and bad <= _MOST_SHOWN:
                    print(f"seed {seed}: {'; '.join(wrong)}")
            took = time.perf_counter() - begun
            told = ", ".join(f"{kind} in {number}" for kind, number in kinds.most_common())
            print(
                f"{off.value} off: {bad} of {count} histories went wrong in {took:.0f} s; {told or 'none'}",
                flush=True,
            )
            is_good &= (bad == 0) if off is Off.NOTHING else (bad > 0)
    return 0 if is_good else 1


def _run(task: Task) -> list[str]:
    return history.run(*task)


if __name__ == "__main__":
    sys.exit(main())
