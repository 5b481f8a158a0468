"""Patterns of names in a policy: `*` within a segment, `**` across segments, all else literally.

Segments end at `.`, `/` and `:`, so `shop.*` is `shop.pay` and not `shop.pay.refund`. No regular
expressions: matching takes a few steps for each character, whatever pattern and name are.
"""

from __future__ import annotations

import re
from typing import Final

from cardoon.exceptions import SecurityError

MAX_LENGTH = 2048
"""Characters of a pattern: those of the longest SPIFFE id."""
MAX_WILDCARDS = 4
_BOUNDARIES: Final = frozenset("./:")
_ONE, _MANY = "*", "**"


class Pattern:
    """A pattern that was read once. Compares and hashes as its text."""

    __slots__ = ("_parts", "text")

    def __init__(self, text: str) -> None:
        if not 0 < len(text) <= MAX_LENGTH or not text.isprintable():
            raise SecurityError(
                f"pattern {text[:80]!r}: use 1 to {MAX_LENGTH} printable characters"
            )
        self.text = text
        self._parts = _split(text)
        wildcards = sum(part in (_ONE, _MANY) for part in self._parts)
        if wildcards > MAX_WILDCARDS:
            raise SecurityError(f"pattern {text!r}: {wildcards} wildcards; at most {MAX_WILDCARDS}")

    @property
    def is_literal(self) -> bool:
        """Whether it matches its own text and nothing else."""
        return len(self._parts) == 1 and self._parts[0] not in (_ONE, _MANY)

    def matches(self, name: str) -> bool:
        """Whether a whole name fits."""
        if self.is_literal:
            return name == self.text
        # The places in the name up to which the parts so far can reach, all at once.
        places = {0}
        for part in self._parts:
            if part == _MANY:
                places = set(range(min(places), len(name) + 1))
            elif part == _ONE:
                places = _within_segments(name, places)
            else:
                places = {at + len(part) for at in places if name.startswith(part, at)}
            if not places:
                return False
        return len(name) in places

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def _within_segments(name: str, places: set[int]) -> set[int]:
    """Where each of these places may move to without leaving its segment."""
    found: set[int] = set()
    for start in sorted(places):
        at = start
        while at not in found:
            found.add(at)
            if at == len(name) or name[at] in _BOUNDARIES:
                break
            at += 1
    return found


def _split(text: str) -> tuple[str, ...]:
    """The literal pieces and the wildcards of a pattern, in order."""
    parts = tuple(part for part in re.split(r"(\*+)", text) if part)
    if any(part.startswith(_MANY + "*") for part in parts):
        raise SecurityError(
            f"pattern {text!r}: the wildcards are `*` and `**`; take out the others"
        )
    return parts
