"""Merkle trees (RFC 6962, 2.1): one signature for many messages, with a proof for each.

    root = H(1 ‖ left ‖ right), leaf = H(0 ‖ bytes)

The first byte keeps leaves and nodes apart, so that nobody can pass off a node as a message. A
proof is the concatenation of the neighbours' hashes on the way from the leaf to the root.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from cardoon.exceptions import MessageError

HASH_BYTES = 32
MAX_LEAVES = 256
"""Messages in one batch: beyond it a message costs hardly less, and its proof more."""


class Tree(NamedTuple):
    """The root of a tree and, leaf by leaf, the proof that it belongs to it."""

    root: bytes
    proofs: list[bytes]


def build_tree(leaves: Sequence[bytes]) -> Tree:
    """Hash 1 to 256 leaves into a tree, in time O(n) for the nodes and O(n log n) for proofs."""
    if not 0 < len(leaves) <= MAX_LEAVES:
        raise ValueError(f"a tree of {len(leaves)} leaves; it must have 1 to {MAX_LEAVES}")
    sha256 = hashlib.sha256
    level = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
    levels = []
    while len(level) > 1:
        levels.append(level)
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
        # A node without neighbour rises as it is: the left part is always the largest power of two.
        level = above + level[len(above) * 2 :]
    proofs = [b""]
    for nodes in reversed(levels):
        # `[at ^ 1:...]` is the neighbour, or nothing for the last of an odd number.
        neighbours = (b"".join(nodes[at ^ 1 : (at ^ 1) + 1]) for at in range(len(nodes)))
        proofs = [neighbour + proofs[at >> 1] for at, neighbour in enumerate(neighbours)]
    return Tree(level[0], proofs)


def find_root(leaf: bytes, *, size: int, position: int, proof: bytes) -> bytes:
    """Return the root of the tree of `size` leaves in which `proof` places the leaf at `position`.

    `MessageError` unless size, position and the proof's length fit each other exactly.
    """
    if not 0 <= position < size <= MAX_LEAVES:
        raise MessageError(f"proof: leaf {position} of {size}; at most {MAX_LEAVES}")
    sha256 = hashlib.sha256
    node = sha256(b"\x00" + leaf).digest()
    at = 0
    last = size - 1
    while last:
        if position & 1:
            node = sha256(b"\x01" + proof[at : at + HASH_BYTES] + node).digest()
            at += HASH_BYTES
        elif position < last:
            node = sha256(b"\x01" + node + proof[at : at + HASH_BYTES]).digest()
            at += HASH_BYTES
        position >>= 1
        last >>= 1
    if at != len(proof):
        raise MessageError(f"proof: {len(proof)} bytes instead of {at}")
    return node
