"""Entries that are added, changed, paused and run while everything runs: `app.schedules`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from cardoon import Cardoon, chain
from cardoon.entries import RECORDS
from cardoon.entry_book import recording_of
from cardoon.exceptions import (
    CardoonError,
    EncodeError,
    ImproperlyConfigured,
    InvalidTaskError,
    ScheduleError,
    SecurityError,
)
from cardoon.schedules import crontab, schedule, solar
from tests.unit.stage import make_app

POLICY = """
version = 1
[role.client]
ids = ["subject:CN=client"]

[[allow]]
role = "client"
action = "schedule"
task = ["shop.*", "mail.send"]
[[allow]]
role = "client"
action = "send"
task = ["shop.*"]
queue = ["celery"]
max_eta = "1h"
"""


@pytest.fixture(params=["memory", "sqlite"])
def app(request, tmp_path, clock):
    """An app with an entry of its own, on each embedded store."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/queue.db"
    made = make_app(tmp_path / "state", clock=clock, broker_url=url)

    @made.task(name="shop.close")
    def close(day, *, late=False):
        """Nothing."""

    made.add_periodic_task(30.0, close.s("monday"), name="own")
    yield made
    made.close()


def store(app):
    return recording_of(*app.sender.stores)


def audit(app):
    path = app.sender.deployment.audit().path
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_entry_is_kept_as_it_was_added(app):
    made = app.schedules.add(
        "nightly",
        crontab(30, 2, "mon-fri", tz="Europe/Berlin"),
        "shop.close",
        (datetime(2024, 5, 6, tzinfo=UTC),),
        {"late": True},
        {"queue": "slow", "priority": 3},
        catch_up="all",
        overlap="skip",
    )

    [own, kept] = app.schedules.all().values()
    assert (own.name, own.is_kept, kept.name, kept.is_kept) == ("own", False, "nightly", True)
    assert made == kept == app.schedules.get("nightly")
    assert kept.schedule == crontab(30, 2, "mon-fri", tz="Europe/Berlin")
    assert kept.args == (datetime(2024, 5, 6, tzinfo=UTC),)
    assert (kept.kwargs, kept.options) == ({"late": True}, {"queue": "slow", "priority": 3})
    assert (kept.catch_up, kept.overlap, kept.paused) == ("all", "skip", False)
    assert kept.signed.signer == "CN=client"
    assert (kept.signed.revision, kept.signed.made_at) == (1, int(app.clock.now()))
    assert app.schedules.refused() == []


@pytest.mark.parametrize(
    "due", [30.0, timedelta(hours=2), schedule(60, relative=True), solar("sunset", 52.5, 13.4)]
)
def test_every_kind_of_schedule_can_be_kept(app, due):
    kept = app.schedules.add("one", due, app.tasks["shop.close"].s("friday"), tz="Asia/Tokyo")

    assert kept.schedule == (due if isinstance(due, (schedule, solar)) else schedule(due))
    assert (kept.args, kept.tz) == (("friday",), "Asia/Tokyo")


def test_a_signature_takes_further_arguments_and_options(app):
    close = app.tasks["shop.close"]

    kept = app.schedules.add("one", 60, close.s(late=True).set(priority=1), ("tuesday",))
    other = app.schedules.add("two", 60, close, ("tuesday",), options={"countdown": 5})

    assert (kept.args, kept.kwargs, kept.options) == (("tuesday",), {"late": True}, {"priority": 1})
    assert other.options == {"countdown": 5}


def test_an_entry_is_replaced_only_if_that_is_said(app):
    app.schedules.add("one", 60, "shop.close", ("monday",))

    with pytest.raises(ScheduleError, match="there is one already; change it with replace=True"):
        app.schedules.add("one", 90, "shop.close", ("monday",))
    kept = app.schedules.add("one", 90, "shop.close", ("monday",), replace=True)

    assert kept.schedule == schedule(90)
    assert kept.signed.revision == 2


def test_an_entry_that_was_removed_is_gone_and_can_be_added_again(app):
    app.schedules.add("one", 60, "shop.close", ("monday",))
    app.schedules.remove("one")

    assert list(app.schedules.all()) == ["own"]
    with pytest.raises(ScheduleError, match="there is none of this name"):
        app.schedules.get("one")
    with pytest.raises(
        ScheduleError, match="'ownn': there is none of this name; did you mean 'own'"
    ):
        app.schedules.remove("ownn")
    assert app.schedules.add("one", 60, "shop.close", ("monday",)).signed.revision == 3


@pytest.mark.parametrize("name", ["own", "kept"])
def test_entries_of_both_kinds_are_paused_and_resumed(app, name):
    app.schedules.add("kept", 60, "shop.close", ("monday",))

    app.schedules.pause(name)
    app.schedules.pause(name)
    paused = {one.name for one in app.schedules.all().values() if one.paused}
    app.schedules.resume(name)

    assert paused == {name}
    assert not app.schedules.get(name).paused


def test_an_entry_that_is_paused_in_the_settings_is_resumed_there(app):
    app.conf.beat_schedule = {"own": {"task": "shop.close", "schedule": 5, "paused": True}}

    assert app.schedules.get("own").paused
    with pytest.raises(
        ScheduleError, match="beat_schedule says that it is paused; change it there"
    ):
        app.schedules.resume("own")


def test_another_task_under_the_name_of_a_paused_one_is_not_paused(app):
    app.schedules.add("one", 60, "shop.close", ("monday",))
    app.schedules.pause("one")

    assert app.schedules.add("one", 60, "shop.open", replace=True).paused is False


@pytest.mark.parametrize("name", ["own", "kept"])
def test_an_entry_is_run_now_by_who_asks(app, name):
    app.schedules.add("kept", 60, "shop.close", ("monday",), options={"priority": 2})

    sent = app.schedules.run_now(name)

    [depth] = app.sender.stores[0].depths()
    assert (depth.queue, depth.ready) == ("celery", 1)
    assert sent.id
    assert audit(app)[-1]["event"] == "schedule.run"


def test_the_next_times_are_told_by_the_clock_of_the_zone(app):
    app.schedules.add("one", crontab(30, 2), "shop.open", tz="Europe/Berlin")
    app.clock.advance_to(datetime(2026, 3, 27, tzinfo=UTC).timestamp())

    times = app.schedules.next("one", 4)

    assert [f"{time:%d %H:%M %z}" for time in times] == [
        "27 02:30 +0100",
        "28 02:30 +0100",
        "29 03:00 +0200",
        "30 02:30 +0200",
    ]
    with pytest.raises(ScheduleError, match="count=0 is not between 1 and 1000"):
        app.schedules.next("one", 0)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"name": ""}, ScheduleError, "a name is 1 to 128 bytes of printable text"),
        ({"name": "x" * 129}, ScheduleError, "choose another"),
        ({"name": "a\nb"}, ScheduleError, "printable text"),
        ({"name": " a"}, ScheduleError, "neither begins nor ends with a space"),
        (
            {"name": "own"},
            ScheduleError,
            "beat_schedule has an entry of this name; change it there",
        ),
        ({"schedule": 0.5}, ScheduleError, "every 0.5 seconds is too often .*; 1 is the least"),
        ({"schedule": "daily"}, ScheduleError, "'daily' is not a period; use seconds"),
        ({"schedule": -1}, ScheduleError, "-1 is not between 0 and"),
        ({"tz": "Mars"}, ScheduleError, "'Mars' is not a time zone of the tz database"),
        ({"catch_up": "al"}, ScheduleError, "catch_up='al' is unknown; did you mean 'all'"),
        ({"overlap": "no"}, ScheduleError, "overlap='no' is unknown"),
        ({"task": 7}, InvalidTaskError, "7 is not a task, its name or its signature"),
        ({"args": (1, 2, 3)}, InvalidTaskError, "shop.close"),
        (
            {"options": {"quue": "x"}},
            InvalidTaskError,
            "unknown option 'quue'; did you mean 'queue'",
        ),
        ({"options": {"link": [{"task": "a"}]}}, ScheduleError, "no option 'link' here: what runs"),
        ({"options": {"task_id": "x"}}, ScheduleError, "each tick has an id of its own"),
        ({"options": {"eta": datetime(2030, 1, 1, tzinfo=UTC)}}, ScheduleError, "use countdown"),
        (
            {"options": {"expires": datetime(2030, 1, 1, tzinfo=UTC)}},
            ScheduleError,
            "it is not plain JSON; leave it out",
        ),
        ({"args": (object(),)}, EncodeError, "object"),
        ({"args": ("x" * 60_000,)}, EncodeError, "are more than a record may have"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_the_remedy(app, change, error, said):
    wanted = {"name": "one", "schedule": 60, "task": "shop.close", "args": ("monday",), **change}

    with pytest.raises(error, match=said):
        app.schedules.add(**wanted)

    assert store(app).records(RECORDS) == {}


def test_a_canvas_cannot_be_kept(app):
    close = app.tasks["shop.close"]

    with pytest.raises(InvalidTaskError, match="of a canvas make a task"):
        app.schedules.add("one", 60, chain(close.si("a"), close.si("b")))


def test_entries_of_the_settings_are_changed_where_they_stand(app):
    with pytest.raises(ScheduleError, match="it stands in beat_schedule and is removed there"):
        app.schedules.remove("own")
    with pytest.raises(ScheduleError, match="it stands in beat_schedule and is renewed there"):
        app.schedules.renew("own")


def test_of_two_who_change_an_entry_at_once_one_is_told(app, monkeypatch):
    app.schedules.add("one", 60, "shop.close", ("monday",))
    mine = app.schedules
    book = mine._book()
    read = book.read
    page = read()
    app.schedules.add("one", 90, "shop.close", ("monday",), replace=True)
    monkeypatch.setattr(book, "read", lambda: page)

    with pytest.raises(ScheduleError, match="somebody else has changed it meanwhile"):
        mine.add("one", 120, "shop.close", ("monday",), replace=True)
    with pytest.raises(ScheduleError, match="somebody else has changed it meanwhile"):
        mine.remove("one")

    assert app.schedules.get("one").schedule == schedule(90)


def test_an_entry_is_signed_anew_as_it_is(app):
    made = app.schedules.add(
        "one", crontab(7), "shop.close", ("a",), options={"priority": 1}, tz="Asia/Tokyo"
    )
    app.clock.advance(86_400)

    again = app.schedules.renew("one")

    assert again.signed.made_at == made.signed.made_at + 86_400
    for field in ("schedule", "args", "kwargs", "options", "tz", "catch_up", "overlap"):
        assert getattr(again, field) == getattr(made, field)


def test_changes_are_in_the_audit_trail_without_arguments(app):
    app.schedules.add("one", 60, "shop.close", ("secret",))
    app.schedules.add("one", 60, "shop.close", ("secret",), replace=True)
    app.schedules.pause("one")
    app.schedules.resume("one")
    app.schedules.remove("one")

    said = [one for one in audit(app) if one["event"].startswith("schedule.")]
    assert [one["event"].partition(".")[2] for one in said] == [
        "add",
        "replace",
        "pause",
        "resume",
        "remove",
    ]
    assert {(one["entry"], one["task"]) for one in said} == {("one", "shop.close")}
    assert "secret" not in json.dumps(said)


def test_who_may_not_schedule_or_not_send_a_task_is_told_before_anything_is_kept(tmp_path, clock):
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    policy.chmod(0o600)
    with make_app(tmp_path / "state", clock=clock, security_policy=str(policy)) as app:
        app.schedules.add("one", 60, "shop.close")
        for task, options, said in [
            ("bank.pay", {}, "send bank.pay.*; who schedules a task must be allowed to send it"),
            ("mail.send", {}, "send mail.send on queue celery"),
            ("shop.close", {"queue": "fast"}, "send shop.close on queue fast"),
            ("shop.close", {"countdown": 7200}, "7200 seconds ahead"),
        ]:
            with pytest.raises(SecurityError, match=said):
                app.schedules.add("two", 60, task, options=options)

        assert list(app.schedules.all()) == ["one"]
        policy.write_text(POLICY.replace('"schedule"', '"event"'))
        clock.advance(10)
        assert list(app.schedules.all()) == []
        [refused] = app.schedules.refused()
        assert (refused.name, refused.reason) == ("one", "denied")
        with pytest.raises(
            SecurityError, match="have a rule of the policy allow the action 'schedule'"
        ):
            app.schedules.add("two", 60, "shop.close")


def test_what_keeps_nothing_is_named_with_the_remedy():
    with pytest.raises(ImproperlyConfigured, match=r"use sqlite:///, redis:// or postgresql://"):
        recording_of(object(), None)


def test_task_code_keeps_no_entries(app):
    class Link:
        pass

    app.attach(Link())
    try:
        with pytest.raises(InvalidTaskError, match="entries are kept by clients, not in tasks"):
            app.schedules.all()
    finally:
        app.detach()


def test_the_errors_are_of_one_family():
    assert issubclass(ScheduleError, CardoonError)
    assert issubclass(ScheduleError, ValueError)
    assert Cardoon.schedules.__doc__
