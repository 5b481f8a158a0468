"""Merkle trees, against the recursive definition of RFC 6962."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.exceptions import MessageError
from cardoon.message.merkle import build_tree, find_root

SIZES = [*range(1, 70), 127, 128, 129, 255, 256]


def sha256(content):
    return hashlib.sha256(content).digest()


def largest_power_below(count):
    return 1 << ((count - 1).bit_length() - 1)


def tree_hash(leaves):
    """MTH of RFC 6962, 2.1."""
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0])
    split = largest_power_below(len(leaves))
    return sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:]))


def audit_path(position, leaves):
    """PATH of RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    split = largest_power_below(len(leaves))
    if position < split:
        return [*audit_path(position, leaves[:split]), tree_hash(leaves[split:])]
    return [*audit_path(position - split, leaves[split:]), tree_hash(leaves[:split])]


def leaves_of(count):
    return [b"leaf %d" % number for number in range(count)]


@pytest.mark.parametrize("size", SIZES)
def test_root_and_proofs_are_those_of_the_recursive_definition(size):
    leaves = leaves_of(size)

    tree = build_tree(leaves)

    assert tree.root == tree_hash(leaves)
    assert tree.proofs == [b"".join(audit_path(position, leaves)) for position in range(size)]


@pytest.mark.parametrize("size", SIZES)
def test_every_proof_leads_to_the_root(size):
    leaves = leaves_of(size)
    tree = build_tree(leaves)

    for position, (leaf, proof) in enumerate(zip(leaves, tree.proofs, strict=True)):
        assert find_root(leaf, size=size, position=position, proof=proof) == tree.root


@pytest.mark.parametrize("size", [2, 3, 5, 8, 21])
def test_a_proof_fits_no_other_position(size):
    leaves = leaves_of(size)
    tree = build_tree(leaves)

    for position in range(size):
        for other in set(range(size)) - {position}:
            try:
                found = find_root(
                    leaves[position], size=size, position=other, proof=tree.proofs[position]
                )
            except MessageError:
                continue
            assert found != tree.root


@given(st.integers(2, 256), st.data())
def test_a_changed_proof_leads_elsewhere(size, data):
    leaves = leaves_of(size)
    tree = build_tree(leaves)
    position = data.draw(st.integers(0, size - 1))
    proof = bytearray(tree.proofs[position])
    proof[data.draw(st.integers(0, len(proof) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    assert (
        find_root(leaves[position], size=size, position=position, proof=bytes(proof)) != tree.root
    )


@pytest.mark.parametrize("change", [-32, -1, 1, 32])
def test_a_proof_of_another_length_is_refused(change):
    leaves = leaves_of(7)
    proof = build_tree(leaves).proofs[2]
    longer = proof + bytes(32)

    with pytest.raises(MessageError, match="bytes instead of 96"):
        find_root(leaves[2], size=7, position=2, proof=longer[: len(proof) + change])


@pytest.mark.parametrize(
    ("size", "position"), [(0, 0), (1, 1), (3, 3), (257, 0), (2**64, 5), (3, -1)]
)
def test_a_position_outside_of_the_tree_is_refused(size, position):
    with pytest.raises(MessageError, match="of"):
        find_root(b"leaf", size=size, position=position, proof=b"")


@pytest.mark.parametrize("size", [0, 257])
def test_there_is_no_tree_of_that_size(size):
    with pytest.raises(ValueError, match="1 to 256"):
        build_tree(leaves_of(size))


def test_a_node_is_no_leaf():
    left, right = leaves_of(2)
    node = sha256(b"\x00" + left) + sha256(b"\x00" + right)
    tree = build_tree([left, right])

    assert find_root(node, size=1, position=0, proof=b"") != tree.root
    assert find_root(b"\x01" + node, size=1, position=0, proof=b"") != tree.root
