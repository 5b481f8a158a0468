"""`Beat`: an app's periodic tasks, sent by an identity of their own. Composition root of those who send by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Self

from cardoon.app import Cardoon
from cardoon.beat.agenda import LATE_SECONDS, WINDOW_SECONDS, Agenda
from cardoon.beat.kept import KeptSource
from cardoon.beat.loop import Loop
from cardoon.beat.notes import Notes, find_recording
from cardoon.beat.rounds import LOOK_AGAIN_SECONDS, MakeCalls, Rounds, Tally
from cardoon.beat.sending import Terms, make_entry_calls
from cardoon.beat.sources import EntrySource, TimetableSource
from cardoon.broker import Limiting
from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.loading import load_modules
from cardoon.producer import Producer
from cardoon.records import Recording
from cardoon.scheduling import open_book
from cardoon.signals import beat_init
from cardoon.syslog.service import Syslog

ROLE = "beat"
"""The identity that signs, where the settings name none."""


def make_rounds(
    producer: Producer,
    sources: Sequence[EntrySource],
    make_calls: MakeCalls,
    *,
    recording: Recording,
    max_interval: float | None = None,
) -> Rounds:
    """A beat's rounds over the stores of a producer, which signs what is sent."""
    deployment = producer.deployment
    settings = deployment.settings
    broker, _ = producer.stores
    notes = Notes(
        recording,
        signer=deployment.make_signer("auth" if deployment.signs else settings.task_serializer),
        gate=deployment.make_gate(settings.accept_content),
        audit=producer.audit,
        clock=deployment.clock,
    )
    return Rounds(
        sources,
        make_calls=make_calls,
        send_calls=producer.send,
        notes=notes,
        terms=terms_of(settings, sees_copies=isinstance(broker, Limiting)),
        agenda=Agenda(zone=settings.timezone, window=window_of(settings)),
        audit=producer.audit,
        clock=deployment.clock,
        timeout=settings.task_publish_timeout,
        max_interval=max_interval or settings.beat_max_loop_interval or LOOK_AGAIN_SECONDS,
    )


def window_of(settings: Settings) -> float:
    """How many seconds after it was due a tick may be sent."""
    wanted = settings.beat_cron_starting_deadline
    return max(LATE_SECONDS, WINDOW_SECONDS if wanted is None else wanted)


def terms_of(settings: Settings, *, sees_copies: bool) -> Terms:
    """What holds for all ticks, as the settings say."""
    return Terms(
        domain=settings.security_domain,
        age=settings.security_max_age,
        window=window_of(settings),
        sees_copies=sees_copies,
    )


class Beat:
    """Sends the periodic tasks of an app: `beat_schedule`, `app.schedules`, and the entries of further `sources`.

        with Beat(app):
            ...                    # in a thread of its own, meanwhile
        Beat(app).run()            # in this one, until another calls `stop`

    Any number of them may run, on any number of hosts, with one identity: each tick is sent once. It signs as
    the role `beat`, or as `security_key` says. Made anew for each use; connects at once, and raises where the
    settings do not fit.
    """

    def __init__(
        self,
        app: Cardoon,
        *,
        sources: Sequence[EntrySource] = (),
        max_interval: float | None = None,
    ) -> None:
        load_modules(app)
        app.finalize()
        self.app = app
        settings = app.settings
        self.deployment = Deployment(settings, clock=app.clock, role=ROLE)
        self.deployment.check_identity()
        self._syslog = Syslog(settings, clock=app.clock)
        broker = self.deployment.open_broker()
        backend = self.deployment.open_backend(broker)
        self._stores = [one for one in (backend, broker) if one is not None]
        # Without the result backend: nobody here reads results, or is to be sent any.
        self._producer = Producer(self.deployment, stores=(broker, None))
        every: list[EntrySource] = [TimetableSource(lambda: app.settings.beat_schedule), *sources]
        if self.deployment.signs:  # as kept entries have to be
            book = open_book(app, self._producer)
            every.append(KeptSource(book, lambda: app.settings.beat_schedule, clock=app.clock))
        rounds = make_rounds(
            self._producer,
            every,
            partial(make_entry_calls, app),
            recording=find_recording(broker, backend),
            max_interval=max_interval,
        )
        self._loop = Loop(rounds, clock=app.clock)

    @property
    def tally(self) -> Tally:
        """What it has done so far."""
        return self._loop.rounds.tally

    @property
    def rounds(self) -> Rounds:
        """What it does: for those who let time pass themselves."""
        return self._loop.rounds

    @property
    def idle_seconds(self) -> float:
        """How long ago its last round was done without an error."""
        return self.app.clock.monotonic() - self._loop.done_at

    def run(self) -> None:
        """Send what is due in this thread, until `stop` is called elsewhere; then let go of everything."""
        self._announce()
        try:
            self._loop.run()
        finally:
            self.close()

    def start(self) -> None:
        """Send what is due in a thread of its own, until `stop`."""
        self._announce()
        self._loop.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Finish what is being sent, and let go of everything. Safe twice."""
        self._loop.stop(timeout)
        self.close()

    def request_stop(self) -> None:
        """Have `run` return soon; for handlers of signals."""
        self._loop.request_stop()

    def wake(self) -> None:
        """Look at once for what has changed and what is due."""
        self._loop.wake()

    def close(self) -> None:
        """Let go of every connection; safe twice."""
        for store in self._stores:
            store.close()
        self._producer.audit.close()
        self._syslog.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _announce(self) -> None:
        settings = self.app.settings
        self._syslog.start(self._producer.audit)
        self._producer.audit.record("beat.start", entries=len(settings.beat_schedule))
        beat_init.send(sender=self)
