"""`python -m escapes`: all attempts, or some; exits with 1 if one gets out that is not documented."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from escapes import report
from escapes.catalogue import QUICK, all_attempts
from escapes.deployment import Deployed
from escapes.matrix import ATTEMPTS, LEVELS, PEOPLE, Attempt
from escapes.runners import Forking, Runner, packages
from escapes.scene import Scene, prepare
from escapes.trial import Row, run

NOBODY = 65534
_WAYS = ("worker", "fork")


def main() -> int:
    """Run what was asked for, and print the table."""
    options = _parse_options()
    if options.list:
        for one in _chosen(options.only):
            print(f"{one.name}  [{one.category}]  {one.text}")
        return 0
    if options.scene:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is ended
        for row in run_here(options, options.scene):
            print(json.dumps(dataclasses.asdict(row)), flush=True)
        return 0
    rows = []
    for person in getattr(options, "as"):
        for row in run_as(person):
            print(report.describe(row), flush=True)
            rows.append(row)
            if options.json:
                told = [dataclasses.asdict(one) for one in rows]
                options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"\n{report.make_table(rows)}\n")
    return 1 if any(row.is_finding for row in rows) else 0


def run_as(person: str) -> Iterator[Row]:
    """The same program once more, as that person, on a scene of its own."""
    if person == "root" and os.getuid() != 0:
        raise SystemExit("escapes: --as root needs root")
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    is_other = person == "user" and os.getuid() == 0
    with tempfile.TemporaryDirectory(prefix="cardoon-escapes-") as name:
        folder = prepare(Path(name))
        if is_other:
            os.chown(folder, NOBODY, NOBODY)
        paths = (str(Path(__file__).parent.parent), *packages())
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        if is_other:
            environment["HOME"] = str(folder)
        program = subprocess.Popen(
            [_interpreter(), "-m", "escapes", "--scene", str(folder), *sys.argv[1:]],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            **(user if is_other else {}),  # type: ignore[call-overload]
        )
        assert program.stdout is not None
        for line in program.stdout:
            if line.startswith("{"):
                yield Row(**json.loads(line))
        if program.wait():
            raise SystemExit(f"escapes: as {person} it ended with {program.returncode}")


def _interpreter() -> str:
    """One that tasks of a worker that is root can read, who are nobody; this one, or the system's."""
    version = ".".join(map(str, sys.version_info[:2]))
    candidates = [sys.executable, f"/usr/bin/python{version}"]
    if os.getuid() != 0:
        return sys.executable
    for one in candidates:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([one, "-c", ""], check=True, user=NOBODY, group=NOBODY, extra_groups=[])
            return one
    raise SystemExit(
        f"escapes: uid {NOBODY} can run none of {', '.join(candidates)}; use an interpreter that is not "
        "closed to others (make PYTHON=/usr/bin/python3)"
    )


def run_here(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """As whoever this is: the control first, then each level."""
    person = "root" if os.getuid() == 0 else "user"
    chosen = _chosen(options.only)
    runners = [(level, _runner(options.through, level)) for level in ("", *options.level)]
    for number, (level, runner) in enumerate(runners):
        own = folder / f"run{number}"
        own.mkdir(mode=0o755)
        scene = Scene(own, planted=folder.parent)
        try:
            yield from run(chosen, runner, scene, person=person, level=level)
        finally:
            scene.close()


def _runner(through: str, level: str) -> Runner:
    """The control is always a bare process: it has what its worker has."""
    if level and through == "worker":
        return Deployed(level)
    return Forking(level)


def _chosen(only: list[str]) -> list[Attempt]:
    return [one for one in all_attempts() if not only or {one.name, one.category} & set(only)]


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m escapes", description=__doc__)
    parser.add_argument("--level", type=lambda text: _names(text, LEVELS), default=list(LEVELS))
    people = list(PEOPLE) if os.getuid() == 0 else ["user"]
    parser.add_argument("--as", type=lambda text: _names(text, PEOPLE), default=people)
    known = (*ATTEMPTS, *dict.fromkeys(one.category for one in ATTEMPTS.values()), "quick")
    parser.add_argument(
        "--only",
        type=lambda text: list(QUICK) if text == "quick" else _names(text, known),
        default=[],
        help="names of attempts or categories, with commas, or quick: those that run with the tests",
    )
    parser.add_argument(
        "--through", choices=_WAYS, default="worker", help="a real worker, or a process that forks"
    )
    parser.add_argument("--list", action="store_true", help="say what there is, and do nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--scene", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _names(text: str, known: tuple[str, ...]) -> list[str]:
    names = text.split(",") if text else []
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; use {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
