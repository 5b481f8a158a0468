"""Sends canaries into a queue that workers take from, sees what becomes of them, and takes away what is left.

The honest call goes first, and the others only when somebody has taken it: into a queue that nobody takes from
goes one message, which is good for a minute.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence

from cardoon.backend import ResultBackend, listening
from cardoon.broker import Accompanied, Broker, Inspectable, Kept, Outgoing
from cardoon.deployment import Deployment
from cardoon.doctor.lures import NAME, Fate, Letter, Lure, LureMaker, Sighting, Trial
from cardoon.exceptions import CardoonError, ImproperlyConfigured, RefusedError
from cardoon.lookup import Findable, Place, Remembering, Traceable
from cardoon.message.headers import parse_headers
from cardoon.message.protocol import Kind
from cardoon.queues import broadcast_names

SENT_EVENT = "doctor.canaries"
"""Of the audit trail, before anything is sent."""
PATIENCE = 10.0
"""Seconds for the honest call, and again for the others."""
_PAUSE = 0.1
_KEPT = {Place.QUARANTINE: Kept.QUARANTINE, Place.DEAD_LETTER: Kept.DEAD_LETTER}


def try_canaries(deployment: Deployment, *, queue: str = "", patience: float = PATIENCE) -> Trial:
    """Send them to a queue, the one of most tasks if none is named, and tell what became of each.

    Never raises for what servers say: then it is not known. `ImproperlyConfigured` for a queue of which each
    worker gets a copy.
    """
    settings = deployment.settings
    queue = queue or settings.task_default_queue
    if queue in broadcast_names(settings.task_queues):
        raise ImproperlyConfigured(f"canaries: {queue!r} is a Broadcast; name a queue that is none")
    maker = LureMaker(deployment, queue, f"{NAME}-{uuid.uuid4().hex[:16]}")
    try:
        with _stores(deployment) as (broker, backend):
            return _Luring(deployment, broker, backend, maker, patience).run()
    except CardoonError as error:
        return Trial(queue=queue, ids=maker.ids, doubt=str(error))


@contextlib.contextmanager
def _stores(deployment: Deployment) -> Iterator[tuple[Broker, ResultBackend | None]]:
    broker = deployment.open_broker()
    with contextlib.closing(broker):
        backend = deployment.open_backend(broker)
        if backend is None or listening(backend) is not None:
            yield broker, None
            return
        with contextlib.closing(backend):
            yield broker, backend


class _Luring:
    """One trial."""

    def __init__(
        self,
        deployment: Deployment,
        broker: Broker,
        backend: ResultBackend | None,
        maker: LureMaker,
        patience: float,
    ) -> None:
        self._deployment = deployment
        self._clock = deployment.clock
        self._broker = broker
        self._store = broker.companion if isinstance(broker, Accompanied) else broker
        self._backend = backend
        self._maker = maker
        self._patience = patience
        self._kept: dict[Kept, set[int]] = {where: set() for where in Kept}
        """The numbers of those that are kept."""
        self._unnumbered: set[str] = set()
        """Ids of those that are kept, and that this account may not look at."""
        self._answer = b""
        """The result of the honest call."""

    def run(self) -> Trial:
        """Send, look, and take away."""
        genuine = self._maker.make_genuine()
        self._deployment.audit().record(
            SENT_EVENT, queue=self._maker.queue, messages=f"{self._maker.ids}-*"
        )
        found: list[Sighting] = []
        doubt = unsure = ""
        try:
            [first] = found = self._send([genuine])
            doubt = self._doubt(first)
            if not doubt:
                others = list(self._maker.make_others(genuine))
                found = [first, *self._send(self._sendable(others, first))]
        except CardoonError as error:
            doubt, unsure = str(error), "whatever was sent before that"
        found += self._maker.unmade
        left = [unsure, *self._take_away(found)]
        return Trial(
            queue=self._maker.queue,
            ids=self._maker.ids,
            sightings=tuple(found),
            doubt=doubt,
            left="; ".join(filter(None, left)),
        )

    @property
    def _is_seen_waiting(self) -> bool:
        """Whether the broker tells of what lies in its queues."""
        return self._store is self._broker

    def _doubt(self, first: Sighting) -> str:
        """Why there is no use in sending others."""
        if first.fate is Fate.WAITS or (first.fate is Fate.GONE and not self._is_seen_waiting):
            return (
                f"nobody answered within {self._patience:g} s: no worker takes from queue "
                f"{self._maker.queue!r}, or those that do are busy"
            )
        return ""

    def _sendable(self, others: Sequence[Letter], first: Sighting) -> list[Letter]:
        """Without a replay that could not be told from what it repeats."""
        if first.fate is Fate.REFUSED and not first.detail:
            why = (
                "the call itself was refused, and this account may not see which of the two is kept"
            )
            self._maker.unmade.append(Sighting(Lure.REPLAYED, Fate.UNMADE, why))
            return [one for one in others if one.lure is not Lure.REPLAYED]
        return list(others)

    def _send(self, letters: Sequence[Letter]) -> list[Sighting]:
        """What became of each of these, in their order, after a while at most."""
        queue = self._maker.queue
        outgoing = [Outgoing(queue, one.id, one.frame) for one in letters]
        self._broker.publish(outgoing, timeout=self._patience)
        deadline = self._clock.monotonic() + self._patience
        found: dict[Lure, Sighting] = {}
        while True:
            is_late = self._clock.monotonic() >= deadline
            for one in letters:
                if one.lure not in found:
                    seen = self._look(one, is_late=is_late)
                    if seen is not None:
                        found[one.lure] = seen
            if len(found) == len(letters):
                return [found[one.lure] for one in letters]
            time.sleep(_PAUSE)

    def _look(self, letter: Letter, *, is_late: bool) -> Sighting | None:
        """What became of one; None while that may yet change."""
        place, kept = self._find(letter.id)
        if place is not None and place not in _KEPT:
            return Sighting(letter.lure, Fate.WAITS, place.value) if is_late else None
        if place is not None and kept is not None:
            where, number, reason = _KEPT[place], *kept
            if number not in self._kept[where]:
                self._kept[where].add(number)
                fate = Fate.REFUSED if where is Kept.QUARANTINE else Fate.ACCEPTED
                return Sighting(letter.lure, fate, reason)
        elif place is not None and letter.id not in self._unnumbered:
            self._unnumbered.add(letter.id)
            fate = Fate.REFUSED if place is Place.QUARANTINE else Fate.ACCEPTED
            return Sighting(letter.lure, fate)
        state = self._find_state(letter)
        if state is not None:
            return Sighting(letter.lure, Fate.RAN, state)
        return Sighting(letter.lure, Fate.GONE) if is_late else None

    def _find(self, id: str) -> tuple[Place | None, tuple[int, str] | None]:
        """Where one lies and, of one that is kept, its number and the reason, if this account may see that."""
        with contextlib.suppress(CardoonError):
            if isinstance(self._store, Traceable):
                where = self._store.trace(id)
                if where is None:
                    return None, None
                kept = where.kept
                return where.place, None if kept is None else (kept.number, kept.reason)
        if not isinstance(self._store, Findable):
            raise ImproperlyConfigured("canaries: this broker cannot be asked for messages by id")
        return self._store.find([id]).get(id), None

    def _find_state(self, letter: Letter) -> str | None:
        """The state of its result; empty where only a mark says that it was carried out, None where nothing does."""
        if self._backend is not None:
            sealed = self._backend.load([letter.id]).get(letter.id)
            # The result of what was replayed lies there already.
            if sealed is not None and sealed.final and sealed.frame != self._answer:
                state = self._read_state(sealed.frame, letter)
                if letter.lure is Lure.GENUINE and state is not None:
                    self._answer = sealed.frame
                if state is not None:
                    return state
        if letter.lure is Lure.REPLAYED or not isinstance(self._store, Remembering):
            return None
        with contextlib.suppress(CardoonError):
            [was_done] = self._store.were_done([letter.nonce])
            return "" if was_done else None
        return None

    def _read_state(self, frame: bytes, letter: Letter) -> str | None:
        """What a result says; None where anybody may have written it in answer to the honest call."""
        is_genuine = letter.lure is Lure.GENUINE
        try:
            message = self._deployment.result_gate().open(
                frame,
                kind=Kind.RESULT,
                id=letter.id,
                request=letter.request if is_genuine else None,
            )
            return str(parse_headers(message.claims.headers).get("state", ""))
        except RefusedError as error:
            return None if is_genuine else f"a result that is refused: {error.reason.value}"

    def _take_away(self, found: Sequence[Sighting]) -> list[str]:
        """Delete what is kept of them and their results; what could not be deleted, and why."""
        left = [f"{one.lure} in the queue" for one in found if one.fate is Fate.WAITS]
        if not self._is_seen_waiting:
            left += [f"{one.lure}, perhaps, in the queue" for one in found if one.fate is Fate.GONE]
        broker = self._broker
        for where, numbers in self._kept.items():
            try:
                if numbers and isinstance(broker, Inspectable):
                    broker.discard(where, sorted(numbers))
            except CardoonError as error:
                left.append(
                    f"{len(numbers)} in the {where.name.lower().replace('_', ' ')} ({error})"
                )
        if self._unnumbered:
            left.append(f"{len(self._unnumbered)} that are kept, which this account may not see")
        if self._backend is not None:
            try:
                self._backend.forget([f"{self._maker.ids}-{one.lure}" for one in found])
            except CardoonError as error:
                left.append(f"results ({error})")
        return left
