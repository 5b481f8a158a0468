"""A forked child has connections of its own."""

from __future__ import annotations

import os
import threading
import warnings

from cardoon.broker import Outgoing

LONG = 20.0


def message(name):
    return Outgoing("q", name, name.encode())


def fork(action):
    """Run in a child; what it returned, as text."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the threads are what is tested
        child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(action()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_parent_and_child_go_on_each_on_its_own(connect, url):
    broker = connect(url)
    broker.publish([message("before")], timeout=LONG)

    def work():
        broker.publish([message("child")], timeout=LONG)
        held = broker.receive(["q"], limit=1, lease=60, timeout=0)
        broker.close()
        return held[0].id

    said = fork(work)
    broker.publish([message("parent")], timeout=LONG)
    held = broker.receive(["q"], limit=9, lease=60, timeout=0)

    assert said == "before"
    assert [each.id for each in held] == ["child", "parent"]


def test_a_child_waits_and_hears_though_its_parent_waits(connect, url):
    broker, sender = connect(url), connect(url)
    heard = []
    waiting = threading.Thread(
        target=lambda: heard.extend(broker.receive(["r"], limit=1, lease=60, timeout=LONG))
    )
    waiting.start()

    def work():
        sender.publish([message("child")], timeout=LONG)
        return [each.id for each in broker.receive(["q"], limit=1, lease=60, timeout=LONG)]

    said = fork(work)
    sender.publish([Outgoing("r", "parent", b"x")], timeout=LONG)
    waiting.join(LONG)

    assert said == "['child']"
    assert [each.id for each in heard] == ["parent"]
