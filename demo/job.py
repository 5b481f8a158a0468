"""The job: index a folder by hundreds of tasks, and show what comes of it."""

from __future__ import annotations

import os
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tasks
from indexing import SUFFIXES
from project import DemoError, Project
from screen import Progress, Screen

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()

MAX_FILES = 5000
MAX_FILE_BYTES = 1 << 20
"""Larger texts are data more often than they are read by people."""
MAX_INDEX_TASKS = 1000
"""With more files than that, each task is given several."""
FAN_IN = 16
"""Indexes that one task merges."""
_UNREAD = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_UNREAD_STANDARD = _UNREAD | {"test", "tests", "idle_test", "encodings"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The files to index."""

    folder: Path
    paths: Sequence[str]
    bytes: int
    left_out: int
    """Files beyond `MAX_FILES`."""


def find_files(folder: Path) -> Library:
    """The texts below a folder, in a fixed order; `DemoError` if there are none."""
    unread = _UNREAD_STANDARD if folder == STANDARD_LIBRARY else _UNREAD
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in unread and name[0] != ".")
        found += filter(_is_readable, (Path(place, name) for name in sorted(names)))
    if not found:
        raise DemoError(f"{folder}: no texts there ({', '.join(sorted(SUFFIXES))})")
    taken = found[:MAX_FILES]
    return Library(
        folder=folder,
        paths=[str(path.relative_to(folder)) for path in taken],
        bytes=sum(path.stat().st_size for path in taken),
        left_out=len(found) - len(taken),
    )


def run_job(screen: Screen, project: Project, library: Library) -> str:
    """Index a library; return the name of the index."""
    count = len(library.paths)
    screen.head("3  A job", f"index {count} texts, {library.bytes / 1e6:.1f} MB: {library.folder}")
    screen.explain(
        "Each task is signed here, verified by the worker, and its result verified here."
    )
    if library.left_out:
        screen.explain(f"The first {count} files; {library.left_out} more are left out.")
    began = time.monotonic()
    size = -(-count // MAX_INDEX_TASKS)
    numbered = [(str(number), path) for number, path in enumerate(library.paths)]
    batches = [dict(numbered[start : start + size]) for start in range(0, count, size)]
    names = [f"part-{number}" for number in range(len(batches))]
    calls = [(str(library.folder), *call) for call in zip(names, batches, strict=True)]
    progress = Progress(screen, "indexed", len(calls))
    words = 0
    for done, result in enumerate(tasks.index.send_many(calls), start=1):
        words += project.wait_for(result)
        progress.update(done)
    sent = len(calls)
    while len(names) > 1:
        groups = [names[start : start + FAN_IN] for start in range(0, len(names), FAN_IN)]
        names = [f"merged-{sent + number}" for number in range(len(groups))]
        for result in tasks.merge.send_many(zip(names, groups, strict=True)):
            project.wait_for(result)
        sent += len(names)
    took = time.monotonic() - began
    screen.write(f"{words:,} words in {sent} signed tasks: {took:.1f} s, {sent / took:.0f} tasks/s")
    return names[0]


def show_summary(screen: Screen, summary: tasks.Summary) -> None:
    """The most linked names and the most frequent words."""
    screen.write()
    screen.chart("Most imported or linked", summary["links"])
    words = ", ".join(f"{word} ({count:,})" for word, count in summary["words"])
    screen.write()
    screen.write(f"Most frequent of {summary['distinct_words']:,} words: {words}")


def show_answers(screen: Screen, query: str, answers: Sequence[tasks.Answer]) -> None:
    """What the index answers to a query."""
    screen.write()
    screen.write(f"Query: {query}")
    for answer in answers:
        screen.write(f"  {answer['score']:6.2f}  {answer['path']}:{answer['line']}")
        screen.explain(f"          {_printable(answer['excerpt'])}")
    if not answers:
        screen.write("  no text has any of these words")


def _is_readable(path: Path) -> bool:
    return (
        path.suffix in SUFFIXES
        and str(path).isprintable()  # as names that are not UTF-8 are not
        and path.is_file()
        and path.stat().st_size <= MAX_FILE_BYTES
        and os.access(path, os.R_OK)
    )


def _printable(text: str) -> str:
    """A line of a file, unable to move the cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
