"""Beat inside a worker (`-B`): the zygote tells the entries, the worker sends their ticks.

The worker imports none of the app's code, so the zygote makes each entry's call once, when it has imported the
app: arguments encoded, routed, with all that is signed of it. A tick is that call with an id, a nonce and times of
its own. What cannot be told so (a schedule of a class of the app's, linked tasks) takes `cardoon beat`.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from cardoon.app import Cardoon
from cardoon.backend import ResultBackend
from cardoon.beat.loop import Loop
from cardoon.beat.notes import find_recording
from cardoon.beat.sending import make_entry_calls
from cardoon.beat.service import ROLE, make_rounds
from cardoon.beat.sources import TimetableSource
from cardoon.beat.ticks import Name, moment_of
from cardoon.broker import Broker
from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.exceptions import CardoonError, ImproperlyConfigured
from cardoon.producer import Producer
from cardoon.schedules import schedule_from_json, schedule_to_json
from cardoon.sender import Call
from cardoon.signals import beat_embedded_init
from cardoon.timetable import PeriodicTask, Timetable
from cardoon.worker.ipc import IpcError
from cardoon.worker.wire import call_head, parse_call

logger = logging.getLogger(__name__)

MAX_TOLD_BYTES = 8 << 20
"""Of all entries together, as the zygote tells them: half of what its report may have."""
_ELSEWHERE = "run `cardoon beat` for it"
_LATER = 86400.0


class Told(NamedTuple):
    """An entry as the zygote has told it."""

    entry: PeriodicTask
    call: Call
    eta_in: float | None
    """Seconds from the tick until it may run; None where the call's own ETA counts, or there is none."""
    expires_in: float | None


@dataclass(slots=True)
class _StoppedClock:
    """A clock that shows one time: what a call makes of another time it counts from now."""

    at: float

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.at

    def monotonic(self) -> float:
        """As `now`."""
        return self.at


def tell_entries(app: Cardoon) -> list[dict[str, Any]]:
    """The entries of an app as JSON, in the process that has imported it.

    `ImproperlyConfigured` where they are too large for that.
    """
    beat_embedded_init.send(sender=app)
    told = [_tell(app, name, entry) for name, entry in app.settings.beat_schedule.items()]
    size = len(json.dumps(told))
    if size > MAX_TOLD_BYTES:
        raise ImproperlyConfigured(
            f"-B: the entries of beat_schedule take {size} bytes with their arguments, and at most "
            f"{MAX_TOLD_BYTES} can be told to the worker; run `cardoon beat`"
        )
    return told


def read_entries(told: Sequence[Mapping[str, Any]]) -> dict[str, Told]:
    """What `tell_entries` has told. Of an entry that cannot be sent here, the log says why."""
    found = {}
    for head in told:
        name = str(head["name"])
        error = head.get("error")
        if error is None:
            try:
                found[name] = _read(head)
                continue
            except (IpcError, ValueError) as problem:
                error = f"{problem}; {_ELSEWHERE}"
        logger.error("beat: an entry that sends %s is left out: %s", head.get("task"), error)
    return found


class EmbeddedBeat:
    """A beat over the stores of a worker, which are the worker's to close."""

    def __init__(
        self,
        settings: Settings,
        *,
        app: Cardoon | None,
        told: Mapping[str, Told],
        stores: tuple[Broker, ResultBackend | None],
        clock: Clock,
    ) -> None:
        broker, backend = stores
        producer = Producer(_choose_identity(settings, clock), stores=(broker, None))
        if app is not None:
            source = TimetableSource(lambda: app.settings.beat_schedule)
            make_calls = partial(make_entry_calls, app)
            beat_embedded_init.send(sender=app)
        else:
            entries = Timetable({name: one.entry for name, one in told.items()})
            source = TimetableSource(lambda: entries)
            make_calls = partial(_make_told_call, told, clock)
        recording = find_recording(broker, backend)
        self._audit = producer.audit
        rounds = make_rounds(producer, [source], make_calls, recording=recording)
        self.loop = Loop(rounds, clock=clock)

    def start(self) -> None:
        """Send what is due, in a thread of its own."""
        self.loop.start()

    def stop(self, timeout: float) -> None:
        """Finish what is being sent; safe twice."""
        self.loop.stop(timeout)
        self._audit.close()


def _choose_identity(settings: Settings, clock: Clock) -> Deployment:
    """As the role beat, where there is such an identity; else as the worker."""
    own = Deployment(settings, clock=clock, role=ROLE)
    try:
        own.check_identity()
    except CardoonError as error:
        logger.info("beat: sends as the worker: %s", error)
        return Deployment(settings, clock=clock, role="worker")
    return own


def _tell(app: Cardoon, name: str, entry: PeriodicTask) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "task": entry.task}
    try:
        due = schedule_to_json(entry.schedule)
        now = app.clock.now()
        call, later = _call_at(app, name, entry, now), _call_at(app, name, entry, now + _LATER)
    except Exception as error:  # noqa: BLE001  # of an app's routes, serializers and receivers
        return {**told, "error": f"{type(error).__name__}: {error}; {_ELSEWHERE}"}
    if call is None or later is None:
        return {**told, "error": f"other tasks are linked to it; {_ELSEWHERE}"}
    return {
        **told,
        "schedule": due,
        "relative": entry.relative,
        "tz": entry.tz,
        "catch_up": entry.catch_up,
        "overlap": entry.overlap,
        "paused": entry.paused,
        "call": call_head(call),
        "body": base64.b64encode(call.body).decode(),
        "eta_in": _distance(call.eta, later.eta, now),
        "expires_in": _distance(call.expires, later.expires, now),
    }


def _call_at(app: Cardoon, name: str, entry: PeriodicTask, now: float) -> Call | None:
    """What is called if it is due now; None if that is not a single task."""
    before, app.clock = app.clock, _StoppedClock(now)
    try:
        calls = make_entry_calls(app, entry, Name("", entry.task, name, moment_of(0)))
    finally:
        app.clock = before
    return calls[0] if len(calls) == 1 else None


def _distance(moment: float | None, later: float | None, now: float) -> float | None:
    """Seconds from now, of a moment that is later when it is asked for later."""
    if moment is None or later is None or later - moment < _LATER / 2:
        return None
    return moment - now


def _read(head: Mapping[str, Any]) -> Told:
    body = base64.b64decode(head["body"])
    call = parse_call({**head["call"], "size": len(body)}, body)
    entry = PeriodicTask(
        task=call.task,
        schedule=schedule_from_json(head["schedule"]),
        relative=bool(head["relative"]),
        tz=head["tz"],
        catch_up=str(head["catch_up"]),
        overlap=str(head["overlap"]),
        paused=bool(head["paused"]),
    )
    return Told(entry, call, head["eta_in"], head["expires_in"])


def _make_told_call(
    told: Mapping[str, Told], clock: Clock, _: PeriodicTask, name: Name
) -> list[Call]:
    _, call, eta_in, expires_in = told[name.entry]
    now = clock.now()
    return [
        call._replace(
            id=name.task_id,
            eta=call.eta if eta_in is None else now + eta_in,
            expires=call.expires if expires_in is None else now + expires_in,
        )
    ]
