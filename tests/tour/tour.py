"""The tour of the command line: runs its commands, and writes docs/tour.md from what they say.

python -m tests.tour.tour      # after a change of what a command prints
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cardoon

PAGE = Path(__file__).parents[2] / "docs" / "tour.md"
HEAD = """\
# A tour

Everything here was run, on the embedded default, by `python -m tests.tour.tour`, and a test runs it again. Ids and times are replaced.
"""
STEPS = (
    ("Make identities and a project.", ["init ."]),
    ("Start a worker; it goes on in another terminal.", ["-A tasks worker -n here@tour -c 2"]),
    ("Call a task, and wait for its result.", ["-A tasks call add -a '[1, 2]' --wait"]),
    (
        "Ask who is there, and what they know.",
        ["-A tasks status", "-A tasks inspect ping", "-A tasks inspect registered"],
    ),
    ("Where would a task go?", ["-A tasks routes add"]),
    (
        "Let a queue rest: what is sent waits.",
        ["pause celery", "-A tasks call add -a '[3, 4]'", "queues", "resume celery"],
    ),
    (
        "Have something sent every minute, and stop that again.",
        [
            "-A tasks schedule add sums add --every 60s -a '[5, 6]'",
            "-A tasks schedule list",
            "-A tasks schedule pause sums",
        ],
    ),
    ("Look at what the worker trusts.", ["cert list"]),
    ("Have the worker end.", ["-A tasks control shutdown"]),
)
_WHERE = re.compile(r"/\S*?(?=/\.cardoon)")
_REPLACED = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ?"), "<time>"),
    (re.compile(r"\b\d+(\.\d+)?s(?=\s)"), "<age>"),
    (re.compile(r"\b\d+ days"), "<days>"),
    (re.compile(r"(?<=authority )[0-9a-f]{8}"), "<print>"),
    (re.compile(r"  +"), "  "),  # columns are as wide as what was replaced
)


def take() -> str:
    """Run all commands in an empty folder; the page."""
    parts = [HEAD]
    with tempfile.TemporaryDirectory(prefix="tour-") as name:
        folder = Path(name)
        worker: subprocess.Popen[bytes] | None = None
        try:
            for title, lines in STEPS:
                said = []
                for line in lines:
                    if " worker " in line:
                        worker = _start(folder, line)
                        said.append(f"$ cardoon {line} &\n")
                    else:
                        said.append(f"$ cardoon {line}\n{_tidy(_run(folder, line))}")
                parts.append(f"\n{title}\n\n```console\n{''.join(said)}```\n")
            assert worker is not None
            assert worker.wait(30) == 0
        finally:
            if worker is not None and worker.poll() is None:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
    return "".join(parts)


def _environment() -> dict[str, str]:
    sources = str(Path(cardoon.__file__).parents[1])
    path = os.pathsep.join([sources, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"}


def _words(line: str) -> list[str]:
    return [sys.executable, "-m", "cardoon", *re.findall(r"'[^']*'|\S+", line)]


def _run(folder: Path, line: str) -> str:
    words = [word.strip("'") for word in _words(line)]
    done = subprocess.run(
        words, cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    return done.stdout


def _start(folder: Path, line: str) -> subprocess.Popen[bytes]:
    log = folder / "worker.log"
    with log.open("wb") as file:
        words = [*_words(line), "-l", "info"]
        started = subprocess.Popen(words, cwd=folder, env=_environment(), stdout=file, stderr=file)
    deadline = time.monotonic() + 60
    while subprocess.run(
        [*_words("status"), "-t", "5"], cwd=folder, env=_environment(), capture_output=True, check=False
    ).returncode:  # fmt: skip
        assert time.monotonic() < deadline, log.read_text()
        assert started.poll() is None, log.read_text()
    return started


def _tidy(said: str) -> str:
    said = _WHERE.sub(".", said)
    for pattern, text in _REPLACED:
        said = pattern.sub(text, said)
    return "".join(f"{line.rstrip()}\n" for line in said.splitlines())


if __name__ == "__main__":
    PAGE.write_text(take(), encoding="utf-8")
