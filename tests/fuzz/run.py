"""Throws bytes at everything that reads what others have written.

    python -m tests.fuzz.run --target cbor --seconds 600      # or all of them, one after the other
    python -m tests.fuzz.run --engine atheris --target gate   # guided by coverage; pip install '.[fuzz]'
    make fuzz

The corpus is made of the vectors. Prints how often each answer came up, and exits with 1 and the bytes
that did it if anything else came out than an answer or the target's own kind of error.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from tests.fuzz.feeding import Mutator
from tests.fuzz.targets import TARGETS, Target

MAX_GROWTH = 64 << 20
"""Bytes in the second half of a run."""


def main() -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", action="append", choices=TARGETS, help="all unless given")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--count", type=int, help="inputs for each, instead of seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("own", "atheris"), default="own")
    given = parser.parse_args()
    names = given.target or list(TARGETS)
    # A library's warning must not come out as an exception either.
    warnings.simplefilter("error")
    if given.engine == "atheris":
        return run_atheris(names, given.seconds)
    found = [run(name, given.seconds, given.count, given.seed) for name in names]
    return int(any(found))


def run(name: str, seconds: float, count: int | None, seed: int) -> bool:
    """Throw bytes at one target; whether it has failed."""
    target = TARGETS[name]()
    answers: collections.Counter[str] = collections.Counter()
    for data in target.corpus:
        if failed(name, target, data, answers):
            return True
    mutator = Mutator(seed, target.corpus, target.tokens)
    began = time.monotonic()
    done, halfway = 0, 0
    while done < count if count is not None else time.monotonic() - began < seconds:
        if failed(name, target, mutator.make(), answers):
            return True
        done += 1
        is_half = (
            done == count // 2 if count is not None else time.monotonic() - began < seconds / 2
        )
        halfway = peak_memory() if is_half or not halfway else halfway
    growth = peak_memory() - halfway
    shown = ", ".join(f"{times:,} {answer}" for answer, times in answers.most_common(6))
    took = time.monotonic() - began
    print(
        f"{name}: {done:,} inputs in {took:.1f} s: {shown}; {growth / 2**20:.1f} MiB more",
        flush=True,
    )
    if growth > MAX_GROWTH:
        print(f"{name}: memory has grown by {growth:,} bytes; at most {MAX_GROWTH:,}")
        return True
    return False


def failed(name: str, target: Target, data: bytes, answers: collections.Counter[str]) -> bool:
    """Try one input; print it if it has found something."""
    try:
        answers[str(target.run(data))[:40]] += 1
    except Exception:  # noqa: BLE001  # whatever it is, it is what we look for
        traceback.print_exc(file=sys.stdout)
        print(f"{name}: FINDING: {data.hex()}", flush=True)
        return True
    return False


def run_atheris(names: list[str], seconds: float) -> int:
    """The same with libFuzzer: one target, because it ends the process."""
    import atheris  # noqa: PLC0415  # of an extra of its own

    if len(names) != 1:
        print("atheris takes one target; name it with --target")
        return 2
    # Once more, so that our code, and only ours, tells the engine where it comes to.
    for name in [one for one in sys.modules if one.partition(".")[0] == "cardoon"]:
        del sys.modules[name]
    del sys.modules["tests.fuzz.targets"], sys.modules["tests.security.actors"]
    with atheris.instrument_imports(include=["cardoon"]):
        targets = importlib.import_module("tests.fuzz.targets")
    target = targets.TARGETS[names[0]]()
    folder = Path(tempfile.mkdtemp(prefix="cardoon-corpus-"))
    for number, data in enumerate(target.corpus):
        (folder / str(number)).write_bytes(data)
    options = [
        sys.argv[0],
        f"-max_total_time={int(seconds)}",
        "-max_len=65536",
        "-rss_limit_mb=2048",
    ]

    def run_one(data: bytes) -> None:
        target.run(data)  # the engine wants no answer

    atheris.Setup([*options, f"-artifact_prefix={folder}/finding-", str(folder)], run_one)
    atheris.Fuzz()
    return 0


def peak_memory() -> int:
    """Of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main())
