"""The Merkle tree of a log (RFC 6962, 2.1), which grows by a leaf at a time and never forgets one.

    leaf = SHA-256(0 ‖ line), node = SHA-256(1 ‖ left ‖ right)

A proof shows that a line is in the tree, or that one tree is the beginning of another, without showing
any other line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

HASH_BYTES = 32
EMPTY = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""
MAX_SIZE = 2**53
"""Leaves of a tree: more cannot be counted exactly by everybody who reads JSON."""


def hash_leaf(line: bytes) -> bytes:
    """The hash of a line, its newline included."""
    return hashlib.sha256(b"\x00" + line).digest()


def _join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """What has to be known of a tree to go on with it: a hash for each bit of its size."""

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.nodes = list(nodes)
        """The roots of its full subtrees, the largest first."""
        if not 0 <= size <= MAX_SIZE or len(self.nodes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has not {len(self.nodes)} full subtrees")
        if any(len(node) != HASH_BYTES for node in self.nodes):
            raise ValueError(f"a hash that has not {HASH_BYTES} bytes")

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        node, size, nodes = leaf, self.size, self.nodes
        while size & 1:
            node = _join(nodes.pop(), node)
            size >>= 1
        nodes.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The hash of the whole tree."""
        if not self.nodes:
            return EMPTY
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = _join(node, root)
        return root

    def copy(self) -> Frontier:
        """The same tree, to go on with apart from this one."""
        return Frontier(self.size, self.nodes)


class Span:
    """The leaves from one number up to another, as the fewest hashes that stand for them whatever else is in the tree.

    Two spans that follow each other can be joined. One that begins with the first leaf has a root.
    """

    __slots__ = ("end", "nodes", "start")

    def __init__(self, start: int, end: int | None = None, nodes: Iterable[bytes] = ()) -> None:
        self.start = start
        self.end = start if end is None else end
        self.nodes = list(nodes)
        """The roots of full subtrees, from left to right."""
        if not 0 <= self.start <= self.end <= MAX_SIZE:
            raise ValueError(f"no span: {start} to {end}")
        if len(self.nodes) != len(_cover(self.start, self.end)):
            raise ValueError(f"{start} to {end} are not {len(self.nodes)} full subtrees")
        if any(len(node) != HASH_BYTES for node in self.nodes):
            raise ValueError(f"a hash that has not {HASH_BYTES} bytes")

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        self._add(leaf, 1)

    def join(self, after: Span) -> None:
        """Add the span that follows."""
        if after.start != self.end:
            raise ValueError(f"a span from {after.start} does not follow one to {self.end}")
        for node, width in zip(after.nodes, _cover(after.start, after.end), strict=True):
            self._add(node, width)

    def root(self) -> bytes:
        """The hash of the whole tree; `ValueError` for a span that does not begin with the first leaf."""
        if self.start:
            raise ValueError(f"a span from {self.start} on has no root")
        return Frontier(self.end, self.nodes).root()

    def _add(self, node: bytes, width: int) -> None:
        self.end += width
        nodes = self.nodes
        nodes.append(node)
        while self.end % (2 * width) == 0 and self.end - 2 * width >= self.start:
            right = nodes.pop()
            nodes[-1] = _join(nodes[-1], right)
            width *= 2


class Proof(NamedTuple):
    """That a leaf, by its number, is in the tree of `size` leaves, by the hashes beside its way to the root."""

    leaf: int
    size: int
    hashes: Sequence[bytes]


class Leaves:
    """The hashes of a log's leaves from `start` on, and the frontier of those before: makes proofs."""

    def __init__(self, start: Frontier) -> None:
        self._first = start.size
        self._known: dict[tuple[int, int], bytes] = {}
        at = 0
        for node, width in zip(start.nodes, _widths(start.size), strict=True):
            self._known[at, at + width] = node
            at += width
        self._hashes: list[bytes] = []

    @property
    def size(self) -> int:
        """Leaves of the tree, the forgotten ones included."""
        return self._first + len(self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        self._hashes.append(leaf)

    def root(self, size: int) -> bytes:
        """The root of the first `size` leaves. `ValueError` for one that is not known any more."""
        return self._hash(0, size) if size else EMPTY

    def prove(self, index: int, size: int) -> Proof:
        """That a leaf, by its number, is in the tree of the first `size` (RFC 6962, 2.1.1)."""
        if not self._first <= index < size <= self.size:
            raise ValueError(
                f"record {index} of {size}; this log holds {self._first} to {self.size - 1}"
            )
        return Proof(index, size, self._path(index, 0, size))

    def prove_consistency(self, old: int, size: int) -> Sequence[bytes]:
        """That the tree of the first `old` leaves is the beginning of that of `size` (RFC 6962, 2.1.2)."""
        if not 0 < old <= size <= self.size:
            raise ValueError(f"{old} of {size} records; this log knows of {self.size}")
        return self._beginning(old, 0, size, is_whole=True)

    def _path(self, index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + _split(end - start)
        if index < middle:
            return [*self._path(index, start, middle), self._hash(middle, end)]
        return [*self._path(index, middle, end), self._hash(start, middle)]

    def _beginning(self, old: int, start: int, end: int, *, is_whole: bool) -> list[bytes]:
        if old == end:
            return [] if is_whole else [self._hash(start, end)]
        middle = start + _split(end - start)
        if old <= middle:
            left = self._beginning(old, start, middle, is_whole=is_whole)
            return [*left, self._hash(middle, end)]
        return [*self._beginning(old, middle, end, is_whole=False), self._hash(start, middle)]

    def _hash(self, start: int, end: int) -> bytes:
        known = self._known.get((start, end))
        if known is not None:
            return known
        if end - start == 1:
            if start < self._first:
                raise ValueError(f"record {start} is in a file that is gone")
            return self._hashes[start - self._first]
        middle = start + _split(end - start)
        return _join(self._hash(start, middle), self._hash(middle, end))


def root_of_proof(leaf: bytes, proof: Proof) -> bytes:
    """The root of the tree in which a proof places a leaf's hash (RFC 9162, 2.1.3.2); `ValueError` for none."""
    index, last = proof.leaf, proof.size - 1
    if not 0 <= index <= last:
        raise ValueError(f"record {index} of {proof.size}")
    node = leaf
    for beside in proof.hashes:
        if last == 0:
            raise ValueError("a proof that is too long")
        if index & 1 or index == last:
            node = _join(beside, node)
            while index and not index & 1:
                index >>= 1
                last >>= 1
        else:
            node = _join(node, beside)
        index >>= 1
        last >>= 1
    if last:
        raise ValueError("a proof that is too short")
    return node


def _split(size: int) -> int:
    """The largest power of two that is smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def _cover(start: int, end: int) -> list[int]:
    """How many leaves each of a span's full subtrees has."""
    widths = []
    while start < end:
        width = 1 << (end - start).bit_length() - 1
        if start:
            width = min(width, start & -start)
        widths.append(width)
        start += width
    return widths


def _widths(size: int) -> list[int]:
    return [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]
