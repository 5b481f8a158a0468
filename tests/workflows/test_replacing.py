"""What takes a task's place: it answers for that, and what is called with its result hears of it."""

from __future__ import annotations

import pytest

from cardoon import Task, chain, chord, group
from cardoon.broker import Kept


@pytest.fixture
def shop(troupe):
    """A task that another one, or a canvas, takes the place of."""
    app = troupe.app
    troupe.noted = []

    @app.task(name="total")
    def total(*numbers):
        return sum(numbers) if not numbers or isinstance(numbers[0], int) else sum(numbers[0])

    @app.task(name="note")
    def note(*found):
        troupe.noted.append(found[-1])
        return found[-1]

    @app.task(name="swap", bind=True)
    def swap(self: Task, how):
        if how == "linked":
            linked = total.s(3)
            linked.link(note.s("linked"))
            raise self.replace(linked)
        if how == "twice":
            raise self.replace(swap.s("chain"))
        canvas = {
            "one": total.s(3),
            "chain": chain(total.s(1), total.s(2)),
            "chord": chord([total.s(1), total.s(2)], total.s()),
        }
        raise self.replace(canvas[how])

    troupe.total, troupe.note, troupe.swap = total, note, swap
    troupe.start()
    return troupe


WAYS = ["one", "linked", "chain", "chord", "twice"]


@pytest.mark.parametrize("how", WAYS)
def test_it_answers_under_the_name_that_was_asked_for(shop, how):
    result = shop.swap.delay(how)

    shop.play()

    assert (result.get(timeout=0), result.name) == (3, "swap")


@pytest.mark.parametrize("how", WAYS)
def test_all_that_wait_for_either_of_them_hear_of_it(shop, how):
    after = chain(shop.swap.s(how), shop.note.s("link")).apply_async()
    body = chord(group(shop.swap.s(how), shop.total.s(4)), shop.note.s("body")).apply_async()

    shop.play()

    assert (after.get(timeout=0), body.get(timeout=0)) == ("link", "body")
    assert shop.noted.count("linked") == (2 if how == "linked" else 0)
    assert list(shop.broker.kept(Kept.QUARANTINE, limit=9)) == []
