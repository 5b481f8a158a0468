"""Writes a log: whole lines, numbered and chained, by any number of processes that take turns.

Each record holds its number and the hash of the line before. The lines are the leaves of a tree, whose
root checkpoints sign. Who takes the lock first hashes what others have written meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from cardoon.exceptions import SecurityError
from cardoon.transparency.epochs import load_epoch
from cardoon.transparency.lines import (
    BEGIN,
    Line,
    describe_tree,
    encode_record,
    find_tree,
    read_lines,
    shorten,
)
from cardoon.transparency.notes import Note, SignedNote, sign_note
from cardoon.transparency.places import (
    Places,
    notes_of,
    open_guarded,
    release_lock,
    reunite,
    take_lock,
    write_whole,
)
from cardoon.transparency.tree import Frontier, hash_leaf

NOTE_END = b"\n\n"
"""Behind each note of a file, so that a torn one is told from the next."""
TORN, GAP = "audit.torn", "audit.gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """When checkpoints are made, and how much is kept."""

    records: int = 256
    """Records between two checkpoints, at most."""
    seconds: float = 5.0
    """Between a record and the checkpoint that covers it, where somebody looks so often."""
    max_bytes: int = 64 * 2**20
    """Of a file; then the next one begins. 0: it never ends."""
    max_age: float = 0.0
    """Seconds after a file's first record; the next record begins another file. 0: it never ends."""
    files: int = 16
    """Full files that are kept; 0: all."""
    required: bool = False
    """Whether nothing is to happen that cannot be put on record."""


class Compose(Protocol):
    """Makes the trail's own records: says when, and who writes."""

    def __call__(self, event: str, **fields: object) -> dict[str, object]:
        """A record, without its number."""
        ...


class _Position(NamedTuple):
    """How far a file was hashed."""

    tree: Frontier
    prev: str
    offset: int


class _State(NamedTuple):
    """What was noted of a file, which may have been put aside since."""

    at: _Position
    first: int
    """The number of its first record."""


class Trail:
    """A log's file. The caller keeps threads apart; the lock keeps processes apart.

    `compose` makes the records of the trail itself, `now` tells seconds since the epoch.
    """

    def __init__(
        self, path: Path, *, keeping: Keeping, compose: Compose, now: Callable[[], float]
    ) -> None:
        self.places = Places(path)
        self.keeping = keeping
        self._compose = compose
        self._now = now
        self._name = os.fspath(path)
        self._lock = -1
        self._file = -1
        self._inode = (0, 0)
        self._at = _Position(Frontier(), "", 0)
        self._sealed = 0
        self._started_at: float | None = None
        self._begun: Mapping[str, object] = {"why": "full"}
        """Of a file that has no record yet: what its first one is to say."""
        self._cut: list[int] = []
        """Bytes that were found to be missing, and are not on record yet."""
        self.opened_size: int | None = None
        """Records that were there when this process first looked; None before."""
        self.last_note: SignedNote | None = None
        """The newest that this process made."""
        self.trouble: Exception | None = None
        """Why a checkpoint was not made in passing; whoever looks takes it."""

    @property
    def size(self) -> int:
        """Records, as this process knows."""
        return self._at.tree.size

    @property
    def unsealed(self) -> int:
        """Records since the last checkpoint of this process."""
        return self._at.tree.size - self._sealed

    def append(self, entries: Sequence[dict[str, object]], *, lost: int = 0) -> None:
        """Write records, which are given their numbers here, in one piece: all of them or none.

        `lost` is how many could not be written before; that goes on record first. `OSError` or `SecurityError`
        if nothing is written.
        """
        self.take()
        try:
            if self.keeping.max_bytes and self._at.offset >= self.keeping.max_bytes:
                self.rotate("full")
            elif self.keeping.max_age and self._now() - self._find_start() >= self.keeping.max_age:
                self.rotate("old")
            gap = [self._compose(GAP, lost=lost, why="not written")] if lost else []
            self._write(*self._compose_owed(), *gap, *entries)
            if self._at.tree.size - self._sealed >= self.keeping.records:
                self._seal_in_passing()
        finally:
            self.release()

    def checkpoint(self) -> SignedNote | None:
        """Sign what there is; None where nothing is new, or there is no key to sign with."""
        self.take()
        try:
            return self.seal() if self.unsealed else None
        finally:
            self.release()

    def close(self) -> None:
        """Sign what there is, and close; safe twice. The next record opens it again."""
        if self._file < 0:
            return
        try:
            self.checkpoint()
        finally:
            self.forget()

    def forget(self) -> None:
        """Close the files and sign nothing; what a forked process does with its parent's."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def __del__(self) -> None:
        """Let go of the files of a log that nobody closed."""
        with contextlib.suppress(AttributeError, OSError):
            self.forget()

    def take(self) -> None:
        """Take the lock, and hash what others have written; `release` it afterwards."""
        if self._lock < 0:
            self.places.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = open_guarded(self.places.lock, os.O_RDWR)
        take_lock(self._lock)
        try:
            self._catch_up()
            if owed := self._compose_owed():
                self._write(*owed)
                self._cut.clear()
        except BaseException:
            release_lock(self._lock)
            raise

    def release(self) -> None:
        """Let others write."""
        release_lock(self._lock)

    def seal(
        self, *, key: bytes = b"", identity: bytes = b"", next: bytes = b""
    ) -> SignedNote | None:
        """Write a checkpoint; with the lock. None where there is no key."""
        epoch = load_epoch(self.places.key)
        self._sealed = self._at.tree.size  # asked again when there is more, whatever comes of it
        self._store_state()
        if epoch is None:
            return None
        descriptor = open_guarded(self.places.checkpoints, os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            is_first = size == 0
            if size and os.pread(descriptor, 3, max(size - 3, 0)) != b"\n" + NOTE_END:
                write_whole(descriptor, b"\n" + NOTE_END, size=size)  # somebody was killed there
            note = Note(
                origin=epoch.origin,
                size=self._at.tree.size,
                root=self._at.tree.root(),
                epoch=epoch.number,
                time=int(self._now()),
                key=key or (epoch.public if is_first else b""),
                identity=identity,
                next=next,
            )
            signed = sign_note(note, epoch.key)
            size = os.fstat(descriptor).st_size
            write_whole(descriptor, signed.encode() + NOTE_END, size=size)
        finally:
            os.close(descriptor)
        self.last_note = signed
        return signed

    def _seal_in_passing(self) -> None:
        """What was recorded is not lost because its checkpoint is late."""
        try:
            self.seal()
        except (OSError, SecurityError) as error:
            self.trouble = error  # logged without the lock, since handlers may record, too

    def rotate(self, why: str) -> None:
        """Put the file aside and go on with the next one; with the lock."""
        if self.unsealed:
            self._seal_in_passing()
        first = self._first_number()
        reunite(self.places, first)
        aside = self.places.file_from(first)
        if aside.exists():  # nothing of an earlier log is lost
            aside = self.places.file_from(self._at.tree.size)
        for old, new in (
            (self.places.checkpoints, notes_of(aside)),
            (self.places.log, aside),
        ):
            if old.exists():
                old.rename(new)
        earlier = self.places.earlier()
        surplus = earlier[: -self.keeping.files] if self.keeping.files else []
        for one in surplus:
            one.unlink(missing_ok=True)
            notes_of(one).unlink(missing_ok=True)
        self._begin_file(why, dropped=len(surplus) or None)

    def _begin_file(self, why: str, **more: object) -> None:
        """An empty file; with its first record it says which tree it goes on with, and why."""
        tree, prev, _ = self._at
        self._open()
        self._at = _Position(tree, prev, 0)
        self._begun = {"why": why, **more}

    def _compose_owed(self) -> list[dict[str, object]]:
        """What the trail has to say itself before anything else: where a file begins, and what was cut."""
        tree, _, offset = self._at
        owed = [self._compose(GAP, why="cut", bytes=missing) for missing in self._cut]
        if tree.size and not offset:
            owed.insert(0, self._compose(BEGIN, tree=describe_tree(tree), **self._begun))
        return owed

    def _find_start(self) -> float:
        """When the file's first record was made, as it says, in seconds since the epoch; now if it does not."""
        if self._started_at is None and self._at.offset:
            with self._reading() as stream:
                told = next((line.read().get("time") for line in read_lines(stream)), None)
            try:
                self._started_at = datetime.fromisoformat(str(told)).timestamp()
            except (ValueError, OverflowError):
                self._started_at = self._now()
        return self._now() if self._started_at is None else self._started_at

    def _first_number(self) -> int:
        with self._reading() as stream:
            for line in read_lines(stream):
                return find_tree(line)[0].size
        return 0

    def _reading(self) -> IO[bytes]:
        return os.fdopen(self._file, "rb", buffering=1 << 16, closefd=False)

    def _write(self, *entries: dict[str, object]) -> None:
        tree, prev, offset = self._at
        lines: list[bytes] = []
        leaves: list[bytes] = []
        for number, entry in enumerate(entries, tree.size):
            entry["seq"] = number
            entry["prev"] = prev
            lines.append(encode_record(entry))
            leaves.append(hash_leaf(lines[-1]))
            prev = shorten(leaves[-1])
        content = b"".join(lines)
        write_whole(self._file, content, size=offset)
        for leaf in leaves:
            tree.append(leaf)
        self._at = _Position(tree, prev, offset + len(content))

    def _push(self, leaf: bytes, end: int) -> None:
        tree = self._at.tree
        tree.append(leaf)
        self._at = _Position(tree, shorten(leaf), end)

    def _open(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._file = open_guarded(self.places.log, os.O_RDWR | os.O_APPEND)
        status = os.fstat(self._file)
        self._inode = (status.st_dev, status.st_ino)
        self._started_at = None

    def _catch_up(self) -> None:
        """Bring the tree up to what is in the file, whoever wrote it and whatever was done to it."""
        try:
            status = os.stat(self._name)  # noqa: PTH116 - this is done for every record
        except FileNotFoundError:
            status = None
        if self._file < 0:
            self._begin()
            return
        if status is None or (status.st_dev, status.st_ino) != self._inode:
            if status is None or not status.st_size:
                self._hash_on()  # there is nothing that says where it goes on, but the file before
            self._reopen()
        elif status.st_size != self._at.offset:
            if status.st_size < self._at.offset:
                self._replace(status.st_size)
            else:
                self._read_on()

    def _begin(self) -> None:
        """Open the file, and go on from the state or from its first line."""
        self._open()
        length = os.fstat(self._file).st_size
        if length:
            reunite(self.places, self._first_number())
        state = self._load_state()
        if state is None:
            self._at = _Position(Frontier(), "", 0)
            self._read_on()
        else:
            self._go_on(state, length)
        self._sealed = self._at.tree.size if state is None else state.at.tree.size
        if self.opened_size is None:
            self.opened_size = self._at.tree.size

    def _go_on(self, state: _State, length: int) -> None:
        """Go on from a state, unless the file is not the one that it was noted of."""
        first = self._first_number()
        if length and first > state.first:  # put aside since, by rights
            self._at = _Position(Frontier(), "", 0)
            self._read_on()
            if self._at.tree.size >= state.at.tree.size:
                return
        elif not (length or state.at.offset) or (not length and self._was_put_aside(state)):
            tree, prev, _ = state.at
            self._at = _Position(tree, prev, 0)  # whoever began the file could not write to it
            return
        self._at = state.at
        is_same = first == state.first and state.at.offset <= length
        if is_same and self._follows(state.at):
            self._read_on()
        else:
            self._replace(length)

    def _was_put_aside(self, state: _State) -> bool:
        with contextlib.suppress(OSError):
            return self.places.file_from(state.first).stat().st_size == state.at.offset
        return False

    def _reopen(self) -> None:
        """Another process has begun the next file, or somebody has moved this one away."""
        before = self._at
        self._open()
        self._at = _Position(Frontier(), "", 0)
        self._read_on()
        if self._at.tree.size < before.tree.size:
            length = self._at.offset
            self._at = before
            if length:
                self._replace(length)
            else:
                self._begin_file("missing")

    def _replace(self, length: int) -> None:
        """The file is not what it was: it is put aside as it is, and the tree goes on in the next."""
        was = self._at.offset
        if length:
            self.rotate("cut")
        else:
            self._begin_file("cut")
        self._cut.append(was - length)

    def _hash_on(self) -> Line | None:
        """Hash what others have written; the last line of it."""
        last: Line | None = None
        with self._reading() as stream:
            for line in read_lines(stream, self._at.offset):
                if self._at.offset == 0:
                    tree, prev = find_tree(line)
                    self._at = _Position(tree, prev, 0)
                self._push(line.leaf, line.end)
                last = line
        return last

    def _read_on(self) -> None:
        """Hash what others have written, and seal off a line that its writer could not finish."""
        last = self._hash_on()
        if last is not None and not last.is_whole:
            write_whole(self._file, b"\n", size=last.end)
            tree, prev, offset = self._at
            self._at = _Position(tree, prev, offset + 1)
            self._write(self._compose(TORN, torn=tree.size - 1, bytes=len(last.text)))

    def _follows(self, state: _Position) -> bool:
        """Whether a line ends where the state says one does."""
        if state.offset == 0:
            return True
        return os.pread(self._file, 1, state.offset - 1) == b"\n"

    def _load_state(self) -> _State | None:
        try:
            told: Any = json.loads(self.places.state.read_bytes())
            tree, prev = find_tree(Line(b"", json.dumps(told).encode(), 0, is_whole=True))
            at = _Position(tree, prev, int(told["offset"]))
            return _State(at, int(told["first"])) if tree.size else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _store_state(self) -> None:
        tree, prev, offset = self._at
        first = self._first_number() if offset else tree.size
        told: dict[str, object] = {"event": BEGIN, "first": first}
        told |= {"offset": offset, "prev": prev}
        content = encode_record({**told, "seq": tree.size, "tree": describe_tree(tree)})
        descriptor = open_guarded(self.places.state, os.O_WRONLY)
        try:
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
        finally:
            os.close(descriptor)
