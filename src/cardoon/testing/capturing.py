"""`capture`: what is sent, looked at instead of published."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cardoon.app import Cardoon, current_application
from cardoon.exceptions import EncodeError, InvalidTaskError
from cardoon.message.serializers import JSON, decode_body, encode_body
from cardoon.result.source import find_places
from cardoon.sender import (
    NOT_IN_TASKS,
    Call,
    GroupKeeper,
    Handle,
    Purger,
    Receipt,
    Report,
    Revocation,
    Sender,
)

_MAX_BYTES = 1 << 30
"""What this process has just written is not bounded a second time."""
_TOLERANCE = 1.0
"""Seconds by which a countdown may differ: time passes between a call and its capture."""
_MOST_SHOWN = 20
_NOT_SHOWN = frozenset({"task_id", "max_retries"})
"""Every call has these, and they seldom matter."""
OPTION_NAMES = (
    *("task_id", "queue", "countdown", "eta", "expires", "priority", "headers", "shadow"),
    *("ignore_result", "time_limit", "soft_time_limit", "max_retries", "retries"),
    *("root_id", "parent_id", "stamps"),
)
"""What `assert_sent` compares besides arguments; named as in `apply_async`."""


@contextmanager
def capture(app: Cardoon | None = None, *, publish: bool = False) -> Iterator[Sent]:
    """Collect what the app (or the current one) sends within the block.

        with capture(app) as sent:
            place_order(7)
        sent.assert_sent("shop.tasks.mail", args=(7,), queue="mail")

    Every way of sending counts: `delay`, `apply_async`, `send_task`, `send_many`, `adelay`, canvas, and
    all of it is checked and encoded as ever. Nothing is published and nothing runs, unless `publish`
    asks for both. With `task_always_eager` the setting is off meanwhile.
    """
    app = app or current_application()
    with not_eager(app):
        sent = Sent()
        sender = CapturingSender(app, sent, app.sender if publish else None)
        with app.attached(sender):
            yield sent


@contextmanager
def not_eager(app: Cardoon) -> Iterator[None]:
    """Have calls be sent meanwhile, though the settings say `task_always_eager`."""
    if not app.settings.task_always_eager:
        yield
        return
    app.conf.task_always_eager = False
    try:
        yield
    finally:
        app.conf.task_always_eager = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTask:
    """One call as it was sent."""

    task: str
    id: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    queue: str
    options: Mapping[str, Any]
    """What `apply_async` calls its options, those that were given or that the task has."""
    after: tuple[str, ...] = ()
    """The ids of the calls it waits for: those before it in a chain, the members of a chord."""
    sent_at: float
    """Seconds since the epoch."""
    call: Call = field(repr=False)

    def __str__(self) -> str:
        shown = [repr(arg) for arg in self.args]
        shown += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        options = {name: one for name, one in self.options.items() if name not in _NOT_SHOWN}
        said = "".join(f", {name}={value!r}" for name, value in options.items())
        return f"{self.task}({', '.join(shown)}){said}"


class Sent:
    """What was sent, in order."""

    def __init__(self) -> None:
        self.tasks: list[SentTask] = []
        self.revoked: list[str] = []
        """The ids of tasks that were revoked."""
        self.revoked_stamps: list[Mapping[str, Sequence[Any]]] = []
        """What was revoked by stamps: values by the stamp's name, of each revocation."""

    def __iter__(self) -> Iterator[SentTask]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> SentTask:
        return self.tasks[index]

    @property
    def names(self) -> list[str]:
        """The names of the tasks."""
        return [one.task for one in self.tasks]

    def clear(self) -> None:
        """Forget what was sent so far."""
        self.tasks.clear()
        self.revoked.clear()
        self.revoked_stamps.clear()

    def find(
        self,
        task: object,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> list[SentTask]:
        """Those that fit; what is not given may be anything."""
        wanted = _wanted(task, args, kwargs, options)
        return [one for one in self.tasks if not wanted.differences(one)]

    def assert_sent(
        self,
        task: object,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        count: int | None = None,
        **options: Any,
    ) -> SentTask:
        """Fail unless a call like this was sent (`count` times, if given); return the first.

        `task` is a task or its name. Arguments and options that are not given may be anything;
        `countdown` and `expires` in seconds may differ by one.
        """
        if count is not None and count < 1:
            raise ValueError(f"assert_sent: count={count!r} is below 1; use assert_not_sent")
        wanted = _wanted(task, args, kwargs, options)
        found = [one for one in self.tasks if not wanted.differences(one)]
        if count is not None and len(found) != count:
            raise AssertionError(
                f"{wanted} was sent {_times(len(found))}, not {_times(count)}; {self._shown(wanted)}"
            )
        if not found:
            raise AssertionError(f"{wanted} was not sent; {self._shown(wanted)}")
        return found[0]

    def assert_not_sent(
        self,
        task: object,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Fail if a call like this was sent."""
        wanted = _wanted(task, args, kwargs, options)
        found = [one for one in self.tasks if not wanted.differences(one)]
        if found:
            raise AssertionError(f"{wanted} was sent {_times(len(found))}: {found[0]}")

    def assert_nothing_sent(self) -> None:
        """Fail if anything was sent."""
        if self.tasks:
            raise AssertionError(f"something was sent; {self._shown(None)}")

    def add(self, calls: Sequence[Call], now: float) -> None:
        """Note what is sent, at `now` in seconds since the epoch."""
        self.tasks += [_read(call, calls, now) for call in calls]

    def _shown(self, wanted: _Wanted | None) -> str:
        if not self.tasks:
            return "nothing was sent"
        nearest = None if wanted is None else min(self.tasks, key=wanted.distance)
        lines = [f"sent: {len(self.tasks)}"]
        for number, one in enumerate(self.tasks[:_MOST_SHOWN], start=1):
            lines.append(f"  {number}. {one}")
            if wanted is not None and one is nearest:
                lines += [f"     nearest, but {said}" for said in wanted.differences(one)]
        if len(self.tasks) > _MOST_SHOWN:
            lines.append(f"  and {len(self.tasks) - _MOST_SHOWN} more")
        return "\n".join(lines)


class CapturingSender:
    """A Sender that notes what is sent, and passes it on if it was given another."""

    def __init__(self, app: Cardoon, sent: Sent, real: Sender | None) -> None:
        self._app = app
        self._sent = sent
        self._real = real

    def send(self, calls: Sequence[Call], *, timeout: float) -> Sequence[Receipt]:
        """Note them; see `Sender.send`."""
        receipts: list[Receipt] = [hashlib.sha256(call.body).digest() for call in calls]
        if self._real is not None:
            receipts = list(self._real.send(calls, timeout=timeout))
        self._sent.add(calls, self._app.clock.now())
        return receipts

    def load(self, handles: Sequence[Handle]) -> Mapping[str, Report]:
        """Nothing runs, so there is no state of anything."""
        return {} if self._real is None else self._real.load(handles)

    def wait(self, handles: Collection[Handle], *, timeout: float | None) -> Iterator[Report]:
        """`AssertionError` where nothing runs: it would be waited for in vain."""
        names = [handle.task_id for handle in handles]
        return self._ask(f"the result of {', '.join(names[:3])}").wait(handles, timeout=timeout)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete results."""
        if self._real is not None:
            self._real.forget(task_ids)

    def revoke(self, revocation: Revocation) -> None:
        """Note it."""
        if self._real is not None:
            self._real.revoke(revocation)
        self._sent.revoked += revocation.task_ids
        if revocation.stamps:
            self._sent.revoked_stamps.append(revocation.stamps)

    def update_state(self, task_id: str, state: str, codec: str, body: bytes) -> None:
        """The state of a task that runs, which takes a worker."""
        self._ask(f"a state of {task_id}").update_state(task_id, state, codec, body)

    def save_group(self, group_id: str, codec: str, body: bytes) -> None:
        """See `GroupKeeper`."""
        self._keeper(group_id).save_group(group_id, codec, body)

    def load_group(self, group_id: str) -> Report | None:
        """See `GroupKeeper`."""
        return self._keeper(group_id).load_group(group_id)

    def find(self, task_ids: Sequence[str]) -> Mapping[str, str]:
        """Where messages lie: nowhere, unless they are published."""
        return {} if self._real is None else find_places(self._real, task_ids)

    def purge(self) -> int:
        """Empty the queues, in which there is nothing unless it is published."""
        if self._real is None:
            return 0
        if not isinstance(self._real, Purger):
            raise InvalidTaskError(NOT_IN_TASKS)
        return self._real.purge()

    def _keeper(self, group_id: str) -> GroupKeeper:
        real = self._ask(f"group {group_id}")
        assert isinstance(real, GroupKeeper), f"{real!r} keeps no groups"
        return real

    def _ask(self, what: str) -> Sender:
        if self._real is None:
            raise AssertionError(
                f"{what} is asked for, but within capture() nothing is published and nothing runs; "
                "use capture(publish=True), or cardoon.testing.Simulation"
            )
        return self._real


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a test expects."""

    task: str
    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None
    options: Mapping[str, Any]

    def __str__(self) -> str:
        parts = [] if self.args is None else [f"args={tuple(self.args)!r}"]
        parts += [] if self.kwargs is None else [f"kwargs={dict(self.kwargs)!r}"]
        parts += [f"{name}={value!r}" for name, value in self.options.items()]
        return f"task {self.task!r}{' with ' if parts else ''}{', '.join(parts)}"

    def differences(self, one: SentTask) -> list[str]:
        """How a call differs from it, in words."""
        found = [] if one.task == self.task else [f"the task is {one.task!r}, not {self.task!r}"]
        if self.args is not None and not _same(list(self.args), list(one.args)):
            found.append(f"args is {one.args!r}, not {tuple(self.args)!r}")
        if self.kwargs is not None and not _same(dict(self.kwargs), dict(one.kwargs)):
            found.append(f"kwargs is {dict(one.kwargs)!r}, not {dict(self.kwargs)!r}")
        for name, value in self.options.items():
            if not _same_option(name, value, one):
                found.append(f"{name} is {one.options.get(name)!r}, not {value!r}")
        return found

    def distance(self, one: SentTask) -> tuple[float, int]:
        """How far a call is from it: first the names, then the rest."""
        likeness = difflib.SequenceMatcher(None, self.task, one.task).ratio()
        return (-likeness, len(self.differences(one)))


def _read(call: Call, calls: Sequence[Call], now: float) -> SentTask:
    args, kwargs, _ = decode_body(call.codec, call.body, max_bytes=_MAX_BYTES)
    told = json.loads(call.headers) if call.headers else {}
    hard, soft = told.get("timelimit") or (None, None)
    after = told.get("after") or {}
    options = {
        "task_id": call.id,
        "queue": call.queue,
        "countdown": round(call.eta - now, 3) if call.eta is not None else call.delay or None,
        "eta": _moment(call.eta),
        "expires": _moment(call.expires) or after.get("expires"),
        "priority": call.priority or None,
        "headers": told.get("headers"),
        "shadow": told.get("shadow"),
        "ignore_result": told.get("ignore_result"),
        "time_limit": hard,
        "soft_time_limit": soft,
        "max_retries": call.max_retries,
        "retries": call.retries or None,
        "root_id": call.root,
        "parent_id": call.parent,
        "stamps": told.get("stamps"),
    }
    return SentTask(
        task=call.task,
        id=call.id,
        args=tuple(args),
        kwargs=kwargs,
        queue=call.queue,
        options={name: value for name, value in options.items() if value is not None},
        after=tuple(calls[place].id for place in call.after),
        sent_at=now,
        call=call,
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _same(wanted: Any, found: Any) -> bool:
    """Whether they are equal, or will be when both have been sent: a tuple travels as a list."""
    if bool(wanted == found):
        return True
    try:
        travelled = decode_body(JSON, encode_body([wanted], JSON), max_bytes=_MAX_BYTES)
        return bool(travelled == [found])
    except EncodeError:  # such as mock.ANY, which says itself what it is equal to
        return False


def _same_option(name: str, wanted: Any, one: SentTask) -> bool:
    found = one.options.get(name)
    if found is None or wanted is None:
        return not wanted and not found  # False and 0 are not told, since they are the usual
    if isinstance(wanted, timedelta):
        wanted = wanted.total_seconds()
    if isinstance(found, datetime) and isinstance(wanted, datetime):
        aware = wanted if wanted.tzinfo else wanted.replace(tzinfo=UTC)
        return abs((found - aware).total_seconds()) < 0.001  # milliseconds are signed
    if isinstance(found, datetime):
        found = found.timestamp() - one.sent_at
    if name in {"countdown", "expires"} and isinstance(wanted, (int, float)):
        return bool(abs(found - wanted) <= _TOLERANCE)
    return bool(wanted == found)


def _wanted(
    task: object,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> _Wanted:
    name = task if isinstance(task, str) else getattr(task, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"{task!r} is neither a task nor the name of one")
    for option in options:
        if option not in OPTION_NAMES:
            close = difflib.get_close_matches(option, OPTION_NAMES, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"a task is not sent with an option {option!r}{hint}")
    return _Wanted(name, args, kwargs, options)


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
