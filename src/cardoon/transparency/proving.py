"""Makes proofs of a log's records that lead to its newest checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cardoon.transparency.lines import find_tree, read_lines
from cardoon.transparency.notes import NoteError, SignedNote
from cardoon.transparency.places import Places, notes_of
from cardoon.transparency.tree import Frontier, Leaves
from cardoon.transparency.verifying import read_notes


class Shown(NamedTuple):
    """What somebody is given who is to believe one record, or that nothing before was changed."""

    line: bytes
    """The record's line; empty where two sizes are compared."""
    hashes: Sequence[bytes]
    note: SignedNote


def prove_record(path: Path, seq: int) -> Shown:
    """That a record is in the log; `ValueError` if no checkpoint covers it, or the lines are not those signed."""
    leaves, note, line = _gather(path, seq)
    return Shown(line, leaves.prove(seq, note.note.size).hashes, note)


def prove_consistency(path: Path, old: int) -> Shown:
    """That the log of the first `old` records is the beginning of the one that is signed; else `ValueError`."""
    leaves, note, _ = _gather(path, -1)
    return Shown(b"", leaves.prove_consistency(old, note.note.size), note)


def _gather(path: Path, seq: int) -> tuple[Leaves, SignedNote, bytes]:
    logs = [*Places(path).earlier(), path]
    note: SignedNote | None = None
    for log in logs:
        for one in read_notes(notes_of(log)):
            note = note if isinstance(one, NoteError) else one
    if note is None:
        raise ValueError("no checkpoint yet; a worker makes them")
    leaves: Leaves | None = None
    found = b""
    for log in logs:
        with log.open("rb") as stream:
            for line in read_lines(stream):
                if leaves is None:
                    leaves = Leaves(find_tree(line)[0])
                if leaves.size == seq:
                    found = line.text
                leaves.append(line.leaf)
    if leaves is None:
        leaves = Leaves(Frontier())
    size = note.note.size
    if size > leaves.size or leaves.root(size) != note.note.root:
        raise ValueError(
            f"the first {size} records are not those that were signed; run `cardoon audit verify`"
        )
    return leaves, note, found
