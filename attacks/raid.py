"""One attempt: what it did, what has to become of that, and whether it did."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from attacks.makers import QUEUE
from attacks.people import People
from attacks.site import Site
from cardoon.broker import KeptMessage
from cardoon.exceptions import CardoonError, TimeoutError  # noqa: A004  # Celery's name
from cardoon.result import AsyncResult

PATIENCE = 40.0
"""Seconds for what must come sooner or later; no goal depends on it."""
WAIT = 4.0
"""Seconds until what an honest client has sent is due: time enough to attack it before."""
MEMORY_BYTES = 256 * 1024 * 1024
"""By how much the worker may grow, whatever it is sent: one message of the largest size, several times."""
_SHORT = 1.0
"""The same, when something else has been waited for in vain."""
_RESULTS = "results"
_CONTROL = "control"


class _Expected(NamedTuple):
    """A refusal that must be in the quarantine and in the audit trail."""

    reasons: tuple[str, ...]
    id: str | None
    frame: bytes | None
    queue: str | None

    def fits(self, kept: KeptMessage) -> bool:
        """Whether a quarantined message is the one."""
        return (
            (self.id is None or kept.id == self.id)
            and (self.frame is None or kept.frame == self.frame)
            and (self.queue is None or kept.queue == self.queue)
        )

    def __str__(self) -> str:
        return f"{self.id or self.queue} ({' or '.join(self.reasons)})"


class Sent(NamedTuple):
    """What the honest client has sent."""

    token: str
    result: AsyncResult[Any]
    task: str
    value: Any

    @property
    def id(self) -> str:
        """The task's."""
        return self.result.id

    @property
    def truth(self) -> Any:
        """What it returns."""
        return [self.token, self.value]


class Raid:
    """What an attack acts on, and what it says of what must follow. Everything else must not."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.store: Any = site.store
        self.people: People = site.people
        self.name = name
        self.outcome = ""
        self._tokens = 0
        self._lawful: dict[str, Sent] = {}
        self._lost: set[str] = set()
        self._expected: list[_Expected] = []
        self._checks: list[Callable[[], str | None]] = []
        self._offered: list[str] = []
        self._tolerated: set[str] = set()
        self._cleaning: list[Callable[[], object]] = []
        self._looks: list[threading.Thread] = []
        self._seen: list[str | None] = []
        self._failure = ""
        self._probe: Sent | None = None

    # What attacks do

    def id(self) -> str:
        """A fresh one, as clients make them."""
        return str(uuid.uuid4())

    def token(self, what: str = "evil") -> str:
        """What a task is told to write down; by it, one knows who had it run."""
        self._tokens += 1
        return f"{self.name}:{what}{self._tokens}"

    def send(
        self, *, task: str = "canary.note", value: Any = None, token: str = "", **options: Any
    ) -> Sent:
        """The honest client sends a task, which must run once, and whose result must be true."""
        token = token or self.token("good")
        args = (token,) if task == "canary.fail" else (token, value)
        result = self.site.app.send_task(task, args, **options)
        return self.lawful(Sent(token, result, task, value))

    def lawful(self, sent: Sent) -> Sent:
        """Something that has been sent in another way, and must run just once as well."""
        self._lawful[sent.token] = sent
        return sent

    def send_later(self, **options: Any) -> tuple[Sent, bytes]:
        """The same, due in a while; with its message as it lies in the store."""
        sent = self.send(countdown=WAIT, **options)
        return sent, self.frame_of(sent.id)

    def send_and_finish(self, **options: Any) -> tuple[Sent, bytes]:
        """The same, done by now: what an attacker has recorded."""
        sent, frame = self.send_later(**options)
        if not self.site.comes_true(lambda: self.site.runs(sent.token), PATIENCE):
            raise AssertionError("what the client had sent did not run")
        sent.result.get(timeout=PATIENCE)
        return sent, frame

    def frame_of(self, id: str) -> bytes:
        """A message that waits, as it lies in the store."""
        frame = self.store.waiting(id)
        assert isinstance(frame, bytes), f"{id} does not lie in the store"
        return frame

    def offer(
        self, frame: bytes, *reasons: str, id: str = "", queue: str = QUEUE, priority: int = 0
    ) -> str:
        """Put a frame into a queue; for one of these reasons it must be refused."""
        id = id or self.id()
        self.store.offer(id, frame, queue=queue, priority=priority)
        self.refused(*reasons, id=id, frame=frame)
        return id

    def hold(self, frame: bytes, *, id: str = "") -> str:
        """Put a frame into a queue that must not run now, and is not refused at once either."""
        id = id or self.id()
        self.store.offer(id, frame, queue=QUEUE)
        self._offered.append(id)
        self.outcome = "held back"
        return id

    def alter(self, sent: Sent, frame: bytes, *reasons: str) -> None:
        """Replace the waiting message of an honest client, which is then lost, and must not run."""
        self.store.alter(sent.id, frame)
        self.lose(sent)
        self.refused(*reasons, id=sent.id, frame=frame)

    def lose(self, sent: Sent) -> None:
        """What was sent will not run: whoever writes the store can always do that much."""
        self._lost.add(sent.token)

    def refused(
        self,
        *reasons: str,
        id: str | None = None,
        frame: bytes | None = None,
        queue: str | None = None,
    ) -> None:
        """Something must be quarantined, audited, and never run."""
        self._expected.append(_Expected(reasons, id, frame, queue))
        if id is not None:
            self._offered.append(id)

    def insider_sends(self, id: str, token: str, frame: bytes) -> Sent:
        """A trusted client of another make sends something that it may, which must run once."""
        self.store.offer(id, frame, queue=QUEUE)
        return self.lawful(Sent(token, self.site.app.AsyncResult(id), "canary.note", None))

    def let_run(self, token: str) -> None:
        """What is sent with this token may run, and nothing but that."""
        self._tolerated.add(token)
        self.check(lambda: None if self._comes(token) else f"{token} did not run")

    def tolerate(self, id: object, token: str = "") -> None:
        """What was written under an id may run or not; afterwards it is taken away."""
        self._tolerated.add(token)
        self.clean(lambda: self.store.remove(id))

    def clean(self, act: Callable[[], object]) -> None:
        """Do something when all was judged, so that the next attack finds the store as it was."""
        self._cleaning.append(act)

    def let_settle(self, id: str, token: str) -> None:
        """What was offered under an id may run or be refused, but must not stay."""
        self._tolerated.add(token)
        self._offered.append(id)
        self.outcome = "settled"

        def settled() -> str | None:
            gone = self.site.comes_true(lambda: self.store.waiting(id) is None, PATIENCE)
            return None if gone else f"{id} is neither run nor refused"

        self.check(settled)

    def look(self, sent: Sent, *, is_told: bool = True) -> None:
        """Have the client read a result now, which must not be a lie; perhaps there is no truth to be told."""
        patience = PATIENCE if is_told else 2.0

        def told() -> str | None:
            try:
                found = sent.result.get(timeout=patience)
            except TimeoutError as error:
                return f"the client was told nothing: {error}" if is_told else None
            except Exception as error:  # a lie may be an error as well
                return f"the client was told {type(error).__name__}: {error}"[:300]
            return None if found == sent.truth else f"the client was told {found!r}"

        # At once, in a thread: the client waits while the lie lies there.
        self._looks.append(threading.Thread(target=lambda: self._seen.append(told())))
        self._looks[-1].start()

    def _comes(self, token: str) -> bool:
        return self.site.comes_true(lambda: self.site.runs(token), PATIENCE)

    def refused_result(self, frame: bytes, *reasons: str) -> None:
        """A stored result must be refused by its reader."""
        self.refused(*reasons, frame=frame, queue=_RESULTS)

    def refused_command(self, frame: bytes, *reasons: str) -> None:
        """A command must be refused by the worker."""
        self.refused(*reasons, frame=frame, queue=_CONTROL)

    def check(self, condition: Callable[[], str | None]) -> None:
        """Look at something when all has settled: what is wrong, or None."""
        self._checks.append(condition)

    # How it is judged

    def attempt(self, act: Callable[[Raid], None]) -> None:
        """Do it, and have the honest client send a task behind it."""
        try:
            act(self)
        except Exception as error:  # the others are to be tried, whatever becomes of this one
            self._failure = f"not tried: {type(error).__name__}: {error}"[:400]
        try:
            self._probe = self.send(token=self.token("probe"))
        except CardoonError as error:
            self._failure = self._failure or f"nothing can be sent: {error}"

    def judge(self) -> list[str]:
        """In which ways it succeeded; empty if in none."""
        found = [self._failure] if self._failure else []
        found += self._find_unrefused()
        for look in self._looks:
            look.join()
        found += filter(None, self._seen)
        found += self._find_unserved()
        found += [told for condition in self._checks if (told := condition()) is not None]
        found += self._find_unlawful()
        if not self.site.is_worker_alive:
            found.append("the worker has ended")
        grown = self.site.memory() - self.site.memory_at_start
        if grown > MEMORY_BYTES:
            found.append(f"the worker has grown by {grown >> 20} MiB")
        if found:
            self.outcome = self.outcome or "none"
        for id in self._offered:
            self.store.remove(id)
        for act in self._cleaning:
            act()
        return found

    def _find_unrefused(self) -> list[str]:
        missing = list(self._expected)
        reasons: Counter[str] = Counter()

        def all_refused() -> bool:
            for one in tuple(missing):
                met = [each.reason for each in self._kept(one)]
                if any(reason in one.reasons for reason in met):
                    missing.remove(one)
                    reasons.update(reason for reason in met[:1])
            return not missing

        # What has run will not be refused any more.
        self.site.comes_true(lambda: all_refused() or self._find_unlawful(), PATIENCE)
        found = []
        for one in missing:
            met = [each.reason for each in self._kept(one)]
            found.append(f"not refused: {one}" + (f", but {met}" if met else ""))
        if not missing:
            found += self._find_unaudited()
        if reasons:
            told = ", ".join(
                f"{reason} {n if n > 1 else ''}".strip() for reason, n in reasons.items()
            )
            self.outcome = f"refused: {told}"
        return found

    def _find_unaudited(self) -> list[str]:
        def unaudited() -> list[str]:
            trail = self.site.audited()
            on_record = {
                (record.get("reason"), name)
                for record in trail
                for name in (record.get("message"), record.get("task_id"), record.get("kind"))
            } | {
                ("denied", record.get("task_id"))
                for record in trail
                if record["event"] == "task.unauthorized"
            }
            return [
                f"refused, and not in the audit trail: {one}"
                for one in self._expected
                if not any(
                    (reason, name) in on_record
                    for reason in one.reasons
                    for name in self._names(one)
                )
            ]

        self.site.comes_true(lambda: not unaudited(), PATIENCE / 4)
        return unaudited()

    def _names(self, expected: _Expected) -> list[str]:
        """What the audit trail may call a refusal by."""
        if expected.queue is not None:
            return ["result" if expected.queue == _RESULTS else "control"]
        return [kept.id for kept in self._kept(expected)]

    def _kept(self, expected: _Expected) -> list[KeptMessage]:
        """What lies in the quarantine and may be what was to be refused."""
        return [each for each in self.site.quarantined(expected.id) if expected.fits(each)]

    def _find_unserved(self) -> list[str]:
        """Honest tasks that were not run, or whose results are false."""
        found: list[str] = []
        for token, sent in self._lawful.items():
            if token in self._lost or sent.task == "canary.fail":
                continue
            patience = _SHORT if found else PATIENCE
            if not self.site.comes_true(lambda token=token: self.site.runs(token), patience):
                found.append(f"an honest task was lost: {token}")
                continue
            if sent.task in {"canary.note", "canary.guarded"}:
                found += _find_lie(sent)
        return found

    def _find_unlawful(self) -> list[str]:
        """Tasks that ran though nobody asked for them, or otherwise than asked for."""
        found = []
        times: Counter[str] = Counter()
        for entry in self.site.diary.read():
            if not entry.token.startswith(f"{self.name}:"):
                continue
            times[entry.token] += 1
            if entry.token in self._tolerated:
                continue
            sent = self._lawful.get(entry.token)
            if sent is None:
                found.append(f"ran: {entry.task}({entry.token}, {entry.value!r})")
            elif (f"canary.{entry.task}", entry.value, entry.id) != (
                sent.task,
                sent.value,
                sent.id,
            ):
                found.append(f"ran otherwise than sent: {entry.task}({entry.value!r})")
        found += [f"ran {count} times: {token}" for token, count in times.items() if count > 1]
        return found


def _find_lie(sent: Sent) -> list[str]:
    try:
        told = sent.result.get(timeout=PATIENCE)
    except Exception as error:  # a lie may be an error as well
        return [f"the client was told {type(error).__name__}: {error} of {sent.token}"[:300]]
    return [] if told == sent.truth else [f"the client was told {told!r} of {sent.token}"]
