"""What somebody else keeps of a log: its newest checkpoint, and the way that led there.

A testimony has sizes that the log once had, and the hashes between them. From these follow the root of each size, and the
root of the last must be what the checkpoint has signed. So whoever remembers an earlier testimony sees whether
the log still begins as it did, without having a line of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from cardoon.transparency.handover import Statement
from cardoon.transparency.notes import MAX_NOTE_BYTES, NoteError, SignedNote, parse_note
from cardoon.transparency.tree import MAX_SIZE, Frontier, Span
from cardoon.transparency.verifying import Witness

MAX_STEPS = 32
OLD_STEPS = 8
"""Of those that are not young any more, so many stay beside the first, far from each other."""
MAX_BYTES = 64 * 1024


class ForkError(ValueError):
    """A checkpoint that is signed as it should be, of a log that does not lead there."""


class Conflict(NamedTuple):
    """Two testimonies of one log that cannot both be true."""

    is_rollback: bool
    """Whether the log is shorter than it was; else it is another one."""
    detail: str


class Step(NamedTuple):
    """A size that the log had."""

    size: int
    time: int
    """Until when it was the last one, in seconds since the epoch, as its owner says; only thins steps out."""
    span: Span
    """From the step before; of the first one, from the log's first record."""


@dataclass(frozen=True)
class Testimony:
    """A log's newest checkpoint, the one that introduced its key, and steps that lead to it."""

    certificate: SignedNote
    newest: SignedNote
    steps: tuple[Step, ...]

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.newest.note.origin

    @property
    def size(self) -> int:
        """Records that are signed."""
        return self.newest.note.size

    @cached_property
    def roots(self) -> Mapping[int, bytes]:
        """The root of each size, as the steps have it; the last is the checkpoint's, once `check` has passed."""
        way = Span(0)
        found = {}
        for step in self.steps:
            way.join(step.span)
            found[step.size] = way.root()
        return found

    def check(self, witness: Witness) -> str:
        """The identity that stands for it.

        `ValueError` unless one does that `witness` trusts, `ForkError` if the steps do not lead to the checkpoint.
        """
        certificate, newest = self.certificate.note, self.newest.note
        if (certificate.origin, certificate.epoch) != (newest.origin, newest.epoch):
            raise ValueError("its key was introduced for another log or epoch")
        self.certificate.verify(certificate.key)
        self.newest.verify(certificate.key)
        statement = Statement(newest.origin, newest.epoch, certificate.key)
        name = witness(certificate.identity, statement)
        if self.roots.get(newest.size) != newest.root:
            raise ForkError(f"the way to its {newest.size} records leads elsewhere")
        return name

    def extend(
        self,
        newest: SignedNote,
        certificate: SignedNote,
        span: Span,
        *,
        now: float,
        young_seconds: float,
    ) -> Testimony:
        """The testimony of a later checkpoint, by the hashes since the last.

        A step stays for `young_seconds` after it was the last one; then most are dropped.
        """
        steps = list(self.steps)
        if span.end > span.start:
            steps[-1] = steps[-1]._replace(time=int(now))
            steps.append(Step(newest.note.size, int(now), span))
        while len(steps) > MAX_STEPS or _count_old(steps, now - young_seconds) > OLD_STEPS:
            _thin(steps, now - young_seconds)
        return Testimony(certificate, newest, tuple(steps))

    def find_conflict(self, later: Testimony, *, is_recent: bool) -> Conflict | None:
        """Why a later testimony of the same log cannot be true, if this one is.

        `is_recent` says that this one is so new that each later one still has its last step. The first step is in all.
        """
        if later.size < self.size:
            return Conflict(True, f"{later.size} records are signed, and {self.size} were")
        common = self.roots.keys() & later.roots.keys()
        for size in sorted(common):
            if self.roots[size] != later.roots[size]:
                return Conflict(False, f"its first {size} records are not those that were signed")
        if self.size not in common and (is_recent or not common):
            told = f"nothing shows that its first {self.size} records are those that were signed"
            return Conflict(False, told)
        return None

    def encode(self) -> bytes:
        """As it is kept."""
        told = {
            "certificate": self.certificate.encode().decode(),
            "newest": self.newest.encode().decode(),
            "steps": [[one.size, one.time, _hex(one.span)] for one in self.steps],
        }
        return json.dumps(told).encode()


def begin_testimony(newest: SignedNote, certificate: SignedNote, tree: Frontier) -> Testimony:
    """The testimony of a log that nobody has testified to before."""
    span = Span(0, newest.note.size, tree.nodes)
    return Testimony(certificate, newest, (Step(newest.note.size, newest.note.time, span),))


def parse_testimony(content: bytes) -> Testimony:
    """Read one; `ValueError` for what is none. What it says is not checked yet."""
    if len(content) > MAX_BYTES:
        raise ValueError(f"a testimony of {len(content)} bytes; at most {MAX_BYTES}")
    try:
        told: Any = json.loads(content)
        notes = [_parse_note(told[word]) for word in ("certificate", "newest")]
        steps = _parse_steps(told["steps"])
    except NoteError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("no testimony of an audit log") from error
    certificate, newest = notes
    if steps[-1].size != newest.note.size:
        raise ValueError("a testimony whose last step is not its checkpoint")
    return Testimony(certificate, newest, steps)


def name_of(origin: str) -> str:
    """What a log's testimony lies under: no longer than names may be."""
    return hashlib.sha256(origin.encode()).hexdigest()


def _parse_note(text: object) -> SignedNote:
    if not isinstance(text, str):
        raise TypeError("no note")
    return parse_note(text[: MAX_NOTE_BYTES + 1].encode())


def _parse_steps(told: Sequence[Any]) -> tuple[Step, ...]:
    if not isinstance(told, list) or not 1 <= len(told) <= MAX_STEPS:
        raise ValueError("no steps, or too many")
    steps = []
    start = 0
    for size, time, text in told:
        if type(size) is not int or type(time) is not int or not start <= size <= MAX_SIZE:
            raise ValueError("no step")
        nodes = [bytes.fromhex(text[at : at + 64]) for at in range(0, len(text), 64)]
        steps.append(Step(size, time, Span(start, size, nodes)))
        start = size
    return tuple(steps)


def _count_old(steps: Sequence[Step], young_since: float) -> int:
    return sum(step.time < young_since for step in steps[1:-1])


def _thin(steps: list[Step], young_since: float) -> None:
    """Drop the old step whose neighbours are nearest to each other; never the first or the last."""
    old = [at for at in range(1, len(steps) - 1) if steps[at].time < young_since]
    index = min(
        old or range(1, len(steps) // 2),
        key=lambda at: steps[at + 1].size - steps[at - 1].size,
    )
    gone, after = steps[index], steps[index + 1]
    span = Span(gone.span.start, gone.span.end, gone.span.nodes)
    span.join(after.span)
    steps[index : index + 2] = [after._replace(span=span)]


def _hex(span: Span) -> str:
    return b"".join(span.nodes).hex()
