"""One connection's bytes: one speaker at a time, in order, and an end that everybody hears of."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pika
import pytest

from cardoon.rabbitmq.stream import Link, Stream

LONG = 30.0
GREETING = b"AMQP\x00\x00\x09\x01"


@contextlib.contextmanager
def connected():
    """A stream that listens, and the socket at its other end, which has been greeted."""
    near, far = socket.socketpair()
    far.settimeout(LONG)
    stream = Stream()
    link = Link(pika.ConnectionParameters(), stream, on_open_error_callback=lambda *_: None)
    listener = threading.Thread(target=stream.run, args=(near, link, lambda: None), daemon=True)
    listener.start()
    with far:
        assert read(far, len(GREETING)) == GREETING
        yield stream, far, listener
        stream.stop()
        listener.join(LONG)
    assert not listener.is_alive()
    stream.close()


def read(far, count):
    found = b""
    while len(found) < count:
        some = far.recv(count - len(found))
        assert some, f"it ended after {len(found)} bytes"
        found += some
    return found


def wait_until_at_rest(stream):
    """Until the listener waits for something to come, and so leaves the speaking to us."""
    speakers = []
    deadline = time.monotonic() + LONG
    while speakers[-1:] != [threading.current_thread()]:
        assert time.monotonic() < deadline
        stream.post(lambda: speakers.append(threading.current_thread()))


def test_who_has_something_to_say_says_it_himself():
    with connected() as (stream, far, _):
        wait_until_at_rest(stream)
        speakers = []

        def speak():
            speakers.append(threading.current_thread())
            for part in (b"one ", b"two ", b"three"):
                stream.write(part)

        stream.post(speak)

        assert read(far, 13) == b"one two three"
        assert speakers == [threading.current_thread()]


def test_who_comes_while_another_speaks_leaves_his_words_and_need_not_wait():
    with connected() as (stream, far, _):
        begun, go_on = threading.Event(), threading.Event()

        def speak():
            begun.set()
            assert go_on.wait(LONG)
            stream.write(b"first ")

        with ThreadPoolExecutor() as threads:
            speaking = threads.submit(stream.post, speak)
            assert begun.wait(LONG)
            stream.post(lambda: stream.write(b"second"))
            go_on.set()
            speaking.result(LONG)

        assert read(far, 12) == b"first second"


def test_many_speakers_keep_their_order_and_never_speak_at_once():
    with connected() as (stream, far, _):
        busy = threading.Lock()

        def say(name, number):
            assert busy.acquire(blocking=False)
            stream.write(b"%c%03d" % (name, number))
            busy.release()

        def speak(name):
            for number in range(300):
                stream.post(partial(say, name, number))

        with ThreadPoolExecutor() as threads:
            speaking = [threads.submit(speak, name) for name in b"abcd"]
            heard = read(far, 4 * 4 * 300)
            for each in speaking:
                each.result(LONG)

    words = [heard[start : start + 4] for start in range(0, len(heard), 4)]
    for name in b"abcd":
        assert [word for word in words if word[0] == name] == [
            b"%c%03d" % (name, number) for number in range(300)
        ]


def test_more_than_the_other_end_takes_at_once_waits_for_it():
    with connected() as (stream, far, _):
        whole = bytes(range(256)) * 40_000

        stream.post(lambda: stream.write(whole))

        assert read(far, len(whole)) == whole


def test_one_who_is_interrupted_while_he_speaks_ends_it():
    with connected() as (stream, far, listener):
        wait_until_at_rest(stream)

        def speak():
            stream.write(b"half a ")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stream.post(speak)

        listener.join(LONG)
        assert not listener.is_alive()
        assert far.recv(99) == b""


def test_the_end_of_the_other_side_is_heard():
    with connected() as (_, far, listener):
        far.shutdown(socket.SHUT_WR)

        listener.join(LONG)

        assert not listener.is_alive()
