"""Takes the checks of the gate out, one at a time: some test must notice each time.

    python -m tests.mutation.run                          # all modules, all kinds: minutes
    python -m tests.mutation.run --only gate --kind raise
    make mutate

Prints each mutant that nothing noticed, with its file and line, and exits with 1 if there is one that
`accepted.toml` does not explain, or an explanation that is of no mutant any more.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from tests.mutation.running import KILLED, Judge

ROOT = Path(__file__).parents[2]
ACCEPTED = Path(__file__).with_name("accepted.toml")
KINDS = ("raise", "call", "if", "compare", "word", "not")

MODULES = {
    "gate": "cardoon.security.gate",
    "trust": "cardoon.security.trust",
    "chains": "cardoon.security.chains",
    "revocation": "cardoon.security.revocation",
    "keys": "cardoon.security.keys",
    "rules": "cardoon.security.rules",
    "origins": "cardoon.security.origins",
    "sessions": "cardoon.security.sessions",
    "sealing": "cardoon.security.sealing",
    "orders": "cardoon.worker.orders",
    "envelope": "cardoon.message.envelope",
    "cbor": "cardoon.message.cbor",
    "claims": "cardoon.message.claims",
    "merkle": "cardoon.message.merkle",
    "protocol": "cardoon.message.protocol",
    "headers": "cardoon.message.headers",
    "requests": "cardoon.message.requests",
    "opening": "cardoon.worker.opening",
    "netrules": "cardoon.sandbox.netrules",
}
"""What is mutated, by a short name."""
TESTS = (
    *(f"tests/unit/security/test_{name}.py" for name in ("gate", "trust", "revocation", "keys")),
    *(f"tests/unit/security/test_{name}.py" for name in ("policy", "replay", "signing")),
    *(
        f"tests/unit/message/test_{name}.py"
        for name in ("cbor", "claims", "envelope", "headers", "merkle")
    ),
    *("tests/vectors/test_vectors.py", "tests/vectors/test_wycheproof.py", "tests/security"),
    *("tests/vectors/test_sealed.py", "tests/unit/worker/test_orders.py"),
    *("tests/unit/worker/test_origins.py", "tests/unit/worker/test_places.py"),
    "tests/unit/security/test_sealing.py",
    *("tests/mutation/test_corners.py", "tests/sandbox/test_netrules.py"),
    "tests/sandbox/test_merging.py",
)
FEW = ("tests/unit/security/test_gate.py", "tests/vectors/test_vectors.py")
"""Enough for what `raise` stands in the gate."""
LEFT_OUT = (
    *("test_pickles", "test_amqp_headers", "test_broadcasts", "test_other_tools", "test_bombs"),
    *("test_the_files_are_what", "test_every_file_has", "test_workflows", "test_threads_never"),
    *("test_a_session_ends_after", "test_no_bit_can_be_changed"),
    "test_whatever_a_row_says",
)
"""Tests that start processes or servers, take long, or say nothing of the modules."""


def read_accepted() -> dict[tuple[str, str], str]:
    """The mutants that change nothing which can be seen, each with the reason."""
    found = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))
    return {
        (MODULES[name], mutant): why
        for name, mutants in found.items()
        for mutant, why in mutants.items()
    }


def main() -> int:
    """Judge the mutants; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", action="append", choices=MODULES, help="modules; all unless given"
    )
    parser.add_argument("--kind", action="append", choices=KINDS, help="kinds; all unless given")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--few-tests", action="store_true", help="those of the gate alone")
    given = parser.parse_args()
    modules = [MODULES[name] for name in given.only or MODULES]
    return run(
        modules, given.kind or KINDS, jobs=given.jobs, tests=FEW if given.few_tests else TESTS
    )


def run(modules: list[str], kinds: tuple[str, ...], *, jobs: int, tests: tuple[str, ...]) -> int:
    """Judge mutants of some kinds, and tell of those that survive."""
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(modules, kinds=kinds, jobs=jobs, folder=Path(folder))
        words = " and ".join(f"not {name}" for name in LEFT_OUT)
        options = ["-q", "--no-header", "-p", "no:cacheprovider"]
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            pytest.main(
                [*options, "-m", "not slow", "-k", words, "--rootdir", str(ROOT), *tests],
                plugins=[judge, Quick()],
            )
    if judge.broken:
        print(judge.broken)
        return 2
    accepted = read_accepted()
    survivors = [one for one in judge.verdicts if one.outcome != KILLED]
    unexplained = [one for one in survivors if (one.module, one.mutant.name) not in accepted]
    for one in unexplained:
        path = one.module.replace(".", "/")
        print(f"src/{path}.py:{one.mutant.line}: {one.outcome}: {one.mutant.name}")
    known = {(one.module, one.mutant.name) for one in survivors}
    stale = []
    if tests is TESTS and set(kinds) == set(KINDS):
        stale = [key for key in accepted if key[0] in modules and key not in known]
        for module, name in stale:
            print(f"{ACCEPTED.name}: nothing survives as {module}: {name}")
    counted = collections.Counter(one.outcome for one in judge.verdicts)
    print(
        f"{len(judge.verdicts)} mutants, {counted[KILLED]} noticed, "
        f"{len(survivors) - len(unexplained)} explained, {len(unexplained)} not"
    )
    return int(bool(unexplained or stale or not judge.verdicts))


class Quick:
    """Hypothesis is to try the same few values each time."""

    @staticmethod
    def pytest_configure() -> None:
        """Before anything is collected."""
        # Not before pytest, which wants to see a plugin's modules first.
        from hypothesis import HealthCheck, settings  # noqa: PLC0415

        settings.register_profile(
            "mutation",
            max_examples=30,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutation")


if __name__ == "__main__":
    sys.exit(main())
