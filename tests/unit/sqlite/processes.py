"""Other processes for tests of what processes share: each role is a function of a database path.

    python -m tests.unit.sqlite.processes ROLE PATH [ARGUMENT ...]

A role prints one line for each thing it has done, after it is done.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cardoon import backends, brokers
from cardoon.backend import SealedResult
from cardoon.broker import Ack, Completion, Limit, Outgoing, Unique
from cardoon.clock import SystemClock
from cardoon.security.replay import Nonce, NonceClaim, NonceState

ROOT = Path(__file__).parents[3]


def start(role, path, *arguments):
    """Run a role in a process of its own, with its standard output to read from."""
    command = [sys.executable, "-m", "tests.unit.sqlite.processes", role, str(path)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*command, *map(str, arguments)], cwd=ROOT, stdin=pipe, stdout=pipe, text=True
    )


def connect(path):
    return brokers.connect(f"sqlite:///{path}", clock=SystemClock())


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def publish(path, name):
    """Publish one message after a line on standard input."""
    broker = connect(path)
    broker.declare(["q"])
    say("ready")
    sys.stdin.readline()
    broker.publish([Outgoing("q", name, name.encode())], timeout=10)
    say("sent", name)


def write(path, prefix, count, batch):
    """Publish many messages."""
    broker = connect(path)
    for first in range(0, int(count), int(batch)):
        names = [f"{prefix}{number}" for number in range(first, first + int(batch))]
        broker.publish([Outgoing("q", name, name.encode()) for name in names], timeout=30)
        for name in names:
            say("sent", name)


def work(path, seconds):
    """Complete whatever comes, each with a result, a nonce and sometimes a successor."""
    broker = connect(path)
    broker.maintain()  # what is left may all be held by the dead
    nonces = {}
    while deliveries := broker.receive(["q"], limit=5, lease=5, timeout=float(seconds)):
        for delivery in deliveries:
            session = delivery.id.encode().rjust(16, b"\0")[-16:]
            nonces[delivery.id] = Nonce(session, 0, time.time() + 3600)
        states = broker.claim([NonceClaim(nonces[d.id], d.receipt, d.attempt) for d in deliveries])
        assert NonceState.DONE not in states, "a message that is done was lent again"
        completions = [
            Completion(
                Ack(delivery),
                SealedResult(delivery.id, delivery.frame, True, None),
                () if delivery.id.endswith("+") else (Outgoing("q", f"{delivery.id}+", b"x"),),
                nonces[delivery.id],
            )
            for delivery in deliveries
        ]
        for delivery, taken in zip(deliveries, broker.complete(completions), strict=True):
            if taken:
                say("done", delivery.id)
        broker.maintain()


def storm(path, prefix):
    """Publish and work until killed."""
    broker = connect(path)
    number = 0
    while True:
        names = [f"{prefix}.{number + step}" for step in range(3)]
        number += 3
        broker.publish([Outgoing("q", name, name.encode()) for name in names], timeout=10)
        for name in names:
            say("sent", name)
        work(path, 0)


def hold(path):
    """Take one message and die with it in hand."""
    broker = connect(path)
    (delivery,) = broker.receive(["q"], limit=1, lease=600, timeout=10)
    say("holds", delivery.id)
    signal.pause()


def paced(path, count, gap):
    """Take messages as fast as their rate allows."""
    broker = connect(path)
    limit = Limit("key", 0, float(gap))
    names = [f"m{number}" for number in range(int(count))]
    broker.publish([Outgoing("q", name, b"x", limit=limit) for name in names], timeout=10)
    for _ in names:
        (delivery,) = broker.receive(["q"], limit=9, lease=600, timeout=10)
        say("took", time.monotonic())
        broker.settle([Ack(delivery)])


def compete(path, name, count):
    """After a line on standard input, send messages of which there is to be one at a time."""
    broker = connect(path)
    broker.declare(["q"])
    say("ready")
    sys.stdin.readline()
    for number in range(int(count)):
        mine = f"{name}.{number}"
        sent = Outgoing("q", mine, b"x", unique=Unique(f"key{number}"))
        holder = broker.publish([sent], timeout=30).get(mine)
        say("sent" if holder is None else "left", mine, holder)


def store(path, name):
    """Store a result after a line on standard input."""
    backend = backends.connect(f"sqlite:///{path}", clock=SystemClock())
    backend.load(["nothing"])
    say("ready")
    sys.stdin.readline()
    backend.store([SealedResult(name, b"frame", True, None)])


def fork(path):
    """Use a broker before a fork, and on both sides after it."""
    broker = connect(path)
    broker.publish([Outgoing("q", "before", b"x")], timeout=10)
    broker.receive(["q"], limit=1, lease=600, timeout=10)
    if os.fork() == 0:
        broker.publish([Outgoing("q", "child", b"x")], timeout=10)
        held = broker.receive(["q"], limit=1, lease=600, timeout=10)
        say("child", *(delivery.id for delivery in held))
        broker.close()
        os._exit(0)
    os.wait()
    broker.publish([Outgoing("q", "parent", b"x")], timeout=10)
    held = broker.receive(["q"], limit=1, lease=600, timeout=10)
    say("parent", *(delivery.id for delivery in held))


def leave_child(path):
    """Leave a child behind that publishes after a line on standard input."""
    broker = connect(path)
    broker.publish([Outgoing("q", "parent", b"x")], timeout=10)
    broker.depths()
    if os.fork() != 0:
        os._exit(0)
    broker.depths()
    say("ready")
    sys.stdin.readline()
    broker.publish([Outgoing("q", "child", b"x")], timeout=10)
    say("sent")
    os._exit(0)


def hold_beside_child(path):
    """Take one message, and have a child that lives on when this process is killed."""
    broker = connect(path)
    broker.receive(["q"], limit=1, lease=600, timeout=10)
    if os.fork() == 0:
        say("child", os.getpid())
    signal.pause()


ROLES = {
    role.__name__: role
    for role in (
        *(publish, write, work, storm, hold, store, fork, leave_child, hold_beside_child),
        *(paced, compete),
    )
}

if __name__ == "__main__":
    ROLES[sys.argv[1]](*sys.argv[2:])
