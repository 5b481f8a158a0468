"""Messages are poison, or come twice."""

from __future__ import annotations

from cardoon.broker import Completion, Kept, Outgoing, Requeue, Transactional
from faults.matrix import UNBOUNDED, fault
from faults.on_workers import SETTLE_SECONDS
from faults.stage import QUEUE, Stage

POISONED = 50
COPIES = 200
GARBAGE = (
    b"garbage",
    b"{}",
    b'{"body": "!!!", "headers": {}, "properties": {}}',
    b"\xff\xfe\x00",
    b"",
    b"\xd9\xd9\xf7" + bytes(100),
)


@fault(most={"left": UNBOUNDED}, exactly={"dead letters": POISONED, "without reason": 0})
def poison_unknown(stage: Stage) -> None:
    """Fifty tasks among the others that no worker knows."""
    stage.send(count=stage.count // 2, seconds=0.005)
    stage.send(kind="unknown", count=POISONED, prefix="unknown")
    stage.send(count=stage.count // 2, prefix="more", seconds=0.005)
    stage.expected = {one for one in stage.ledger.read().idents("sent") if "unknown" not in one}
    stage.fault()
    stage.worker()
    stage.settle(SETTLE_SECONDS)
    # They wait a minute for a worker that knows them: a rolling deploy.
    stage.comes_true(lambda: len(stage.kept(Kept.DEAD_LETTER)) == POISONED, SETTLE_SECONDS)
    dead = stage.kept(Kept.DEAD_LETTER)
    stage.extra["dead letters"] = len(dead)
    stage.extra["without reason"] = sum("unknown task" not in message.reason for message in dead)


@fault(exactly={"quarantined": POISONED})
def poison_garbage(stage: Stage) -> None:
    """Fifty messages among the others that cannot be parsed."""
    stage.send(count=stage.count // 2, seconds=0.005)
    broker = stage.place.connect()
    junk = [
        Outgoing(QUEUE, f"junk{number}", GARBAGE[number % len(GARBAGE)])
        for number in range(POISONED)
    ]
    broker.publish(junk, timeout=10)
    broker.close()
    stage.send(count=stage.count // 2, prefix="more", seconds=0.005)
    stage.fault()
    stage.worker()
    stage.settle(SETTLE_SECONDS)
    kept = {message.frame for message in stage.kept(Kept.QUARANTINE)}
    assert kept <= set(GARBAGE), "they are kept as they came"
    stage.extra["quarantined"] = len(stage.kept(Kept.QUARANTINE))


@fault(
    count=400,
    most={"others s": 30.0},
    exactly={"killer runs": 9, "dead letters": 3},
)
def poison_killer(stage: Stage) -> None:
    """Three tasks among the others that kill their process in each run."""
    stage.send(count=stage.count // 2, seconds=0.02)
    stage.send(kind="kill", count=3, prefix="killer")
    stage.send(count=stage.count // 2, prefix="more", seconds=0.02)
    stage.expected = {one for one in stage.ledger.read().idents("sent") if "killer" not in one}
    stage.fault()
    stage.worker()
    stage.settle(SETTLE_SECONDS)
    last = stage.ledger.last_end(stage.expected, after=stage.fault_at)
    stage.extra["others s"] = UNBOUNDED if last is None else last - stage.fault_at
    begun = stage.ledger.read().counts["begin"]
    stage.extra["killer runs"] = sum(n for one, n in begun.items() if "killer" in one)
    stage.extra["dead letters"] = len(stage.kept(Kept.DEAD_LETTER))


@fault(exactly={"replayed": 2 * COPIES})
def dup_delivery(stage: Stage) -> None:
    """Two hundred messages lie twice in the queue, and are there again when all have ended."""
    stage.send(seconds=0.005)
    broker = stage.place.connect()
    count = min(COPIES, stage.count // 2)
    lent = broker.receive([QUEUE], limit=count, lease=60, timeout=5)
    copies = [Outgoing(QUEUE, f"{one.id}>copy{n}", one.frame) for n, one in enumerate(lent)]
    broker.publish(copies, timeout=10)
    requeues = [Requeue(one) for one in lent]
    if isinstance(broker, Transactional):
        broker.complete([Completion(one) for one in requeues])
    else:
        broker.settle(requeues)
    broker.close()  # with what it had been sent beyond that
    stage.fault()
    stage.worker()
    stage.settle(SETTLE_SECONDS)
    broker = stage.place.connect()
    broker.publish([Outgoing(QUEUE, one.id, one.frame) for one in lent], timeout=10)
    broker.close()
    # What a worker of RabbitMQ has in its hands lies in no queue that could be counted.
    stage.comes_true(lambda: _count_replayed(stage) >= 2 * len(lent), SETTLE_SECONDS)
    stage.extra["replayed"] = _count_replayed(stage) + 2 * (COPIES - len(lent))


def _count_replayed(stage: Stage) -> int:
    """Copies that were not carried out: refused and kept, or known to have ended by who held them before."""
    kept = sum(message.reason == "replayed" for message in stage.kept(Kept.QUARANTINE))
    return kept + stage.recorded("message.repeated")
