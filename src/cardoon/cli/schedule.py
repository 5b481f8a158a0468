"""`cardoon schedule`: periodic tasks, those of the settings and those that are kept in the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from cardoon.app import Cardoon
from cardoon.cli.access import (
    answer_option,
    find_app,
    json_option,
    print_json,
    print_table,
    printable,
    wants_json,
    when,
)
from cardoon.cli.main import Invocation
from cardoon.cli.tasks import find_task, json_list, json_object
from cardoon.entry_book import Refused
from cardoon.schedules import (
    SOLAR_EVENTS,
    BaseSchedule,
    crontab,
    schedule_to_json,
    solar,
)
from cardoon.schedules import schedule as interval
from cardoon.scheduling import Scheduled, Schedules
from cardoon.timetable import CATCH_UP, OVERLAP

_WARN_SECONDS = 30 * 86_400
"""Before the end of a signature."""
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_PERIOD = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([smhd]?)")


@click.group()
def schedule() -> None:
    """Periodic tasks: list, add, change, pause and run them.

    Those that are added here are kept in the store, signed by you, and sent by every beat. Those of
    `beat_schedule` are listed, too, and can be paused and run.

    \b
    cardoon -A shop schedule add close shop.tasks.close --cron "30 2 * * mon-fri" --tz Europe/Berlin
    cardoon -A shop schedule list
    cardoon -A shop schedule pause close
    """  # noqa: D301  # \b keeps click from filling the lines


@schedule.command("list")
@json_option
@click.pass_obj
def list_(invocation: Invocation, as_json: bool) -> None:  # noqa: FBT001
    """Show all entries: what, when, whether paused, and who made them; and records that are refused."""
    with _open(invocation) as (app, schedules):
        entries, refused = schedules.all(), schedules.refused()
        now = app.clock.now()
        soon = {name: _next(app, one) for name, one in entries.items()}
    rows = [_describe(one, soon[name]) for name, one in entries.items()]
    if as_json:
        print_json([*rows, *map(_describe_refused, refused)])
        return
    print_table(
        ("name", "task", "when", "next (UTC)", "state", "made by"),
        [
            (
                *(row["name"], row["task"], _say_when(entries[row["name"]])),
                *(_short(row["next"]), row["state"], row["signer"] or "beat_schedule"),
            )
            for row in rows
        ]
        + [(one.name, "-", "-", "-", "refused", one.describe()) for one in refused],
    )
    for row in rows:
        if row["valid_until"] is not None and row["valid_until"] < now + _WARN_SECONDS:
            click.echo(
                f"{printable(row['name'])}: signed until {when(row['valid_until'])} UTC only; "
                "`cardoon schedule renew` signs it anew",
                err=True,
            )


@schedule.command()
@click.argument("name")
@click.option("--arguments", is_flag=True, help="Show the task's arguments, too.")
@json_option
@click.pass_obj
def show(
    invocation: Invocation,
    name: str,
    arguments: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Show one entry: when it is due next, its options, who has signed it, and until when."""
    with _open(invocation) as (app, schedules):
        found = schedules.get(name)
        told = _describe(found, _next(app, found))
    if arguments:
        told |= {"args": list(found.args), "kwargs": dict(found.kwargs)}
    if as_json:
        print_json(told)
        return
    signed = found.signed
    rows = [
        ("name", found.name),
        ("task", found.task),
        ("when", _say_when(found)),
        ("next", _short(told["next"]) + " UTC"),
        ("state", told["state"]),
        ("missed", f"catch_up={found.catch_up}"),
        ("overlap", found.overlap),
        ("options", ", ".join(f"{key}={value!r}" for key, value in found.options.items()) or "-"),
        ("made by", "beat_schedule" if signed is None else signed.signer),
    ]
    if signed is not None:
        rows.append(("signed", f"{when(signed.made_at)} UTC, revision {signed.revision}"))
        rows.append(("until", f"{when(signed.valid_until)} UTC"))
    if found.unreadable:
        rows.append(("arguments", f"sealed to others: {found.unreadable}"))
    elif arguments:
        rows += [("args", repr(list(found.args))), ("kwargs", repr(dict(found.kwargs)))]
    for head, value in rows:
        click.echo(f"{head:<10}{printable(str(value))}")


@schedule.command()
@click.argument("name")
@click.argument("task")
@click.option(
    "--cron", metavar="FIELDS", help='Minute, hour, day, month, weekday: "30 2 * * mon-fri".'
)
@click.option("--every", metavar="PERIOD", help="30s, 15m, 1.5h, 7d.")
@click.option(
    "--relative", is_flag=True, help="With --every: at whole days, hours, minutes or seconds."
)
@click.option("--solar", "sun", metavar="EVENT,LAT,LON", help="sunset,52.5,13.4.")
@click.option("--tz", metavar="ZONE", help="Whose wall clock counts; the app's if not given.")
@click.option("-a", "--args", type=json_list, default="[]", help="Arguments: a JSON list.")
@click.option(
    "-k", "--kwargs", type=json_object, default="{}", help="Keyword arguments: an object."
)
@click.option("--queue", help="Send to this queue.")
@click.option(
    "--options", type=json_object, default="{}", help="Options of apply_async: an object."
)
@click.option(
    "--catch-up",
    type=click.Choice(CATCH_UP),
    default="one",
    show_default=True,
    help="What becomes of ticks that no beat could send in time.",
)
@click.option(
    "--overlap",
    type=click.Choice(OVERLAP),
    default="allow",
    show_default=True,
    help="Whether a tick is sent while the task of the one before has not ended.",
)
@click.option("--replace", is_flag=True, help="Change the entry, if there is one of this name.")
@json_option
@click.pass_obj
def add(
    invocation: Invocation,
    /,
    name: str,
    task: str,
    cron: str | None,
    every: str | None,
    relative: bool,  # noqa: FBT001
    sun: str | None,
    queue: str | None,
    options: dict[str, Any],
    as_json: bool,  # noqa: FBT001
    **more: Any,
) -> None:
    """Keep an entry NAME that sends TASK, by exactly one of --cron, --every and --solar.

    \b
    cardoon -A shop schedule add lamps shop.lamps.on --solar sunset,52.5,13.4 --kwargs '{"street": 7}'
    cardoon -A shop schedule add poll shop.tasks.poll --every 30s --overlap skip
    """  # noqa: D301
    due = _parse_due(cron, every, sun, relative=relative)
    if queue is not None:
        options = {**options, "queue": queue}
    with _open(invocation) as (app, schedules):
        made = schedules.add(name, due, find_task(app, task), options=options, **more)
        told = _describe(made, _next(app, made))
    if as_json:
        print_json(told)
    else:
        click.echo(f"{name}: {_say_when(made)}; next {_short(told['next'])} UTC")


@schedule.command()
@click.argument("names", nargs=-1, required=True)
@answer_option
@click.pass_obj
def remove(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Have entries NAMES not sent any more."""
    _for_each(invocation, names, lambda schedules: schedules.remove, "removed")


@schedule.command()
@click.argument("names", nargs=-1, required=True)
@answer_option
@click.pass_obj
def pause(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Have no ticks of NAMES sent until they are resumed; also of entries in `beat_schedule`."""
    _for_each(invocation, names, lambda schedules: schedules.pause, "paused")


@schedule.command()
@click.argument("names", nargs=-1, required=True)
@answer_option
@click.pass_obj
def resume(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Have the ticks of NAMES sent again, from the next one on."""
    _for_each(invocation, names, lambda schedules: schedules.resume, "resumed")


@schedule.command()
@click.argument("names", nargs=-1, required=True)
@answer_option
@click.pass_obj
def renew(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Sign NAMES anew, as they are: before the certificate ends of who has signed them."""
    _for_each(invocation, names, lambda schedules: schedules.renew, "signed anew")


@schedule.command()
@click.argument("name")
@json_option
@click.pass_obj
def run(invocation: Invocation, name: str, as_json: bool) -> None:  # noqa: FBT001
    """Send the task of NAME once, now, and print its id; its ticks go on as they would."""
    with _open(invocation) as (_, schedules):
        sent = schedules.run_now(name)
    if as_json:
        print_json({"id": sent.id})
    else:
        click.echo(sent.id)


@schedule.command("next")
@click.argument("name")
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How many of them.",
)
@json_option
@click.pass_obj
def next_(invocation: Invocation, name: str, count: int, as_json: bool) -> None:  # noqa: FBT001
    """Show the next times at which NAME is due, by the clock of its time zone and in UTC."""
    with _open(invocation) as (_, schedules):
        times = schedules.next(name, count)
    if as_json:
        print_json([time.isoformat() for time in times])
        return
    print_table(
        ("there", "UTC"),
        [(f"{time:%a %Y-%m-%d %H:%M:%S %Z}", when(time.timestamp())) for time in times],
    )


@contextmanager
def _open(invocation: Invocation) -> Iterator[tuple[Cardoon, Schedules]]:
    with find_app(invocation) as app:
        yield app, app.schedules


def _for_each(
    invocation: Invocation,
    names: tuple[str, ...],
    find: Callable[[Schedules], Callable[[str], object]],
    done: str,
) -> None:
    with _open(invocation) as (_, schedules):
        for name in names:
            find(schedules)(name)
            if not wants_json():
                click.echo(f"{done} {name}")
    if wants_json():
        print_json({done.replace(" ", "_"): list(names)})


def _parse_due(
    cron: str | None, every: str | None, sun: str | None, *, relative: bool
) -> BaseSchedule:
    if sum(one is not None for one in (cron, every, sun)) != 1:
        raise click.UsageError("give one of --cron, --every and --solar")
    if relative and every is None:
        raise click.UsageError("--relative goes with --every")
    try:
        if cron is not None:
            return crontab.from_string(cron)
        if every is not None:
            return interval(_parse_period(every), relative)
        assert sun is not None
        return _parse_sun(sun)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _parse_period(text: str) -> float:
    found = _PERIOD.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"--every {text!r} is no period; write a number and s, m, h or d, such as 30s"
        )
    return float(found[1]) * _SECONDS[found[2]]


def _parse_sun(text: str) -> solar:
    parts = [part.strip() for part in text.split(",")]
    try:
        event, lat, lon = parts[0], *map(float, parts[1:])
    except ValueError:
        raise ValueError(
            f"--solar {text!r} is not an event and two numbers, such as sunset,52.5,13.4; events are "
            f"{', '.join(SOLAR_EVENTS)}"
        ) from None
    return solar(event, lat, lon)


def _next(app: Cardoon, found: Scheduled) -> datetime | None:
    """When it is due next; None for a schedule of somebody's own that cannot say."""
    moment = datetime.fromtimestamp(app.clock.now(), UTC)
    try:
        return found.times_after(moment, app.settings.timezone)[0]
    except Exception:  # noqa: BLE001  # a schedule may be code of the user's
        return None


def _describe(found: Scheduled, due: datetime | None) -> dict[str, Any]:
    signed = found.signed
    return {
        "name": found.name,
        "task": found.task,
        "state": "paused" if found.paused else "active",
        "schedule": _plain(found.schedule),
        "next": None if due is None else due.isoformat(),
        "tz": found.tz,
        "catch_up": found.catch_up,
        "overlap": found.overlap,
        "options": dict(found.options),
        "source": "store" if found.is_kept else "beat_schedule",
        "signer": None if signed is None else signed.signer,
        "made_at": None if signed is None else signed.made_at,
        "valid_until": None if signed is None else signed.valid_until,
        "revision": None if signed is None else signed.revision,
        "unreadable": found.unreadable,
    }


def _describe_refused(one: Refused) -> dict[str, Any]:
    told = {"name": one.name, "state": "refused", "reason": one.reason, "detail": one.detail}
    return {**told, "source": "store", "revision": one.revision}


def _plain(due: BaseSchedule) -> dict[str, Any]:
    try:
        return schedule_to_json(due)
    except ValueError:
        return {"type": type(due).__name__, "repr": repr(due)}


def _say_when(found: Scheduled) -> str:
    due = found.schedule
    match due:
        case crontab():
            said = due.line
        case interval():
            said = f"every {_say_period(due.seconds)}" + (" (whole)" if due.relative else "")
        case solar():
            said = f"{due.event} at {due.lat:g}, {due.lon:g}"
        case _:
            said = repr(due)
    zone = found.tz or (None if due.own_tz is None else str(due.own_tz))
    return f"{said} ({zone})" if zone else said


def _say_period(seconds: float) -> str:
    """As `--every` reads it."""
    for unit in "dhm":
        if seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    return f"{seconds:g}s"


def _short(moment: str | None) -> str:
    return "-" if moment is None else when(datetime.fromisoformat(moment).timestamp())
