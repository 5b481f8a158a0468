"""Says why a task does not run, or that it does, from what is known of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from cardoon import states
from cardoon.cli.advice import Facts, advise
from cardoon.cli.inquiry import Findings
from cardoon.exceptions import Refusal
from cardoon.lookup import Place, Whereabouts
from cardoon.message.protocol import Claims
from cardoon.spoken import distance, duration

UNWATCHED_SECONDS = 5.0
"""How long a message may be due in a queue of which nobody has anything, before that is remarkable."""
SHOWN_PREDECESSORS = 10


class Outlook(enum.IntEnum):
    """What becomes of a task if nobody does anything; the exit code of `cardoon why`."""

    GOES_ON = 0
    """It has ended, it runs, or it will."""
    STUCK = 1
    """It will not run, or not as it was meant to, unless somebody does something."""
    UNKNOWN = 2
    """Nothing is known of it."""


class Reason(NamedTuple):
    """One thing that is the case."""

    code: str
    """For programs: it stays, while the text may change."""
    text: str


@dataclass(slots=True)
class Answer:
    """Where a task is, and why it does not run."""

    state: str
    because: list[Reason] = field(default_factory=list)
    remedies: list[str] = field(default_factory=list)
    outlook: Outlook = Outlook.GOES_ON

    def tell(self, code: str, text: str) -> None:
        """Something is the case."""
        self.because.append(Reason(code, text))

    def hold_up(self, code: str, text: str, remedy: str) -> None:
        """Something stands in the way that does not go away by itself."""
        self.tell(code, text)
        if remedy not in self.remedies:
            self.remedies.append(remedy)
        self.outlook = Outlook.STUCK


def answer(found: Findings) -> Answer:
    """The answer to the question why."""
    where = found.where
    if where is None:
        return _answer_nowhere(found)
    made = Answer(where.place.value)
    if where.kept is not None:
        _tell_kept(made, found, where)
        return made
    _tell_history(made, where)
    match where.place:
        case Place.DORMANT:
            _tell_dormant(made, found, where)
        case Place.SCHEDULED:
            _tell_scheduled(made, found, where)
        case Place.READY:
            _tell_ready(made, found, where)
        case _:
            _tell_leased(made, found, where)
    _tell_fate(made, found, where)
    return made


def _answer_nowhere(found: Findings) -> Answer:
    report, refused = found.ending.report, found.ending.refused
    if report is not None and states.is_final(report.state):
        return _answer_ended(found)
    made = Answer("unknown", outlook=Outlook.UNKNOWN)
    if refused is not None:
        made.tell(
            "result-refused", f"what the result backend has under its id is refused: {refused}"
        )
        made.remedies.append("whoever reads it next quarantines it: see `cardoon quarantine list`")
    if report is not None:
        by = f", as worker {report.worker} said" if report.worker else ""
        made.tell(
            "last-state", f"its last state is {report.state}{by}, and no queue has its message"
        )
        made.outlook = Outlook.GOES_ON
    else:
        made.tell("not-found", "no queue, no dead letter, no quarantine and no result has this id")
    if found.revoked:
        made.tell(
            "revoked", "it was revoked: whoever takes its message ends it, and it does not run"
        )
    if found.blind:
        made.tell("cannot-tell", found.blind)
    if report is None:
        made.tell("retention", _tell_retention(found))
        made.remedies.append(
            "compare the id, and whether sender and this command use the same broker_url and "
            "result_backend (`cardoon report`)"
        )
    return made


def _answer_ended(found: Findings) -> Answer:
    report = found.ending.report
    assert report is not None
    made = Answer("ended")
    at = "" if report.done_at is None else f" {distance(report.done_at, found.now)}"
    by = f", by worker {report.worker}" if report.worker else ""
    tries = f", after {report.retries} retries" if report.retries else ""
    made.tell("ended", f"{report.task or 'it'} ended as {report.state}{at}{by}{tries}")
    if report.state != states.SUCCESS:
        made.remedies.append(f"`cardoon result {found.id} --traceback` shows how")
    return made


def _tell_retention(found: Findings) -> str:
    settings = found.settings
    kept = settings.result_expires
    how_long = "for ever" if kept is None else f"for {duration(kept)} (result_expires)"
    return (
        "either it was never sent here, or it has ended and is forgotten: results are kept "
        f"{how_long}, and not at all for tasks with ignore_result or without a result_backend"
    )


def _tell_kept(made: Answer, found: Findings, where: Whereabouts) -> None:
    kept = where.kept
    assert kept is not None
    place = "quarantine" if where.place is Place.QUARANTINE else "dead"
    told = f"{kept.reason}: {kept.detail}" if kept.detail else kept.reason
    verb = "was refused" if place == "quarantine" else "could not be completed"
    made.outlook = Outlook.STUCK
    made.tell(
        "kept",
        f"it {verb} {distance(kept.kept_at, found.now)}: {told} (attempt {kept.attempt}, "
        f"{kept.crashes} crashes, {kept.retries} retries)",
    )
    if found.ending.report is not None:
        made.tell("result", f"its result is {found.ending.report.state}")
    made.remedies.append(f"`cardoon {place} show {kept.number}` explains it check by check")
    judgement = found.judgement
    if kept.reason == Refusal.BEFORE_EPOCH:
        made.remedies.append(advise(Refusal.BEFORE_EPOCH, Facts()).remedy)
    elif judgement is not None and judgement.accepted:
        again = "release" if place == "quarantine" else "retry"
        made.remedies.append(
            f"it would be accepted now: `cardoon {place} {again} {kept.number}` puts it back"
        )
    elif judgement is not None:
        advice = judgement.advice[0]
        made.tell("cause", advice.cause)
        made.remedies.append(advice.remedy)


def _tell_history(made: Answer, where: Whereabouts) -> None:
    if where.retries:
        made.tell("retried", f"its task asked to run again {_times(where.retries)}")
    if where.crashes:
        made.tell("crashed", f"the process that held it was lost {_times(where.crashes)}")


def _tell_dormant(made: Answer, found: Findings, where: Whereabouts) -> None:
    made.tell(
        "waits-for",
        f"it waits for {where.waits_for} task{'' if where.waits_for == 1 else 's'} to end",
    )
    for one in found.predecessors[:SHOWN_PREDECESSORS]:
        if one.place in (Place.DEAD_LETTER, Place.QUARANTINE):
            made.hold_up(
                "predecessor-stuck",
                f"{one.id} is {_PLACES[one.place]}",
                f"`cardoon why {one.id}` says what to do",
            )
        elif one.place is not None:
            made.tell("predecessor", f"{one.id} is {_PLACES[one.place]}")
        elif found.blind:
            made.tell("cannot-tell", f"{one.id}: {found.blind}")
        else:
            ended = f" (its result is {one.state})" if one.state else ""
            made.tell(
                "predecessor-nowhere",
                f"{one.id} is nowhere{ended}: within a minute a worker closes what waits for it",
            )
    more = where.waits_for - min(len(found.predecessors), SHOWN_PREDECESSORS)
    if more > 0:
        made.tell("predecessor", f"and {more} more")
    if found.predecessors and made.outlook is Outlook.GOES_ON:
        made.remedies.append(f"`cardoon why {found.predecessors[0].id}` goes on from there")


_PLACES = {
    Place.READY: "ready to run",
    Place.SCHEDULED: "scheduled for later",
    Place.DORMANT: "waiting for others itself",
    Place.LEASED: "with a worker now",
    Place.DEAD_LETTER: "a dead letter",
    Place.QUARANTINE: "in the quarantine",
}


def _tell_scheduled(made: Answer, found: Findings, where: Whereabouts) -> None:
    due = "later" if where.due is None else distance(where.due, found.now)
    claims = _claims_of(found)
    if where.retries or where.crashes or where.attempt:
        made.tell("runs-again", f"it runs again {due}")
    elif claims is not None and claims.eta is not None:
        made.tell("eta", f"its sender wants it to run {due} (eta or countdown)")
    else:
        made.tell("scheduled", f"it is to run {due}")
    _tell_queue(made, found, where)


def _tell_ready(made: Answer, found: Findings, where: Whereabouts) -> None:
    since = "" if where.due is None else f" since {distance(where.due, found.now)}"
    made.tell("due", f"it is due{since} in queue {where.queue}, priority {where.priority}")
    use = found.use
    if use is not None:
        running = f"{use.running} of {use.most} run" if use.most else f"one in {use.gap:g} seconds"
        opens = "" if use.opens_in is None else f", the next in {use.opens_in:.1f} seconds"
        made.tell(
            "limited",
            f"its limit {use.key} holds it back: {running}, {use.waiting} wait{opens} "
            "(`cardoon limits`)",
        )
    elif where.ahead:
        made.tell(
            "ahead",
            f"about {where.ahead} message{'' if where.ahead == 1 else 's'} of the queue go first",
        )
    else:
        made.tell("next", "it is the next of its queue")
    _tell_queue(made, found, where)
    _tell_worker(made, found, where)


def _tell_queue(made: Answer, found: Findings, where: Whereabouts) -> None:
    if found.resting:
        made.hold_up(
            "paused",
            f"queue {where.queue} is paused",
            f"`cardoon resume {where.queue}` lets workers go on",
        )


def _tell_worker(made: Answer, found: Findings, where: Whereabouts) -> None:
    """Workers leave no address; but whoever consumes a queue has something of it while there is any."""
    depth = found.depth
    if found.resting or found.use is not None or depth is None:
        return
    if depth.leased:
        made.tell(
            "served",
            f"workers have {depth.leased} other messages of the queue; when one has room it is taken",
        )
    elif where.due is not None and found.now - where.due > UNWATCHED_SECONDS:
        made.hold_up(
            "no-worker",
            f"nobody has a message of queue {where.queue} on loan: most likely no worker consumes it, or "
            "all that do are busy with other queues",
            f"start one with `cardoon worker -Q {where.queue}`, or look why the one there is does not "
            "claim (its log)",
        )


def _tell_leased(made: Answer, found: Findings, where: Whereabouts) -> None:
    report, left = found.ending.report, where.lease_left
    holder = where.holder or "a worker"
    if report is not None and report.worker:
        holder = f"worker {report.worker}" + (f" ({where.holder})" if where.holder else "")
    made.tell("leased", f"{holder} has it from queue {where.queue}, attempt {where.attempt}")
    if report is not None:
        made.tell("state", f"its state is {report.state}")
    if left is None:
        return
    if left > 0:
        made.tell(
            "lease",
            f"the lease holds for another {duration(left)}, and is renewed while it runs; if the worker "
            "dies, it runs again",
        )
    else:
        made.hold_up(
            "lease-over",
            f"the lease ran out {duration(left)} ago, and nobody has taken it back: no worker is up",
            f"start a worker: `cardoon worker -Q {where.queue}`",
        )


def _tell_fate(made: Answer, found: Findings, where: Whereabouts) -> None:
    """What becomes of it when a worker takes it, where that is not to run."""
    if found.revoked:
        made.hold_up(
            "revoked",
            "it was revoked: a worker ends it as REVOKED when it is taken, and it does not run",
            "send it again under another id if it is wanted after all",
        )
    claims = _claims_of(found)
    expires = None if claims is None or claims.expires is None else claims.expires / 1000
    if expires is not None and expires <= found.now and where.place is not Place.LEASED:
        made.hold_up(
            "expired",
            f"its time to begin was over {distance(expires, found.now)} (expires): a worker ends it as "
            "REVOKED and keeps it as a dead letter",
            "send it again, with a later expires",
        )
    judgement = found.judgement
    if judgement is None:
        if found.problem:
            made.tell("unverified", f"its signature was not looked at: {found.problem}")
    elif not judgement.accepted and where.place is not Place.LEASED:
        refusal, advice = judgement.refusals[0], judgement.advice[0]
        made.hold_up(
            "refused", f"a worker will refuse it, {refusal}: {advice.cause}", advice.remedy
        )


def _claims_of(found: Findings) -> Claims | None:
    return None if found.judgement is None else found.judgement.explanation.claims


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
