"""Schedules: what `app.schedules` offers. Periodic tasks that are added and changed while everything runs.

They are kept in the database of the broker or of the result backend, each signed by who made it, for every beat.
Entries of `beat_schedule` are here, too: they can be looked at, paused and run, but are changed where they stand.
"""

from __future__ import annotations

import difflib
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from cardoon.application import Application
from cardoon.calling import CallDefaults, check_options
from cardoon.canvas import Signature
from cardoon.deployment import Deployment
from cardoon.entries import (
    ENTRY_PREFIX,
    PAUSE_PREFIX,
    KeptEntry,
    Signed,
    check_name,
    entry_draft,
    pause_draft,
    removal_draft,
)
from cardoon.entry_book import EntryBook, Page, Refused, recording_of
from cardoon.exceptions import InvalidTaskError, RefusedError, ScheduleError, SecurityError
from cardoon.producer import Producer
from cardoon.result import AsyncResult
from cardoon.schedules import BaseSchedule
from cardoon.security.policy import Action, Request
from cardoon.sender import Sender
from cardoon.task import Task
from cardoon.timetable import PeriodicTask, parse_entry

MAX_NEXT = 1000
"""Times that are told at once."""


class SchedulingApp(Application, Protocol):
    """What schedules need of the app."""

    @property
    def sender(self) -> Sender:
        """The way to the broker."""
        ...

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks that are known here."""
        ...

    def defaults_of(self, name: str) -> CallDefaults:
        """What calls of a task are sent with, be it known here or not."""
        ...

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Call a task by name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """A periodic task, wherever it comes from."""

    name: str
    task: str
    schedule: BaseSchedule
    args: tuple[Any, ...] = field(default=(), repr=False)
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    tz: str | None = None
    catch_up: str = "one"
    overlap: str = "allow"
    paused: bool = False
    signed: Signed | None = None
    """Who made it, and when; None for an entry of `beat_schedule`."""
    unreadable: str = ""
    """Why its arguments are not here: they are sealed to others."""

    @property
    def is_kept(self) -> bool:
        """Whether it was added to the store; otherwise it stands in `beat_schedule`."""
        return self.signed is not None

    def times_after(self, moment: datetime, timezone: str, count: int = 1) -> list[datetime]:
        """The next times at which it is due; `timezone` counts where the entry names none."""
        zone = zoneinfo.ZoneInfo(self.tz or timezone)
        times: list[datetime] = []
        while len(times) < count:
            moment = self.schedule.next_after(moment, zone)
            times.append(moment)
        return times


class Schedules:
    """Entries by name. Every change is signed; of two at once, one is made and the other raises.

    `ScheduleError` for a name that is not there, for what cannot be kept, and for what somebody else has changed
    meanwhile; `SecurityError` for what the policy does not allow.
    """

    def __init__(self, app: SchedulingApp) -> None:
        self._app = app
        self._opened: tuple[Producer, EntryBook] | None = None

    def add(
        self,
        name: str,
        schedule: float | timedelta | BaseSchedule,
        task: str | Task[..., Any] | Signature,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        tz: str | None = None,
        catch_up: str = "one",
        overlap: str = "allow",
        replace: bool = False,
    ) -> Scheduled:
        """Keep an entry, which beats send from now on; `replace` says that there may be one of this name.

        `task` is a task, its name, or a signature, to which arguments and options are added. `options` are those
        of `apply_async`, as plain JSON. See docs/schedules.md for the others.
        """
        check_name(name)
        entry = self._make_entry(name, schedule, task, args, kwargs, options, tz, catch_up, overlap)
        if name in self._app.settings.beat_schedule:
            raise ScheduleError(
                f"schedule {name!r}: beat_schedule has an entry of this name; change it there, or choose another"
            )
        book = self._book()
        page = book.read()
        key = ENTRY_PREFIX + name
        if not replace and (name in page.entries or key in page.refused):
            raise ScheduleError(
                f"schedule {name!r}: there is one already; change it with replace=True (--replace)"
            )
        deployment = self._producer().deployment
        self._check_may_send(book, entry, deployment)
        seal = deployment.encrypting().seal()
        book.write(
            page, key, lambda revision: entry_draft(name, entry, revision=revision, seal=seal)
        )
        self._say("replace" if name in page.entries else "add", name, entry.task)
        return self.get(name)

    def get(self, name: str) -> Scheduled:
        """The entry of a name."""
        return self._need(name, self._book().read())

    def all(self) -> dict[str, Scheduled]:
        """Every entry by name, those of `beat_schedule` first."""
        return self._list(self._book().read())

    def refused(self) -> list[Refused]:
        """Records that do not count, each with the reason."""
        page = self._book().read()
        hidden = [
            Refused(
                name,
                reason="hidden",
                detail="beat_schedule has an entry of this name",
                revision=kept.signed.revision,
            )
            for name, kept in page.entries.items()
            if name in self._app.settings.beat_schedule
        ]
        return [*page.refused.values(), *hidden]

    def remove(self, name: str) -> None:
        """Have an entry not sent any more."""
        book = self._book()
        page = book.read()
        key = ENTRY_PREFIX + name
        if key in page.refused:  # nobody has signed what is there, so there is nothing to end
            book.drop(page, key)
            self._say("remove", name, "")
            return
        if name not in page.entries:
            self._refuse_static(name, "removed")
            raise self._unknown(name, page)
        task = page.entries[name].task
        book.write(page, key, lambda revision: removal_draft(name, task, revision=revision))
        self._say("remove", name, task)

    def renew(self, name: str) -> Scheduled:
        """Sign an entry anew, as it is: before the certificate ends of who has signed it."""
        found = self.get(name)
        if not found.is_kept:
            self._refuse_static(name, "renewed")
        self._check_readable(found)
        return self.add(
            name,
            found.schedule,
            found.task,
            found.args,
            found.kwargs,
            found.options,
            tz=found.tz,
            catch_up=found.catch_up,
            overlap=found.overlap,
            replace=True,
        )

    def pause(self, name: str) -> None:
        """Have no ticks of an entry sent until it is resumed; also of one in `beat_schedule`."""
        self._set_paused(name, paused=True)

    def resume(self, name: str) -> None:
        """Have the ticks of a paused entry sent again, from the next one on."""
        self._set_paused(name, paused=False)

    def run_now(self, name: str) -> AsyncResult[Any]:
        """Send an entry's task once, now, by our own signature; its ticks go on as they would."""
        found = self.get(name)
        self._check_readable(found)
        sent = self._app.send_task(found.task, found.args, found.kwargs, **found.options)
        self._say("run", name, found.task, task_id=sent.id)
        return sent

    def next(self, name: str, count: int = 1) -> list[datetime]:
        """The next times at which an entry is due, paused or not.

        Of a period counted in seconds, as if it had been due now.
        """
        if not 1 <= count <= MAX_NEXT:
            raise ScheduleError(f"schedule {name!r}: count={count} is not between 1 and {MAX_NEXT}")
        moment = datetime.fromtimestamp(self._app.clock.now(), UTC)
        return self.get(name).times_after(moment, self._app.settings.timezone, count)

    def _set_paused(self, name: str, *, paused: bool) -> None:
        book = self._book()
        page = book.read()
        found = self._need(name, page)
        if found.paused is paused and PAUSE_PREFIX + name not in page.refused:
            return
        entry = self._app.settings.beat_schedule.get(name)
        if entry is not None and entry.paused:
            raise ScheduleError(
                f"schedule {name!r}: beat_schedule says that it is paused; change it there"
            )
        check_name(name)
        book.write(
            page,
            PAUSE_PREFIX + name,
            lambda revision: pause_draft(name, found.task, paused=paused, revision=revision),
        )
        self._say("pause" if paused else "resume", name, found.task)

    def _make_entry(
        self,
        name: str,
        schedule: object,
        task: object,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any] | None,
        tz: str | None,
        catch_up: str,
        overlap: str,
    ) -> PeriodicTask:
        call: object = task.signature() if isinstance(task, Task) else task
        if isinstance(task, str):
            call = self._app.signature(task)
        if not isinstance(call, Signature) or type(call).subtask_type:
            raise InvalidTaskError(
                f"schedule {name!r}: {task!r} is not a task, its name or its signature; of a canvas make a task"
            )
        call = call.clone(tuple(args), dict(kwargs or {}), **(options or {}))
        check_options(call.options, method=f"schedule {name!r}")
        if call.task in self._app.tasks:
            self._app.tasks[call.task].check_arguments(call.args, call.kwargs)
        wanted = {
            "task": call.task,
            "schedule": schedule,
            "args": call.args,
            "kwargs": call.kwargs,
            "options": call.options,
            "tz": tz,
            "catch_up": catch_up,
            "overlap": overlap,
        }
        try:
            return parse_entry(name, wanted)
        except ValueError as error:
            raise ScheduleError(f"schedule {name!r}: it {error}") from error

    def _check_may_send(self, book: EntryBook, entry: PeriodicTask, deployment: Deployment) -> None:
        """`SecurityError` if no reader would take an entry from us, since we may not send its task."""
        identity = deployment.identity().identity
        seals = deployment.encrypting().seals
        request = Request(Action.SCHEDULE, identity, entry.task, "", encrypted=seals)
        try:
            book.check_may_send(entry, request)
        except RefusedError as error:
            raise SecurityError(
                f"{error.detail}; who schedules a task must be allowed to send it"
            ) from error

    def _list(self, page: Page) -> dict[str, Scheduled]:
        found = {
            name: _scheduled(name, entry, paused=entry.paused or page.is_paused(name, entry.task))
            for name, entry in self._app.settings.beat_schedule.items()
        }
        for name, kept in sorted(page.entries.items()):
            if name not in found and kept.entry is not None:
                paused = page.is_paused(name, kept.task)
                found[name] = _scheduled(name, kept.entry, paused=paused, kept=kept)
        return found

    def _need(self, name: str, page: Page) -> Scheduled:
        found = self._list(page).get(name)
        if found is None:
            raise self._unknown(name, page)
        return found

    def _unknown(self, name: str, page: Page) -> ScheduleError:
        refused = page.refused.get(ENTRY_PREFIX + name)
        if refused is not None:
            return ScheduleError(
                f"schedule {name!r}: its record is refused ({refused.describe()}); make it anew with "
                "replace=True (--replace), or remove it"
            )
        close = difflib.get_close_matches(name, self._list(page), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "; `cardoon schedule list` shows them"
        return ScheduleError(f"schedule {name!r}: there is none of this name{hint}")

    def _refuse_static(self, name: str, done: str) -> None:
        if name in self._app.settings.beat_schedule:
            raise ScheduleError(
                f"schedule {name!r}: it stands in beat_schedule and is {done} there; here it can be paused"
            )

    def _check_readable(self, found: Scheduled) -> None:
        if found.unreadable:
            raise ScheduleError(
                f"schedule {found.name!r}: its arguments are sealed to others ({found.unreadable}); do this where "
                "the keyset's private keys are"
            )

    def _producer(self) -> Producer:
        sender = self._app.sender
        if not isinstance(sender, Producer):
            raise InvalidTaskError("schedules: entries are kept by clients, not in tasks")
        return sender

    def _book(self) -> EntryBook:
        producer = self._producer()
        if self._opened is None or self._opened[0] is not producer:
            self._opened = producer, open_book(self._app, producer)
        return self._opened[1]

    def _say(self, done: str, name: str, task: str, **more: Any) -> None:
        self._producer().audit.record(f"schedule.{done}", entry=name, task=task, **more)


def open_book(app: SchedulingApp, producer: Producer) -> EntryBook:
    """The book in the stores that an app is connected to."""

    def find_queue(entry: PeriodicTask) -> str:
        options, defaults = check_options(entry.options), app.defaults_of(entry.task)
        if defaults.per_call is not None:
            options, defaults = defaults.per_call(entry.args, entry.kwargs, options)
        return app.router.find(options, defaults)

    return EntryBook(producer.deployment, recording_of(*producer.stores), find_queue=find_queue)


def _scheduled(
    name: str, entry: PeriodicTask, *, paused: bool, kept: KeptEntry | None = None
) -> Scheduled:
    return Scheduled(
        name=name,
        task=entry.task,
        schedule=entry.schedule,
        args=entry.args,
        kwargs=entry.kwargs,
        options=entry.options,
        tz=entry.tz,
        catch_up=entry.catch_up,
        overlap=entry.overlap,
        paused=paused,
        signed=None if kept is None else kept.signed,
        unreadable="" if kept is None else kept.unreadable,
    )
