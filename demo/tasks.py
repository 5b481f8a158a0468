"""The demo's app: tasks that index a folder, and two for the attacker to aim at.

A worker runs them with `cardoon -A tasks worker`. Each may be carried out twice, as at-least-once
delivery allows, because it writes the same file again.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TypedDict

from indexing import (
    Index,
    find_excerpt,
    index_text,
    merge_indexes,
    rank_links,
    rank_words,
    search_index,
)

from cardoon import Cardoon

app = Cardoon("tasks")

PARTS = Path("parts")
"""Where indexes lie between two tasks, in the project's folder."""
JOURNAL = Path("journal.txt")
_MAX_EXCERPT = 160
"""Characters of a line that is shown."""


class Summary(TypedDict):
    """What there is to say of an index."""

    links: list[tuple[str, int]]
    words: list[tuple[str, int]]
    distinct_words: int


class Answer(TypedDict):
    """One document that answers a query."""

    path: str
    score: float
    line: int
    excerpt: str


@app.task
def index(folder: str, part: str, paths: dict[str, str]) -> int:
    """Index some files, given by number and path below a folder; return how many words they have."""
    found = merge_indexes(
        index_text(number, path, _read(Path(folder) / path)) for number, path in paths.items()
    )
    _save(part, found)
    return sum(document["words"] for document in found["documents"].values())


@app.task
def merge(part: str, parts: list[str]) -> int:
    """Make one index of several; return how many documents it has."""
    merged = merge_indexes(map(_load, parts))
    _save(part, merged)
    return len(merged["documents"])


@app.task
def summarise(part: str, limit: int) -> Summary:
    """The most linked names and the most frequent words of an index."""
    found = _load(part)
    return Summary(
        links=rank_links(found, limit),
        words=rank_words(found, limit),
        distinct_words=len(found["postings"]),
    )


@app.task
def search(folder: str, part: str, query: str, limit: int) -> list[Answer]:
    """Answer a query from an index, with the line of each document that fits best."""
    found = _load(part)
    answers = []
    for hit in search_index(found, query, limit):
        path = found["documents"][hit.number]["path"]
        line, excerpt = find_excerpt(_read(Path(folder) / path), query)
        answers.append(
            Answer(path=path, score=hit.score, line=line, excerpt=excerpt[:_MAX_EXCERPT])
        )
    return answers


@app.task
def note(line: str) -> str:
    """Write a line into the journal, which so shows what was carried out, and how often."""
    with JOURNAL.open("a", encoding="utf-8") as journal:
        journal.write(line + "\n")
    return line


@app.task
def erase() -> None:
    """Delete the index. Nobody in this demo calls it, but the attacker would like to."""
    shutil.rmtree(PARTS, ignore_errors=True)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _load(part: str) -> Index:
    loaded: Index = json.loads((PARTS / f"{part}.json").read_bytes())
    return loaded


def _save(part: str, found: Index) -> None:
    """Write a file that appears whole."""
    PARTS.mkdir(exist_ok=True)
    temporary = PARTS / f"{part}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(found), encoding="utf-8")
    temporary.replace(PARTS / f"{part}.json")
