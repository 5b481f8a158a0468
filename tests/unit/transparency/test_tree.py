"""The tree of RFC 6962, against its own words."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.transparency.tree import Frontier, Leaves, Proof, Span, hash_leaf, root_of_proof
from tests.unit.transparency.readers import root_of

LINES = [f"record {number}\n".encode() for number in range(40)]


def leaves_of(lines, start=0):
    tree = Frontier()
    for line in lines[:start]:
        tree.append(hash_leaf(line))
    leaves = Leaves(tree)
    for line in lines[start:]:
        leaves.append(hash_leaf(line))
    return leaves


def test_a_tree_that_grows_has_the_root_of_the_whole_at_every_size():
    tree = Frontier()
    for number, line in enumerate(LINES):
        assert tree.root() == root_of(LINES[:number])
        assert len(tree.nodes) == number.bit_count()
        tree.append(hash_leaf(line))


def test_the_empty_tree_and_the_empty_leaf_are_those_of_the_standard():
    assert Frontier().root().hex() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    tree = Frontier()
    tree.append(hash_leaf(b""))
    assert tree.root().hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


@given(st.integers(1, 40), st.data())
def test_every_record_is_proven_even_where_the_first_files_are_gone(size, data):
    start = data.draw(st.integers(0, size - 1))
    index = data.draw(st.integers(start, size - 1))
    leaves = leaves_of(LINES, start)

    proof = leaves.prove(index, size)

    assert root_of_proof(hash_leaf(LINES[index]), proof) == root_of(LINES[:size])
    assert len(proof.hashes) <= 6


@given(st.integers(1, 40), st.data())
def test_a_proof_is_of_one_record_at_one_place_in_one_tree(size, data):
    index = data.draw(st.integers(0, size - 1))
    proof = leaves_of(LINES).prove(index, size)
    wrong = data.draw(
        st.sampled_from(
            [
                proof._replace(leaf=(index + 1) % size if size > 1 else 1),
                proof._replace(hashes=[*proof.hashes, bytes(32)]),
                proof._replace(hashes=proof.hashes[1:] if proof.hashes else [bytes(32)]),
            ]
        )
    )

    try:
        found = root_of_proof(hash_leaf(LINES[index]), wrong)
    except ValueError:
        return
    assert found != root_of(LINES[:size])


def consistent(old, new, old_root, new_root, proof):
    """RFC 9162, 2.1.4.2."""
    path = list(proof)
    if old == new:
        return not path and old_root == new_root
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for one in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr = hashlib.sha256(b"\1" + one + fr).digest()
            sr = hashlib.sha256(b"\1" + one + sr).digest()
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = hashlib.sha256(b"\1" + sr + one).digest()
        fn, sn = fn >> 1, sn >> 1
    return (fr, sr, sn) == (old_root, new_root, 0)


@given(st.integers(1, 40), st.data())
def test_one_tree_is_proven_to_be_the_beginning_of_another(size, data):
    old = data.draw(st.integers(1, size))
    proof = leaves_of(LINES).prove_consistency(old, size)

    assert consistent(old, size, root_of(LINES[:old]), root_of(LINES[:size]), proof)
    changed = [b"another\n", *LINES[1:]]
    assert not consistent(old, size, root_of(changed[:old]), root_of(LINES[:size]), proof)


@pytest.mark.parametrize(("index", "size"), [(3, 3), (2, 41), (40, 41), (-1, 3)])
def test_what_is_not_there_is_not_proven(index, size):
    with pytest.raises(ValueError, match="this log holds"):
        leaves_of(LINES).prove(index, size)


def test_what_is_no_frontier_is_none():
    with pytest.raises(ValueError, match="full subtrees"):
        Frontier(3, [bytes(32)])
    with pytest.raises(ValueError, match="32 bytes"):
        Frontier(1, [bytes(31)])


def test_a_proof_of_no_place_is_none():
    with pytest.raises(ValueError, match="record 2 of 2"):
        root_of_proof(bytes(32), Proof(2, 2, []))


def span_of(start, end):
    span = Span(start)
    for line in LINES[start:end]:
        span.append(hash_leaf(line))
    return span


@given(st.lists(st.integers(0, 40), min_size=1))
def test_spans_that_follow_each_other_join_to_the_tree(ends):
    whole = Span(0)
    for end in sorted(ends):
        one = span_of(whole.end, end)
        assert Span(one.start, one.end, one.nodes).nodes == one.nodes
        whole.join(one)
        assert whole.root() == root_of(LINES[:end])


def test_a_span_has_as_few_hashes_as_can_be_and_refuses_other_numbers_of_them():
    assert len(span_of(3, 40).nodes) == 5  # 3; 4 to 7; 8 to 15; 16 to 31; 32 to 39
    with pytest.raises(ValueError, match="full subtrees"):
        Span(3, 40, span_of(3, 40).nodes[:-1])
    with pytest.raises(ValueError, match="does not follow"):
        span_of(0, 3).join(span_of(4, 5))
    with pytest.raises(ValueError, match="no root"):
        span_of(3, 40).root()
