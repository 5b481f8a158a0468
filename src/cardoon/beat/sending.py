"""From a tick to the calls that are sent: the same ones in every beat."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from cardoon.app import Cardoon
from cardoon.beat.ticks import Name, make_tick
from cardoon.broker import Unique
from cardoon.calling import check_options
from cardoon.canvas.steps import Planner
from cardoon.exceptions import InvalidTaskError
from cardoon.message.headers import TICK
from cardoon.publishing import announce_published
from cardoon.sender import Call, Duplicate, Receipt
from cardoon.signals import after_task_publish
from cardoon.timetable import PeriodicTask
from cardoon.workflow import make_calls

_NOT_IN_ENTRIES = ("task_id", "root_id", "parent_id", "retries")
"""Options that one call can have, and not all that an entry makes."""


class Terms(NamedTuple):
    """What holds for all ticks of a beat."""

    domain: str
    """The security domain."""
    age: float
    """Seconds for which a message may be acted on."""
    window: float
    """Seconds after it was due for which a tick may be sent."""
    sees_copies: bool
    """Whether the broker can turn copies away for longer than it keeps the first one."""


class Sending(NamedTuple):
    """A tick on its way: its calls, the first of which is its own."""

    name: Name
    calls: Sequence[Call]


def make_entry_calls(app: Cardoon, entry: PeriodicTask, name: Name) -> list[Call]:
    """What `send_task` would send for an entry, with the ids of this tick, and not sent.

    `InvalidTaskError` or `EncodeError` for an entry that cannot be called so.
    """
    for option in _NOT_IN_ENTRIES:
        if entry.options.get(option) is not None:
            raise InvalidTaskError(
                f"{option} is for one call, and an entry makes many; leave it out"
            )
    options = {"task_id": name.task_id, **entry.options}
    task = app.tasks.get(entry.task)
    args: Sequence[Any] = entry.args
    kwargs: Mapping[str, Any] = entry.kwargs
    if task is not None:
        task.check_arguments(args, kwargs)
        if task.pydantic and task.conversion is not None:
            args, kwargs = task.conversion.dump_arguments(args, kwargs)
    checked = check_options(options, method="options")
    if not (checked.link or checked.link_error):
        return [app.make_call(entry.task, args, kwargs, checked, app.defaults_of(entry.task))]
    planner = _TickPlanner(app)
    planner.name = name
    app.signature(entry.task, args, kwargs, options=options).plan(planner, None)
    return make_calls(app, planner.steps)


def mark(
    calls: Sequence[Call], entry: PeriodicTask, name: Name, terms: Terms, *, now: float
) -> Sending:
    """Make them that tick's: its nonces, and what turns its copies away."""
    first, *rest = calls
    if entry.overlap == "skip":
        first = _made_only_one(first, name, is_alone=not rest)
    marked = []
    for part, call in enumerate((first, *rest)):
        tick = make_tick(
            name,
            now=now,
            age=terms.age,
            window=terms.window,
            part=part,
            # Nobody could say what is to wait for a call that is not stored.
            unique=terms.sees_copies and not rest,
        )
        told = json.loads(call.headers) if call.headers else {}
        told[TICK] = name.due.isoformat()  # not its entry's name, which may hold arguments
        headers = json.dumps(told, separators=(",", ":")).encode()
        marked.append(call._replace(tick=tick, headers=headers))
    return Sending(name, marked)


class SendCalls(Protocol):
    """`Sender.send`."""

    def __call__(self, calls: Sequence[Call], *, timeout: float) -> Sequence[Receipt]:
        """Sign and publish, all or none."""
        ...


def send(send_calls: SendCalls, sendings: Sequence[Sending], *, timeout: float) -> list[Receipt]:
    """Send ticks, all or none, and announce them; returns for each what became of its first call."""
    calls: list[Call] = []
    for one in sendings:
        start = len(calls)
        calls += [call._replace(after=tuple(start + at for at in call.after)) for call in one.calls]
    receipts = send_calls(calls, timeout=timeout)
    if after_task_publish.receivers:
        sent = zip(calls, receipts, strict=True)
        announce_published([call for call, receipt in sent if not isinstance(receipt, Duplicate)])
    firsts = []
    at = 0
    for one in sendings:
        firsts.append(receipts[at])
        at += len(one.calls)
    return firsts


def _made_only_one(call: Call, name: Name, *, is_alone: bool) -> Call:
    if call.unique is not None or not is_alone:
        what = "the task is unique" if is_alone else "other tasks are linked to it"
        raise InvalidTaskError(f"overlap='skip', but {what}; leave one of them out")
    told: dict[str, Any] = json.loads(call.headers) if call.headers else {}
    # Only what is there till its end can be waited for, whenever the task would be acknowledged.
    headers = json.dumps({**told, "bound": True}, separators=(",", ":")).encode()
    return call._replace(unique=Unique(f"entry/{name.entry_id}"), headers=headers)


class _TickPlanner(Planner):
    """Plans the tasks that are linked to a tick's, with ids that follow from its name."""

    name: Name

    def new_id(self) -> str:
        return self.name.id_of_part(len(self.steps))
