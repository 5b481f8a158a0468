"""The view of `cardoon events`: what the keys do, and that nothing that events say can spoil a screen."""

from __future__ import annotations

import time
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.cli.event_view import HELP, Key, Page, Style, View, fit
from cardoon.events import State

NASTY = "\x1b[2J\x9b31m\u202eevil\u0301\u0301\n\r\t\x07"


class Ears:
    def __init__(self):
        self.refused = Counter()
        self.lost = Counter()


class Clerk:
    """Notes what the view asks for."""

    def __init__(self):
        self.revoked = []
        self.asked = []
        self.error = None

    def revoke(self, task_id):
        if self.error:
            raise self.error
        self.revoked.append(task_id)

    def look_up(self, task_id, *, with_value, told):
        self.asked.append((task_id, with_value))
        told("SUCCESS: 42" if with_value else "SUCCESS; v reads it")


class Desk:
    """A view and what stands around it."""

    def __init__(self):
        self.state = State()
        self.ears = Ears()
        self.clerk = Clerk()
        self.view = View(self.state, self.ears, self.clerk)

    def tell(self, type, uuid="", hostname="w1@host", at=0.0, **fields):
        more = {"uuid": uuid} if uuid else {}
        now = time.time()
        told = {"type": type, "timestamp": 1000.0 + at, "hostname": hostname, "local_received": now}
        self.state.event({**told, **more, **fields})

    def press(self, *keys):
        for key in keys:
            self.view.press(key)

    def text(self, height=24, width=120):
        return "\n".join(line.text for line in self.view.lines(height, width))

    def chosen(self):
        [line] = [line for line in self.view.lines(24, 120) if line.style is Style.CHOSEN]
        return line.text


@pytest.fixture
def desk():
    made = Desk()
    made.tell(
        "worker-heartbeat", freq=60.0, active=1, processed=7, loadavg=[0.5, 0, 0], signer="CN=w1"
    )
    made.tell("worker-offline", hostname="w2@host", freq=60.0)
    for number, (name, end) in enumerate(
        [
            ("shop.pay", "task-succeeded"),
            ("shop.mail", "task-failed"),
            ("shop.ship", "task-started"),
        ]
    ):
        made.tell("task-received", f"id-{number}", at=number, name=name)
        host = "w2@host" if number == 2 else "w1@host"
        made.tell(end, f"id-{number}", host, at=number + 0.5, runtime=0.25)
    return made


def test_it_begins_with_the_tasks_the_newest_first(desk):
    lines = desk.text().splitlines()

    assert "1 of 2 workers alive, 3 tasks" in lines[0]
    assert lines[1].split()[:4] == ["time", "state", "name", "id"]
    assert "STARTED  shop.ship" in lines[2]
    assert "FAILURE  shop.mail" in lines[3]
    assert "SUCCESS  shop.pay" in lines[4]
    assert "0.250  w1@host" in lines[4]
    assert "w workers" in lines[-1]


def test_the_cursor_moves_and_stays_on_its_task_when_others_come(desk):
    desk.press(Key.DOWN)
    assert "shop.mail" in desk.chosen()

    desk.tell("task-received", "id-9", at=99, name="shop.new")

    assert "shop.mail" in desk.chosen()
    desk.press("k")
    assert "shop.ship" in desk.chosen()
    desk.press(Key.HOME)
    assert "shop.new" in desk.chosen()
    desk.press("G")
    assert "shop.pay" in desk.chosen()
    desk.press(Key.DOWN, Key.PAGE_DOWN)
    assert "shop.pay" in desk.chosen()
    desk.press(Key.PAGE_UP)
    assert "shop.new" in desk.chosen()


def test_a_long_list_scrolls_with_the_cursor(desk):
    for number in range(100):
        desk.tell("task-received", f"many-{number}", at=200 + number, name="many")
    desk.press(Key.END)

    lines = desk.view.lines(10, 120)

    assert len(lines) == 10
    assert lines[-3].style is Style.CHOSEN
    assert "shop.pay" in lines[-3].text


def test_workers_are_listed_with_what_they_told(desk):
    desk.press("w")

    alive, dead = desk.text().splitlines()[2:4]
    assert alive.split()[:2] == ["w1@host", "ONLINE"]
    assert ("7" in alive, "0.50" in alive, "CN=w1" in alive) == (True, True, True)
    assert dead.split()[:2] == ["w2@host", "OFFLINE"]


def test_a_worker_leads_to_its_tasks_a_task_to_its_history_and_escape_back(desk):
    desk.press("w", Key.DOWN, Key.ENTER)
    assert "of w2@host" in desk.text()
    assert "shop.ship" in desk.text()
    assert "shop.pay" not in desk.text()

    desk.press(Key.ENTER)
    text = desk.text()
    assert "name        shop.ship" in text
    assert "task-received    w1@host" in text
    assert "task-started     w2@host" in text
    assert "result      SUCCESS; v reads it" in text
    assert desk.clerk.asked == [("id-2", False)]

    desk.press("v")
    assert "result      SUCCESS: 42" in desk.text()
    desk.press(Key.ESCAPE)
    assert desk.view.page is Page.TASKS
    desk.press(Key.ESCAPE)
    assert desk.view.page is Page.WORKERS
    desk.press(Key.ESCAPE, "t")
    assert "shop.pay" in desk.text()


def test_a_filter_narrows_while_it_is_typed(desk):
    desk.press("/", *"MAIL")
    assert "filter: MAIL_" in desk.text()
    assert "shop.mail" in desk.text()
    assert "shop.pay" not in desk.text()

    desk.press(Key.BACKSPACE, Key.BACKSPACE, *"xx", Key.ENTER)
    assert "nothing has 'MAxx' in it" in desk.text()
    desk.press(Key.DOWN, Key.ENTER)  # with nothing there

    desk.press("/", Key.ESCAPE)
    assert "shop.pay" in desk.text()
    desk.press("/", *"failure", Key.ENTER, Key.ESCAPE)
    assert "shop.pay" in desk.text()


def test_another_list_is_shown_whole(desk):
    desk.press("/", *"w1", Key.ENTER, "w")
    assert "w2@host" in desk.text()

    desk.press("/", *"w2", Key.ENTER, Key.ENTER)

    assert "shop.ship" in desk.text()


def test_a_pause_keeps_the_list_and_takes_in_what_happens(desk):
    desk.press("p")
    desk.tell("task-received", "id-9", at=99, name="shop.new")
    assert "PAUSED" in desk.text()
    assert "shop.new" not in desk.text()

    desk.press("p")

    assert "shop.new" in desk.text()
    assert "PAUSED" not in desk.text()


def test_revoking_asks_and_only_y_is_yes(desk):
    desk.press("r")
    assert "revoke id-2 and stop it if it runs? y/n" in desk.text()
    desk.press(Key.ENTER)
    assert "not revoked" in desk.text()
    assert desk.clerk.revoked == []

    desk.press("r", "y")

    assert desk.clerk.revoked == ["id-2"]
    assert "revoked id-2" in desk.text()
    desk.press(Key.ENTER, "r", "y")
    assert desk.clerk.revoked == ["id-2", "id-2"]


def test_revoking_that_fails_is_said(desk):
    desk.clerk.error = ValueError("the broker is away")

    desk.press("r", "y")

    assert "not revoked: the broker is away" in desk.text()


def test_there_is_nothing_to_revoke_among_workers(desk):
    desk.press("w", "r")

    assert "no such key here" in desk.text()
    assert desk.clerk.revoked == []


def test_help_and_the_end(desk):
    desk.press("?")
    assert all(line in desk.text() for line in HELP)
    desk.press(Key.ESCAPE, "q")

    assert desk.view.ended


def test_before_anything_is_heard_it_says_what_to_do():
    desk = Desk()
    assert "workers tell of tasks when started with -E" in desk.text()

    desk.press("w")

    assert "each tells of itself every two seconds" in desk.text()


def test_what_was_refused_or_is_missing_is_an_alarm(desk):
    desk.ears.refused["bad-signature"] = 3
    desk.ears.lost["gap"] = 2

    title = desk.view.lines(24, 120)[0]

    assert "REFUSED 3 MISSING 2" in title.text
    assert title.style is Style.ALARM


def test_a_task_that_is_forgotten_is_said_to_be(desk):
    desk.press(Key.ENTER)
    desk.state.clear(ready=False)

    assert "id-2 is no longer in memory" in desk.text()


@pytest.mark.parametrize("page", [[], ["w"], [Key.ENTER], ["w", Key.ENTER]])
def test_hostile_texts_are_written_as_numbers(page):
    desk = Desk()
    desk.tell("worker-heartbeat", hostname=NASTY, freq=2.0, signer=NASTY)
    desk.tell("task-received", NASTY, NASTY, name=NASTY, exception=NASTY, queue=NASTY)
    desk.press(*page)

    for line in desk.view.lines(24, 200):
        assert all(char.isprintable() for char in line.text)
        assert not any(unicodedata.combining(char) for char in line.text)
    assert "\\x1b[2J\\x9b31m\\x202eevil\\x301" in desk.text(24, 200)


@given(st.text(max_size=60), st.integers(0, 40))
def test_no_text_is_wider_than_it_may_be(text, width):
    shown = fit(text, width)

    assert sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in shown) <= width
    assert shown.isprintable()


@pytest.mark.parametrize("height", range(12))
@pytest.mark.parametrize("width", [0, 1, 19, 20, 40, 300])
def test_any_size_of_a_terminal_will_do(desk, height, width):
    for keys in ([], ["w"], ["w", Key.ENTER, Key.ENTER], ["?"]):
        desk.press("t", *keys)
        lines = desk.view.lines(height, width)
        assert len(lines) <= height
        assert all(len(line.text) <= width for line in lines)


def test_ten_thousand_tasks_are_drawn_in_time(desk):
    for number in range(10_000):
        desk.tell("task-received", f"many-{number}", at=number, name="many")

    began = time.process_time()
    desk.view.lines(50, 200)

    assert time.process_time() - began < 2.0
