"""Each target of the fuzzer for a moment: the same bytes each time."""

from __future__ import annotations

import pytest

from tests.fuzz import run
from tests.fuzz.feeding import Mutator
from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_answers_and_refusals_comes_out(capsys, name):
    assert not run.run(name, seconds=0, count=250, seed=1), capsys.readouterr().out


def test_a_finding_is_told_with_its_bytes(capsys, monkeypatch):
    def reads_at_most_ten_bytes(data):
        if len(data) > 10:
            raise IndexError("an error that nobody expects")

    monkeypatch.setitem(TARGETS, "weak", lambda: Target([b"0123456789"], reads_at_most_ten_bytes))

    assert run.run("weak", seconds=0, count=1000, seed=1)
    assert "weak: FINDING: " in capsys.readouterr().out


def test_a_seed_gives_the_same_bytes():
    first, second = (Mutator(7, [b"one", b"other"]) for _ in range(2))

    made = [first.make() for _ in range(100)]

    assert made == [second.make() for _ in range(100)]
    assert len(set(made)) > 50
