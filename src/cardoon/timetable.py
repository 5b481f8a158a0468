"""Periodic tasks as the setting `beat_schedule` has them: checked, and in a mapping by name.

Sends nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cardoon.schedules import BaseSchedule, maybe_schedule

MAX_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicTask:
    """One entry: which task is called when, and how. Its fields are items, too, as in Celery."""

    task: str
    schedule: BaseSchedule
    args: tuple[Any, ...] = field(default=(), repr=False)
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `apply_async`."""
    relative: bool = False
    """Whether seconds in `schedule` end at whole days, hours or minutes."""
    tz: str | None = None
    """Whose wall clock counts: a name of the tz database; None for the schedule's own or the app's."""
    catch_up: str = "one"
    """What becomes of ticks that nobody could send in time: `skip`, `one` (the last of them) or `all`."""
    overlap: str = "allow"
    """With `skip`, no tick is sent while the task of an earlier one is waiting or running."""
    paused: bool = False
    """Whether no tick is sent."""

    def keys(self) -> tuple[str, ...]:
        """The names of its fields."""
        return FIELDS

    def __getitem__(self, name: str) -> Any:
        if name not in FIELDS:
            raise KeyError(name)
        return getattr(self, name)


FIELDS = (
    *("task", "schedule", "args", "kwargs", "options", "relative"),
    *("tz", "catch_up", "overlap", "paused"),
)
CATCH_UP = ("skip", "one", "all")
OVERLAP = ("allow", "skip")


class Timetable(Mapping[str, PeriodicTask]):
    """The periodic tasks of an app, by name; equal to another with the same."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[str, PeriodicTask] | None = None) -> None:
        self._entries = dict(entries or {})

    def __getitem__(self, name: str) -> PeriodicTask:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __hash__(self) -> int:
        return hash(frozenset(self._entries))

    def __repr__(self) -> str:
        return repr(self._entries)

    def __setitem__(self, name: str, entry: object) -> NoReturn:
        raise TypeError(
            f"beat_schedule: {name!r} cannot be put into settings that are checked already; use "
            "app.add_periodic_task, or assign a whole dict to app.conf.beat_schedule"
        )

    def with_entry(self, name: str, entry: PeriodicTask) -> Timetable:
        """A copy that has this entry under this name."""
        return Timetable({**self._entries, name: entry})

    def describe(self) -> str:
        """How many there are, and the first tasks. Not their own names, which may hold arguments."""
        tasks = list(dict.fromkeys(entry.task for entry in self._entries.values()))
        shown = ", ".join(tasks[:MAX_NAMES_SHOWN]) + ", ..." * (len(tasks) > MAX_NAMES_SHOWN)
        return f"{len(self)} {'entry' if len(self) == 1 else 'entries'} ({shown})"


EMPTY = Timetable()
STANDARD = "cardoon.beat:Beat"
"""The one scheduler there is; Celery's names for its own mean it, too."""
_SCHEDULERS = ("Scheduler", "PersistentScheduler", "Beat")


def parse_scheduler(value: object) -> str:
    """The setting `beat_scheduler`: Celery's own scheduler by any of its names, which is ours."""
    module, _, name = str(value).replace(":", ".").rpartition(".")
    if module in {"celery.beat", "cardoon.beat"} and name in _SCHEDULERS:
        return STANDARD
    if module.startswith(("django_celery_beat", "redbeat", "celery_sqlalchemy_scheduler")):
        raise ValueError(
            "keeps its schedule in a database of its own; here entries that change while beats run are kept by "
            "app.schedules and `cardoon schedule`, in the broker's store, and how far each was sent is kept anyway"
        )
    raise ValueError(
        f"is not a scheduler that Cardoon has; leave it out, or use {STANDARD!r}. Entries from elsewhere come from "
        "an EntrySource: cardoon.beat.Beat(app, sources=[...])"
    )


def parse_timetable(value: object) -> Timetable:
    """The setting's value: a dict of entries. `ValueError` with the end of a sentence, as parsers."""
    if value is None:
        return EMPTY
    if isinstance(value, Timetable):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("is not a dict of entries by name")  # noqa: TRY004  # as all parsers
    return Timetable({_name(name): parse_entry(name, entry) for name, entry in value.items()})


def parse_entry(name: str, value: object) -> PeriodicTask:
    """One entry: a dict with `task` and `schedule`, and perhaps the other fields."""
    if isinstance(value, PeriodicTask):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"has an entry {name!r} that is not a dict with 'task' and 'schedule'")  # noqa: TRY004
    for key in value:
        if key not in FIELDS:
            close = difflib.get_close_matches(str(key), FIELDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(FIELDS)}"
            raise ValueError(f"has an unknown key {key!r} in entry {name!r}; {hint}")
    for key in ("task", "schedule"):
        if not value.get(key):
            raise ValueError(f"has no {key!r} in entry {name!r}")
    try:
        return _read_entry(value)
    except ValueError as error:
        raise ValueError(f"has a wrong entry {name!r}: {error}") from error


def _read_entry(value: Mapping[str, Any]) -> PeriodicTask:
    task, args = value["task"], value.get("args") or ()
    kwargs, options = value.get("kwargs") or {}, value.get("options") or {}
    if not isinstance(task, str):
        raise ValueError(f"task={task!r} is not the name of a task")  # noqa: TRY004
    if not isinstance(args, (tuple, list)):
        raise ValueError(f"args={args!r} is not a tuple; for one argument write ({args!r},)")  # noqa: TRY004
    for key, found in (("kwargs", kwargs), ("options", options)):
        if not isinstance(found, Mapping) or not all(isinstance(one, str) for one in found):
            raise ValueError(f"{key}={found!r} is not a dict with names as its keys")
    relative = _flag(value, "relative")
    due = maybe_schedule(value["schedule"], relative)
    tz = value.get("tz")
    if tz is not None:
        tz = _zone_name(tz, due)
    return PeriodicTask(
        task=task,
        schedule=due,
        args=tuple(args),
        kwargs=dict(kwargs),
        options=dict(options),
        relative=relative,
        tz=tz,
        catch_up=_choice(value, "catch_up", CATCH_UP, "one"),
        overlap=_choice(value, "overlap", OVERLAP, "allow"),
        paused=_flag(value, "paused"),
    )


def _flag(value: Mapping[str, Any], name: str) -> bool:
    found = value.get(name, False)
    if not isinstance(found, bool):
        raise ValueError(f"{name}={found!r} is neither True nor False")  # noqa: TRY004
    return found


def _choice(value: Mapping[str, Any], name: str, among: tuple[str, ...], usual: str) -> str:
    found = value.get(name)
    if found is None:
        return usual
    if found not in among:
        close = difflib.get_close_matches(str(found), among, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"use {' or '.join(map(repr, among))}"
        raise ValueError(f"{name}={found!r} is unknown; {hint}")
    return str(found)


def _zone_name(tz: object, due: BaseSchedule) -> str:
    if not isinstance(tz, str) or not tz:
        raise ValueError(f"tz={tz!r} is not the name of a time zone, such as 'Europe/Berlin'")
    BaseSchedule(tz=tz)  # which refuses what is not in the tz database
    if due.own_tz is not None and str(due.own_tz) != tz:
        raise ValueError(
            f"tz={tz!r}, but its schedule says {str(due.own_tz)!r}; leave one of them out"
        )
    return tz


def _name(value: object) -> str:
    # Half of a surrogate pair can be in no id.
    if not isinstance(value, str) or not value.encode(errors="ignore").decode() == value != "":
        raise ValueError(f"has an entry {value!r} whose name is not text")
    return value
