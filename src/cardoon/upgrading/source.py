"""One file of Python: its tree, and changes of names that leave everything else as it is."""

from __future__ import annotations

import ast
import enum
import functools
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 4 << 20
"""Of a file: larger ones are data, and parsing takes a hundred times their size."""


class Kind(enum.StrEnum):
    """What a finding asks of people."""

    CHANGED = "changed"
    """Nothing: it was rewritten, or would be."""
    DECIDE = "decide"
    """A decision: it does not work as it stands, or means something else."""
    NOTE = "note"
    """Nothing, but it is good to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about one line of one file; line 0 is the project."""

    path: Path
    line: int
    kind: Kind
    text: str


class UnreadableError(ValueError):
    """A file that is not Python, or not this version's."""


class Source:
    """A file, what was found in it, and the changes to make."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.findings: list[Finding] = []
        self._edits: dict[tuple[int, int], bytes] = {}
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise UnreadableError(f"it has more than {MAX_BYTES >> 20} MiB")
        try:
            self._encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            # The tree counts bytes of UTF-8, without a byte order mark.
            self._data = data.decode(self._encoding).encode()
            self.tree = ast.parse(self._data)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise UnreadableError(str(error)) from error
        starts = [0]
        for line in self._data.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self._starts = starts

    @functools.cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree."""
        return tuple(ast.walk(self.tree))

    def note(self, node: ast.AST, kind: Kind, text: str) -> None:
        """Keep a finding at a node; one of a kind for each line."""
        line = getattr(node, "lineno", 0)
        finding = Finding(path=self.path, line=line, kind=kind, text=text)
        if finding not in self.findings:
            self.findings.append(finding)

    def rename(self, node: ast.AST, old: str, new: str, *, at_end: bool = False) -> None:
        """Replace a name where a node begins, or with `at_end` where it ends.

        Where the text there is another one, as in a formatted string, it is left, and a decision is asked.
        """
        if at_end:
            end = self._place(getattr(node, "end_lineno", 0), getattr(node, "end_col_offset", 0))
            start = end - len(old.encode())
        else:
            start = self._place(getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
            end = start + len(old.encode())
        self._replace(node, start, end, old, new)

    def rename_within(self, node: ast.AST, old: str, new: str) -> None:
        """Replace the first occurrence of a name in the text of a node."""
        text = self.text(node).encode()
        start = self._place(getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
        found = next(_words(text, old.encode()), None)
        if found is None:
            self.note(node, Kind.DECIDE, f"{old} is {new} here; it could not be replaced")
            return
        at = start + found
        self._replace(node, at, at + len(old.encode()), old, new)

    def text(self, node: ast.AST) -> str:
        """What stands at a node."""
        start = self._place(getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
        end = self._place(getattr(node, "end_lineno", 0), getattr(node, "end_col_offset", 0))
        return self._data[start:end].decode(errors="replace")

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._edits)

    def rewritten(self) -> bytes:
        """The file with its changes, in its own encoding."""
        parts, at = [], 0
        for (start, end), new in sorted(self._edits.items()):
            parts += [self._data[at:start], new]
            at = end
        return b"".join([*parts, self._data[at:]]).decode().encode(self._encoding)

    def _place(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def _replace(self, node: ast.AST, start: int, end: int, old: str, new: str) -> None:
        if self._data[start:end] != old.encode():
            self.note(node, Kind.DECIDE, f"{old} is {new} here; it could not be replaced")
            return
        self._edits[start, end] = new.encode()
        self.note(node, Kind.CHANGED, f"{old} -> {new}")


def _words(text: bytes, word: bytes) -> Iterator[int]:
    """Where a dotted name stands by itself."""
    at = text.find(word)
    while at >= 0:
        around = text[max(0, at - 1) : at], text[at + len(word) : at + len(word) + 1]
        if not any(one.isalnum() or one in {b"_", b"."} for one in around):
            yield at
        at = text.find(word, at + 1)


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a chain of attributes of a name; an empty string for anything else."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            before = dotted(node.value)
            return f"{before}.{node.attr}" if before else ""
        case _:
            return ""


def literal(node: ast.AST) -> tuple[bool, object]:
    """Whether a node is a plain value, and which."""
    try:
        return True, ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, None
