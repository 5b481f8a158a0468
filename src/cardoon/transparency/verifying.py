"""Judges a log by its files, and names what was done to it: which record, and how.

Two things are held against each other: the lines, each of which knows its number and its predecessor, and
the roots that checkpoints have signed. The lines say where, the roots prove that.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from cardoon.transparency.handover import Statement
from cardoon.transparency.lines import (
    BEGIN,
    MAX_LINE_BYTES,
    Line,
    find_tree,
    read_lines,
    shorten,
)
from cardoon.transparency.notes import MAX_NOTE_BYTES, NoteError, SignedNote, parse_note
from cardoon.transparency.places import Places, notes_of
from cardoon.transparency.trail import GAP, NOTE_END, TORN
from cardoon.transparency.tree import MAX_SIZE, Frontier

MAX_FINDINGS = 1000
"""What is found beyond is counted only: a file of somebody else's is wrong in every line."""
MAX_NOTES = 5_000_000


class Flaw(enum.StrEnum):
    """What is wrong, from harmless to grave."""

    TORN = "torn"
    """A line that its writer could not finish; nothing else is missing."""
    GAP = "gap"
    """Records that could not be written, as the log itself says."""
    UNSEALED = "unsealed"
    """No checkpoint covers any record."""
    UNCERTIFIED = "uncertified"
    """No identity that is trusted stands for the log's keys."""
    UNWITNESSED = "unwitnessed"
    """Where witnesses were asked for, nobody has anything to say of this log."""
    EPOCH_MISSING = "epoch-missing"
    """An epoch whose key nobody has introduced."""
    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    ROOT = "wrong-root"
    """Records are not those that a checkpoint has signed, though they fit each other."""
    SIGNATURE = "bad-signature"
    NOTE = "bad-checkpoint"
    """Text that is no checkpoint, or one that contradicts the one before."""
    ORIGIN = "wrong-log"
    """A checkpoint of another log, or certified by somebody else than the log is called after."""
    TRUNCATED = "truncated"
    """Fewer records than a checkpoint has signed."""
    ROLLBACK = "rollback"
    """Older than a checkpoint from elsewhere."""
    FORK = "fork"
    """Another log than the one that a checkpoint from elsewhere was made of."""


HARMLESS = frozenset({Flaw.TORN})
INCOMPLETE = frozenset(
    {Flaw.GAP, Flaw.UNSEALED, Flaw.UNCERTIFIED, Flaw.UNWITNESSED, Flaw.EPOCH_MISSING}
)
CUT = frozenset({Flaw.TRUNCATED, Flaw.ROLLBACK, Flaw.FORK})


class Finding(NamedTuple):
    """One thing that is wrong."""

    flaw: Flaw
    detail: str
    seq: int | None = None
    """The first record that it is about."""


Witness: TypeAlias = Callable[[bytes, Statement], str]
"""Returns the name of the identity that certifies an epoch in a frame; `ValueError` saying why for none."""


class Witnessed(NamedTuple):
    """What somebody else knows of a log, who has judged its signatures already."""

    newest: SignedNote
    key: bytes
    """Of its epoch."""
    roots: Mapping[int, bytes]
    """By sizes that the log had."""


@dataclass(slots=True)
class Verdict:
    """What was found out about a log."""

    origin: str = ""
    identities: list[str] = field(default_factory=list)
    """Who certified its epochs."""
    first: int = 0
    """The first record that is there; those before are in files that were deleted."""
    size: int = 0
    """Records, the deleted ones included."""
    sealed: int = 0
    """Of these, how many the newest checkpoint covers."""
    epochs: int = 0
    checkpoints: int = 0
    newest: float = 0.0
    """When the newest checkpoint was made, in seconds since the epoch; 0 for none."""
    findings: list[Finding] = field(default_factory=list)
    more: int = 0
    """Findings beyond `MAX_FINDINGS`."""

    def add(self, flaw: Flaw, detail: str, seq: int | None = None) -> None:
        """Note a finding."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(flaw, detail, seq))
        else:
            self.more += 1


class _Root(NamedTuple):
    root: bytes
    what: str
    is_ours: bool
    """Of the log's own checkpoints, not one from elsewhere."""


def verify_log(
    path: Path,
    *,
    witness: Witness | None = None,
    elsewhere: Sequence[SignedNote] = (),
    witnessed: Sequence[Witnessed] = (),
) -> Verdict:
    """Judge the log in a file, the full files before it included.

    `witness` verifies the frames of identities; without it nobody certifies anything. `elsewhere` are
    checkpoints that were kept where the log's owner could not change them, `witnessed` is what others know. `OSError` if the file cannot be
    read. Memory grows with the number of checkpoints, not with that of records.
    """
    verdict = Verdict()
    places = Places(path)
    logs = [*places.earlier(), path]
    notes = _Notes(verdict, witness)
    for log in logs:
        notes.read(notes_of(log))
    notes.conclude()
    notes.compare(elsewhere)
    notes.hold_against(witnessed)
    lines = _Lines(verdict, notes.roots)
    for log in logs:
        lines.read(log)
    lines.conclude()
    return verdict


def read_notes(path: Path) -> Iterator[SignedNote | NoteError]:
    """The notes of a file, one by one; an error for what is none. Nothing where there is no file."""
    end = b"\n" + NOTE_END
    held = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                *texts, held = (held + chunk).split(end)
                yield from map(_parse, texts)
                held = held[-2 * MAX_NOTE_BYTES :]
    except FileNotFoundError:
        return
    if held.strip():
        yield NoteError("a checkpoint that ends too early")


def _parse(text: bytes) -> SignedNote | NoteError:
    try:
        return parse_note(text + b"\n")
    except NoteError as error:
        return error


class _Notes:
    """Follows the keys from epoch to epoch."""

    def __init__(self, verdict: Verdict, witness: Witness | None) -> None:
        self._verdict = verdict
        self._witness = witness
        self._key = b""
        self._next = b""
        self._last: SignedNote | None = None
        self._keys: dict[int, bytes] = {}
        self._certified = False
        self.roots: dict[int, _Root] = {}

    def read(self, path: Path) -> None:
        """Take in the notes of a file."""
        for one in read_notes(path):
            if isinstance(one, NoteError):
                self._verdict.add(Flaw.NOTE, f"{path.name}: {one}")
            elif len(self.roots) < MAX_NOTES:
                self._take(one, path.name)

    def conclude(self) -> None:
        """Say what is lacking altogether."""
        verdict, last = self._verdict, self._last
        if last is None:
            verdict.add(Flaw.UNSEALED, "no checkpoint; a worker makes them from its start on")
            return
        verdict.origin, verdict.sealed = last.note.origin, last.note.size
        verdict.newest, verdict.epochs = float(last.note.time), len(self._keys)
        if not self._certified:
            verdict.add(Flaw.UNCERTIFIED, "no identity that is trusted has certified any key")

    def compare(self, elsewhere: Sequence[SignedNote]) -> None:
        """Hold it against checkpoints that were kept elsewhere."""
        last = self._last
        for one in elsewhere:
            note = one.note
            if last is None or note.origin != last.note.origin:
                told = "none" if last is None else last.note.origin
                self._verdict.add(
                    Flaw.ORIGIN, f"the checkpoint is of {note.origin}, this is {told}"
                )
                continue
            key = self._keys.get(note.epoch)
            if key is None:
                newer = note.epoch > last.note.epoch
                told = f"no epoch {note.epoch}, in which the saved checkpoint was made"
                self._verdict.add(Flaw.ROLLBACK if newer else Flaw.EPOCH_MISSING, told)
            else:
                try:
                    one.verify(key)
                except NoteError as error:
                    told = f"the saved checkpoint of epoch {note.epoch}: {error}"
                    self._verdict.add(Flaw.FORK, told)
                    continue
            if note.size > last.note.size:
                told = (
                    f"{last.note.size} records are signed here, {note.size} in the saved checkpoint"
                )
                self._verdict.add(Flaw.ROLLBACK, told, last.note.size)
            self._demand(note.size, _Root(note.root, "the saved checkpoint", is_ours=False))

    def hold_against(self, witnessed: Sequence[Witnessed]) -> None:
        """Hold it against what others know of this very log, whichever keys it has today."""
        last = self._last
        for one in witnessed:
            note = one.newest.note
            if last is None or note.size > last.note.size:
                size = 0 if last is None else last.note.size
                told = f"{size} records are signed here, {note.size} in the store"
                self._verdict.add(Flaw.ROLLBACK, told, size)
            if self._keys.get(note.epoch, one.key) != one.key:
                told = f"epoch {note.epoch} has another key than in the store"
                self._verdict.add(Flaw.FORK, told)
            for size, root in one.roots.items():
                self._demand(size, _Root(root, "a checkpoint in the store", is_ours=False))

    def _demand(self, size: int, root: _Root) -> None:
        known = self.roots.setdefault(size, root)
        if known.root != root.root:
            if root.is_ours and known.is_ours:
                self._verdict.add(Flaw.NOTE, f"{root.what}: two roots of {size} records", size)
            else:
                self._verdict.add(Flaw.FORK, f"{root.what}: another root of {size} records", size)

    def _take(self, one: SignedNote, where: str) -> None:
        note, last, verdict = one.note, self._last, self._verdict
        what = f"checkpoint at {note.size} of epoch {note.epoch}"
        verdict.checkpoints += 1
        if last is not None and note.origin != last.note.origin:
            verdict.add(Flaw.ORIGIN, f"{where}: {what} is of {note.origin}", note.size)
            return
        if not self._find_key(note.epoch, note.key, what):
            return
        try:
            one.verify(self._key)
        except NoteError as error:
            verdict.add(Flaw.SIGNATURE, f"{where}: {what}: {error}", note.size)
            return
        if last is not None and (note.size < last.note.size or note.epoch < last.note.epoch):
            verdict.add(Flaw.NOTE, f"{where}: {what} comes after {last.note.size}", note.size)
        if note.identity:
            self._certify(note.identity, Statement(note.origin, note.epoch, self._key), what)
        self._next = note.next
        self._last = one
        self._keys[note.epoch] = self._key
        self._demand(note.size, _Root(note.root, what, is_ours=True))

    def _find_key(self, epoch: int, told: bytes, what: str) -> bool:
        last, verdict = self._last, self._verdict
        if last is None:
            self._key = told
            if not told:
                verdict.add(Flaw.EPOCH_MISSING, f"{what}: its key is not introduced")
            return bool(told)
        if epoch == last.note.epoch:
            if told and told != self._key:
                verdict.add(Flaw.SIGNATURE, f"{what}: a second key for one epoch")
                return False
            return True
        if self._next and (not told or told == self._next) and epoch == last.note.epoch + 1:
            self._key = self._next
            return True
        if self._next or not told:
            verdict.add(Flaw.SIGNATURE, f"{what}: not the key that epoch {last.note.epoch} names")
            return False
        verdict.add(
            Flaw.EPOCH_MISSING, f"{what}: epoch {last.note.epoch} has not introduced its key"
        )
        self._key = told
        return True

    def _certify(self, frame: bytes, statement: Statement, what: str) -> None:
        if self._witness is None:
            return
        try:
            name = self._witness(frame, statement)
        except ValueError as error:
            self._verdict.add(Flaw.ORIGIN, f"{what}: {error}")
            return
        self._certified = True
        if name not in self._verdict.identities:
            self._verdict.identities.append(name)


class _Entry(NamedTuple):
    line: Line
    record: dict[str, object]
    seq: int | None
    """The number that it gives itself."""


class _Lines:
    """Goes through the records, each beside its successor, and compares the root wherever one was signed."""

    def __init__(self, verdict: Verdict, roots: dict[int, _Root]) -> None:
        self._verdict = verdict
        self._roots = roots
        self._tree = Frontier()
        self._prev = ""
        self._held: _Entry | None = None
        self._is_numbered = False
        """Records of before the log was chained have no numbers."""
        self._broken = False
        """What is missing or changed has a hash that nobody knows; so no root fits until the next file."""
        self._good = 0
        """So many records are proven."""
        self._flagged = -1
        self._doubt: Finding | None = None
        """A root that does not fit: the next record may say that it is the last one before it."""

    def read(self, path: Path) -> None:
        """Take in a file's lines."""
        with path.open("rb") as file:
            for line in read_lines(file):
                entry = _read(line)
                if self._held is None:
                    if self._tree.size == 0:
                        self._begin(line)
                    self._held = entry
                else:
                    self._held = self._judge(self._held, entry)

    def conclude(self) -> None:
        """Judge the last line, and say what is missing behind it."""
        if self._held is not None:
            self._judge(self._held, None)
        self._believe(self._doubt)
        verdict, size = self._verdict, self._tree.size
        verdict.size = size
        behind = max((at for at in self._roots if at > size), default=0)
        if behind:
            verdict.add(Flaw.TRUNCATED, f"{size} records, and {behind} were signed", size)

    def _begin(self, line: Line) -> None:
        self._tree, self._prev = find_tree(line)
        self._verdict.first = self._good = self._tree.size
        self._compare()

    def _judge(self, one: _Entry, after: _Entry | None) -> _Entry | None:
        """Judge a line; returns the one that is to be judged next."""
        doubt = self._doubt
        following = self._place(one, after)
        self._believe(doubt)
        return following

    def _place(self, one: _Entry, after: _Entry | None) -> _Entry | None:
        at, verdict = self._tree.size, self._verdict
        follows = after.seq if after is not None else None
        if one.seq == at:
            self._accept(one)
        elif one.seq is None and not self._is_numbered and one.record:
            self._push(one)
        elif follows == at + 1 or (one.seq is None and follows != at):
            self._misfit(one, after)
        elif one.seq == at + 1 and follows == at and after is not None:
            verdict.add(Flaw.REORDERED, f"records {at} and {at + 1} changed places", at)
            self._accept(after)
            return one
        elif one.seq is not None and one.seq > at and follows != at:
            self._jump(one, one.seq)
        else:
            told = "" if one.seq is None else f", which calls itself {one.seq}"
            verdict.add(Flaw.INSERTED, f"a line before record {at}{told}", at)
        return after

    def _accept(self, one: _Entry) -> None:
        """It has the number that it should have."""
        at = self._tree.size
        self._is_numbered = True
        if one.record.get("event") == BEGIN and self._broken:
            self._tree, self._prev = find_tree(one.line)
            self._broken = False
        elif one.record.get("prev") != self._prev:
            self._change(max(at - 1, 0), "not the record that its successor knows")
        if one.record.get("event") == GAP and one.record.get("lost"):
            told = f"{one.record['lost']} records could not be written before it"
            self._verdict.add(Flaw.GAP, told, at)
        self._push(one)

    def _misfit(self, one: _Entry, after: _Entry | None) -> None:
        """It is where a record was, and is not that record."""
        at = self._tree.size
        if after is None and not one.line.is_whole:
            self._verdict.add(Flaw.TORN, "the last line was not finished", at)
        elif after is not None and after.record.get("event") == TORN and one.seq is None:
            self._verdict.add(Flaw.TORN, "not finished; the log goes on behind it", at)
        else:
            self._change(at, "not a record any more" if one.seq is None else "another number")
        self._push(one)

    def _jump(self, one: _Entry, seq: int) -> None:
        """Records are missing before this one."""
        at = self._tree.size
        told = f"record {at}" if seq == at + 1 else f"records {at} to {seq - 1}"
        self._verdict.add(Flaw.REMOVED, f"{told} removed", at)
        self._broken = True
        self._tree = Frontier(seq, [bytes(32)] * seq.bit_count())
        self._prev = str(one.record.get("prev"))
        self._accept(one)

    def _believe(self, doubt: Finding | None) -> None:
        """Say that a root did not fit, unless the record has been named since."""
        if doubt is not None and self._doubt is doubt:
            self._verdict.add(doubt.flaw, doubt.detail, doubt.seq)
            self._doubt = None

    def _change(self, seq: int, told: str) -> None:
        self._broken = True
        if self._doubt is not None and self._doubt.seq == seq:
            self._doubt = None
        if seq != self._flagged:  # its successor may say so, too
            self._flagged = seq
            self._verdict.add(Flaw.CHANGED, f"record {seq} changed: {told}", seq)

    def _push(self, one: _Entry) -> None:
        self._prev = shorten(one.line.leaf)
        self._tree.append(one.line.leaf)
        self._compare()

    def _compare(self) -> None:
        size = self._tree.size
        root = self._roots.get(size)
        if root is None or self._broken:
            return
        if root.root == self._tree.root():
            self._good = size
            return
        self._broken = True
        flaw = Flaw.ROOT if root.is_ours else Flaw.FORK
        last = max(size - 1, 0)
        told = f"not what {root.what} has signed: one of the records {self._good} to {last}"
        self._doubt = Finding(flaw, told, last)


def _read(line: Line) -> _Entry:
    record = line.read() if line.is_whole and len(line.text) < MAX_LINE_BYTES else {}
    seq = record.get("seq")
    is_number = isinstance(seq, int) and not isinstance(seq, bool) and 0 <= seq <= MAX_SIZE
    return _Entry(line, record, seq if is_number else None)
