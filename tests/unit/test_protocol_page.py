"""docs/protocol.md says everything that an implementation must know by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cardoon.exceptions import Refusal
from cardoon.message import envelope, merkle, protocol
from cardoon.message.protocol import Kind, Label
from cardoon.security.keys import Algorithm
from cardoon.security.policy import Action

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def cells():
    """The rows of its tables."""
    return [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in PAGE.splitlines()
        if line.startswith("|")
    ]


@pytest.mark.parametrize("label", Label)
def test_every_label_has_a_number_a_name_and_bounds(label):
    rows = [
        dict(zip(re.split(r", *", numbers), re.split(r", *", names), strict=True))
        for numbers, names, *_ in cells()
        if re.fullmatch(r"\d+(, \d+)*", numbers) and re.fullmatch(r"[A-Z_]+(, [A-Z_]+)*", names)
    ]

    assert [row[str(label.value)] for row in rows if str(label.value) in row] == [label.name]


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_its_number(kind):
    assert re.search(rf"\b{kind.value} {kind.name}\b", PAGE)


@pytest.mark.parametrize("refusal", Refusal)
def test_every_reason_is_explained_and_has_a_place_in_the_order(refusal):
    assert [row for row in cells() if f"`{refusal}`" in row[0]]
    assert PAGE.count(f"`{refusal}`") > 1


@pytest.mark.parametrize("algorithm", Algorithm)
def test_every_algorithm_is_named(algorithm):
    name = {"ED25519": "Ed25519"}.get(algorithm.name, algorithm.name)

    assert f"{name} {algorithm.value}" in PAGE


@pytest.mark.parametrize("action", Action)
def test_every_action_is_named(action):
    assert f"`{action}`" in PAGE


@pytest.mark.parametrize(
    "number",
    [
        protocol.MAX_SEQUENCE,
        protocol.MAX_NAME,
        protocol.MAX_ID,
        protocol.MAX_AUDIENCE,
        protocol.MAX_AUDIENCE_NAME,
        protocol.MAX_HEADERS,
        protocol.MAX_SECONDS,
        protocol.MAX_MILLISECONDS,
        protocol.MAX_PREDECESSORS,
        envelope.MAX_PROTECTED,
        envelope.MAX_SIGNATURE,
        envelope.MAX_CHAIN,
        merkle.MAX_LEAVES,
    ],
)
def test_every_bound_is_there(number):
    assert re.search(rf"(?<!\d)({number}|{number:,})(?!\d)", PAGE)


@pytest.mark.parametrize("context", ["", "/batch", "/nonce", "/reader", "/group"])
def test_every_context_is_there(context):
    assert f'"cardoon/1{context}" 00' in PAGE
