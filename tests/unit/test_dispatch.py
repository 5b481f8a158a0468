"""Signals: who is called, when, and what a receiver can and cannot do."""

from __future__ import annotations

import functools
import gc
import logging
import os
import threading

import pytest

from cardoon.dispatch import Signal
from cardoon.utils import dispatch as celerys_name


@pytest.fixture
def signal():
    return Signal(name="cooked", providing_args={"dish"})


def note_into(heard):
    def note(**told):
        heard.append(told)

    return note


def test_a_receiver_is_told_signal_sender_and_payload(signal):
    heard = []
    receiver = note_into(heard)
    signal.connect(receiver)

    answers = signal.send(sender="cook", dish="soup")

    assert heard == [{"signal": signal, "sender": "cook", "dish": "soup"}]
    assert answers == [(receiver, None)]


def test_a_receiver_may_be_connected_by_a_decorator(signal):
    @signal.connect
    def bare(**_):
        return "bare"

    @signal.connect(sender="cook")
    def called(**_):
        return "called"

    @signal.connect("cook")
    def named(**_):
        return "named"

    assert [answer for _, answer in signal.send("cook")] == ["bare", "called", "named"]
    assert [answer for _, answer in signal.send("guest")] == ["bare"]


def test_a_receiver_that_is_gone_is_not_called(signal):
    def connect_one():
        def receiver(**_):
            return "called"

        signal.connect(receiver)
        return receiver

    kept = connect_one()
    connect_one()
    gc.collect()

    assert [receiver for receiver, _ in signal.send(None)] == [kept]
    assert len(signal.receivers) == 1
    del kept
    gc.collect()
    assert not signal.has_listeners()
    assert not signal.receivers


def test_a_receiver_that_is_held_strongly_stays(signal):
    signal.connect(lambda **_: "here", weak=False)
    gc.collect()

    assert [answer for _, answer in signal.send(None)] == ["here"]


def test_a_method_is_called_while_its_object_lives(signal):
    class Cook:
        def hear(self, **_):
            return "method"

    cook = Cook()
    signal.connect(cook.hear)
    signal.connect(cook.hear)

    assert [answer for _, answer in signal.send(None)] == ["method"]
    del cook
    gc.collect()
    assert signal.send(None) == []


def test_connecting_twice_is_the_same_as_once(signal):
    heard = []
    receiver = note_into(heard)

    for _ in range(2):
        signal.connect(receiver)
        signal.connect(note_into(heard), dispatch_uid="mine", weak=False)

    signal.send(None)
    assert len(heard) == 2


def test_one_receiver_may_hear_of_several_senders(signal):
    heard = []
    receiver = note_into(heard)
    signal.connect(receiver, sender="a")
    signal.connect(receiver, sender="b")

    for sender in "abc":
        signal.send(sender)

    assert [told["sender"] for told in heard] == ["a", "b"]


def test_a_receiver_may_be_taken_back(signal):
    receiver = note_into([])
    signal.connect(receiver)
    signal.connect(receiver, sender="a")
    signal.connect(receiver, dispatch_uid="mine")

    assert not signal.disconnect(receiver, sender="b")
    assert signal.disconnect(receiver)
    assert signal.disconnect(receiver, sender="a")
    assert signal.disconnect(dispatch_uid="mine")
    assert not signal.disconnect(receiver)
    assert not signal.receivers


def test_a_sender_is_matched_by_identity_and_a_task_by_its_name_too(signal):
    class Named:
        def __init__(self, name):
            self.name = name

    task, twin = Named("shop.pay"), Named("shop.pay")
    signal.connect(lambda **_: "object", sender=task, weak=False)
    signal.connect(lambda **_: "name", sender="shop.pay", weak=False)

    def answers(sender):
        return [answer for _, answer in signal.send(sender)]

    assert answers(task) == ["object", "name"]
    assert answers("shop.pay") == ["object", "name"]
    assert answers(twin) == ["name"]
    assert answers(None) == []
    assert signal.has_listeners(task)
    assert not signal.has_listeners("other")


def test_a_receiver_that_raises_is_logged_and_does_not_silence_the_others(signal, caplog):
    def broken(**_):
        raise ValueError("no")

    signal.connect(broken)
    signal.connect(lambda **_: "heard", weak=False)

    (_, error), (_, answer) = signal.send_robust(None)

    assert isinstance(error, ValueError)
    assert answer == "heard"
    [line] = caplog.records
    assert "broken of signal cooked raised" in line.message


def test_a_receiver_may_disconnect_itself_while_it_is_called(signal):
    def once(**_):
        signal.disconnect(once)
        return "once"

    signal.connect(once)
    signal.connect(lambda **_: "always", weak=False)

    assert [answer for _, answer in signal.send(None)] == ["once", "always"]
    assert [answer for _, answer in signal.send(None)] == ["always"]


def test_what_cannot_receive_is_refused(signal):
    def takes_no_keywords(sender):
        raise AssertionError("not called")

    async def coroutine(**_):
        raise AssertionError("not called")

    with pytest.raises(ValueError, match=r"takes_no_keywords takes no \*\*kwargs"):
        signal.connect(takes_no_keywords)
    with pytest.raises(ValueError, match="coroutine is a coroutine function"):
        signal.connect(coroutine)
    assert not signal.receivers


def test_anything_callable_may_receive(signal):
    class Counter:
        calls = 0

        def __call__(self, **_):
            self.calls += 1

    counter = Counter()
    partial = functools.partial(lambda word, **_: word, "partial")
    signal.connect(counter)
    signal.connect(partial)

    assert [answer for _, answer in signal.send(None)] == [None, "partial"]
    assert counter.calls == 1


def test_a_receiver_that_is_to_be_retried_is_called_until_it_returns(caplog):
    slept = []
    signal = Signal(name="cooked", sleep=slept.append)
    failures = [OSError("away")] * 20

    def stubborn(**_):
        if failures:
            raise failures.pop()
        return "at last"

    signal.connect(stubborn, retry=True)
    del caplog.records[:]
    [(_, answer)] = signal.send(None)

    assert answer == "at last"
    assert slept[:3] == [2, 4, 6]
    assert slept[-1] == 30
    assert "called again in 2 seconds" in caplog.records[0].message
    assert signal.disconnect(stubborn)


def test_connecting_to_a_signal_that_is_never_sent_is_warned_about_once(caplog):
    signal = Signal(name="beat_init", never_sent="there is no beat")

    with caplog.at_level(logging.WARNING):
        signal.connect(note_into([]))
        signal.connect(note_into([]))

    assert [line.message for line in caplog.records] == [
        "signal beat_init is never sent: there is no beat"
    ]


def test_threads_that_connect_at_once_lose_nobody(signal):
    receivers = [note_into([]) for _ in range(400)]
    barrier = threading.Barrier(4)

    def connect(some):
        barrier.wait()
        for one in some:
            signal.connect(one)

    threads = [threading.Thread(target=connect, args=(receivers[at::4],)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(signal.receivers) == 400


def test_a_forked_child_may_connect_although_another_thread_was_about_to(signal):
    held, release = threading.Event(), threading.Event()

    def hold():
        with Signal._lock:
            held.set()
            release.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    pid = os.fork()
    if pid == 0:
        try:
            signal.connect(note_into([]), weak=False)
        finally:
            os._exit(len(signal.receivers))
    release.set()
    thread.join()

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_a_signal_is_described_by_its_name(signal):
    assert repr(signal) == "<Signal: cooked providing_args=['dish']>"
    assert celerys_name.Signal is Signal
