"""`cardoon schedule`."""

from __future__ import annotations

import json

import pytest

from cardoon.entries import ENTRY_PREFIX, RECORDS
from cardoon.entry_book import recording_of

TASKS = """\
from cardoon import Cardoon

app = Cardoon("tasks", set_as_current=False)


@app.task
def close(day, late=False):
    return day


app.add_periodic_task(30.0, close.s("monday"), name="own")
"""


@pytest.fixture
def shop(project):
    """A project whose tasks have an entry of their own."""
    (project.folder / "tasks.py").write_text(TASKS)
    project.schedule = lambda *words: ("-A", "tasks", "schedule", *words)
    return project


def listed(shop):
    return {one["name"]: one for one in shop.json(*shop.schedule("list", "--json"))}


def test_an_entry_is_added_listed_and_shown(shop):
    added = shop.answer(
        *shop.schedule("add", "nightly", "close", "--cron", "30 2 * * mon-fri"),
        *("--tz", "Europe/Berlin", "-a", '["friday"]', "-k", '{"late": true}', "--queue", "slow"),
        *("--overlap", "skip", "--catch-up", "all"),
    )

    assert added.startswith("nightly: 30 2 * * mon-fri (Europe/Berlin); next 20")
    [own, nightly] = listed(shop).values()
    assert (own["name"], own["source"], own["signer"]) == ("own", "beat_schedule", None)
    assert own["schedule"] == {"type": "interval", "seconds": 30.0, "relative": False}
    assert (nightly["source"], nightly["signer"], nightly["state"]) == (
        "store",
        "CN=client",
        "active",
    )
    assert (nightly["task"], nightly["options"]) == ("tasks.close", {"queue": "slow"})
    assert (nightly["overlap"], nightly["catch_up"], nightly["tz"]) == (
        "skip",
        "all",
        "Europe/Berlin",
    )
    assert "args" not in nightly
    shown = shop.json(*shop.schedule("show", "nightly", "--arguments", "--json"))
    assert (shown["args"], shown["kwargs"]) == (["friday"], {"late": True})
    page = shop.answer(*shop.schedule("show", "nightly", "--arguments"))
    assert "args      ['friday']" in page
    assert "friday" not in shop.answer(*shop.schedule("show", "nightly"))
    head, *rows = shop.answer(*shop.schedule("list")).splitlines()
    assert head.split() == ["name", "task", "when", "next", "(UTC)", "state", "made", "by"]
    assert "every 30s" in rows[0]
    assert "30 2 * * mon-fri (Europe/Berlin)" in rows[1]


@pytest.mark.parametrize(
    ("words", "told", "said"),
    [
        (("--every", "30s"), {"type": "interval", "seconds": 30.0, "relative": False}, "every 30s"),
        (
            ("--every", "1.5h"),
            {"type": "interval", "seconds": 5400.0, "relative": False},
            "every 90m",
        ),
        (
            ("--every", "2d", "--relative"),
            {"type": "interval", "seconds": 172800.0, "relative": True},
            "every 2d (whole)",
        ),
        (
            ("--solar", "sunset,52.5,13.4"),
            {"type": "solar", "event": "sunset", "lat": 52.5, "lon": 13.4},
            "sunset at 52.5, 13.4",
        ),
    ],
)
def test_it_is_said_when_an_entry_is_due(shop, words, told, said):
    made = shop.json(*shop.schedule("add", "one", "close", "-a", '["x"]', *words, "--json"))

    assert made["schedule"] == told
    assert said in shop.answer(*shop.schedule("list"))


@pytest.mark.parametrize("name", ["own", "one"])
def test_entries_are_paused_resumed_and_run(shop, name):
    shop.answer(*shop.schedule("add", "one", "close", "-a", '["x"]', "--every", "1h"))

    assert shop.answer(*shop.schedule("pause", name)) == f"paused {name}\n"
    assert listed(shop)[name]["state"] == "paused"
    assert shop.answer(*shop.schedule("resume", name)) == f"resumed {name}\n"
    assert listed(shop)[name]["state"] == "active"
    sent = shop.json(*shop.schedule("run", name, "--json"))["id"]
    [depth] = shop.json("queues", "--json")
    assert depth["ready"] == 1
    assert len(sent) == 36


def test_entries_are_removed_and_signed_anew(shop):
    for name in ("one", "two"):
        shop.answer(*shop.schedule("add", name, "close", "-a", '["x"]', "--every", "1h"))
    shop.answer(*shop.schedule("renew", "one"))

    assert listed(shop)["one"]["revision"] == 2
    assert shop.answer(*shop.schedule("remove", "one", "two")) == "removed one\nremoved two\n"
    assert list(listed(shop)) == ["own"]


def test_the_next_times_are_shown_there_and_in_utc(shop):
    words = ("--cron", "0 12 * * *", "--tz", "Asia/Tokyo")
    shop.answer(*shop.schedule("add", "noon", "close", "-a", '["x"]', *words))

    times = shop.json(*shop.schedule("next", "noon", "-n", "3", "--json"))
    head, *rows = shop.answer(*shop.schedule("next", "noon", "-n", "2")).splitlines()

    assert [time[10:] for time in times] == ["T12:00:00+09:00"] * 3
    assert head.split() == ["there", "UTC"]
    assert [("12:00:00 JST" in row, "03:00:00" in row) for row in rows] == [(True, True)] * 2


def test_a_record_that_is_refused_is_shown_and_can_be_removed(shop):
    shop.answer(*shop.schedule("add", "one", "close", "-a", '["x"]', "--every", "1h"))
    store = recording_of(*shop.app.sender.stores)
    [(key, record)] = store.records(RECORDS).items()
    store.put_record(RECORDS, ENTRY_PREFIX + "two", record.frame, revision=0)

    assert listed(shop)["two"]["state"] == "refused"
    assert listed(shop)["two"]["reason"] == "wrong-request"
    assert "refused" in shop.answer(*shop.schedule("list"))
    assert "its record is refused" in shop.error(*shop.schedule("show", "two"))
    shop.answer(*shop.schedule("remove", "two"))
    assert list(listed(shop)) == ["own", "one"]
    assert key == ENTRY_PREFIX + "one"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give one of --cron, --every and --solar"),
        (("--cron", "* * * * *", "--every", "5s"), "give one of --cron, --every and --solar"),
        (("--cron", "* * * * *", "--relative"), "--relative goes with --every"),
        (("--cron", "* * * *"), "has 4 fields; write five"),
        (("--cron", "* * * * mom"), "did you mean 'mon'"),
        (("--every", "5 parsecs"), "write a number and s, m, h or d, such as 30s"),
        (("--every", "0s"), "is not between 0 and"),
        (("--solar", "sunset,52.5"), "--solar 'sunset,52.5' is not an event and two numbers"),
        (("--solar", "sunsett,52.5,13"), "did you mean 'sunset'"),
        (("--solar", "sunset,95,13"), "lat=95.0 is not a number from -90 to 90"),
        (("--every", "5s", "--args", "{}"), "is not a JSON list"),
    ],
)
def test_a_wrong_schedule_is_named_with_the_remedy(shop, words, said):
    assert said in shop.usage(*shop.schedule("add", "one", "close", *words))


def test_errors_name_the_entry_and_the_remedy(shop):
    words = ("add", "own", "close", "-a", '["x"]', "--every", "5s")
    assert "beat_schedule has an entry of this name" in shop.error(*shop.schedule(*words))
    assert "did you mean 'own'" in shop.error(*shop.schedule("show", "onw"))
    assert "is removed there" in shop.error(*shop.schedule("remove", "own"))


def test_it_works_through_the_real_entry_point(shop):
    words = ("--every", "1h", "-a", '["x"]', "--json")
    code, output, errors = shop.finish(*shop.schedule("add", "one", "close", *words))
    assert (code, errors) == (0, "")
    assert json.loads(output)["name"] == "one"

    code, output, errors = shop.finish(*shop.schedule("add", "one", "close", "--every", "1h"))
    assert (code, output) == (1, "")
    assert errors.startswith("error: ")
