"""Steps of a canvas that no worker knows: they end, whatever became of what they waited for."""

from __future__ import annotations

import pytest

from cardoon import chord
from cardoon.broker import Kept
from cardoon.exceptions import NotRegistered


@pytest.mark.parametrize("fails", [True, False], ids=["a member failed", "all succeeded"])
def test_a_body_that_no_worker_knows_is_a_dead_letter(troupe, fails):
    @troupe.app.task(name="member")
    def member(number):
        if fails and number == 2:
            raise ValueError("no")
        return number

    troupe.start()
    unknown = troupe.app.signature("nowhere.known")

    result = chord([member.s(1), member.s(2)], unknown).apply_async()
    troupe.play()

    with pytest.raises(NotRegistered, match=r"nowhere\.known"):
        result.get(timeout=0)
    [kept] = troupe.broker.kept(Kept.DEAD_LETTER, limit=9)
    assert kept.id == result.id
