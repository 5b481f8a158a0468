"""RabbitMQ is killed, frozen and restarted, and its connections are cut: nothing is lost, nobody hangs."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pika
import pytest

from cardoon import backends, brokers
from cardoon.broker import Ack, Cause, Completion, Outgoing, Requeue
from cardoon.clock import SystemClock
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.security.replay import NonceState
from cardoon.testing.backends import result
from cardoon.testing.setting import claim, ids, message, nonce, publish, receive
from tests.servers.ground import running
from tests.servers.rabbitmq import RabbitServer

LONG = 30.0
"""Seconds after which a test gives up on something that should happen soon."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A node that only these tests treat badly."""
    with running(RabbitServer(tmp_path_factory.mktemp("faults"))) as found:
        yield found


@pytest.fixture
def prefix():
    return f"f{uuid.uuid4().hex}"


@pytest.fixture
def connect(server, prefix, tmp_path):
    """Makes brokers that share a server and a companion, as several workers do."""
    made = []

    def make(url=None, timeout=LONG, **options):
        clock = SystemClock()
        broker = brokers.connect(
            url or server.url,
            clock=clock,
            timeout=timeout,
            transport={"global_keyprefix": prefix, **options},
            companion=brokers.connect(f"sqlite:///{tmp_path}/store.db", clock=clock),
        )
        made.append(broker)
        return broker

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def raw(server):
    """A connection of nobody's, that can do what our own never would."""
    connection = pika.BlockingConnection(pika.URLParameters(server.url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


def until(broker, count=1):
    """What arrives, within a deadline."""
    found = []
    deadline = time.monotonic() + LONG
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {ids(found)} arrived"
        found += broker.receive(["q"], limit=count, lease=30, timeout=1)
    return found


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_server_that_is_killed_loses_nothing(server, connect, prefix):
    broker = connect()
    publish(broker, *(message(f"m{number}") for number in range(20)))
    held = receive(broker, limit=5)
    broker.claim([claim(each, nonce(number)) for number, each in enumerate(held)])
    server.wait_until_kept(f"{prefix}.0.q")

    server.kill()
    server.start()

    ends = [Completion(Ack(each), nonce=nonce(number)) for number, each in enumerate(held)]
    assert broker.complete(ends) == [True] * 5
    publish(broker, message("later"))
    found = until(broker, 21)
    assert sorted(ids(found)) == sorted(["later", *(f"m{number}" for number in range(20))])
    # The server did not hear of five ends, and delivers those again: known as what they are.
    copies = {each.id: each for each in found}
    states = broker.claim([claim(copies[f"m{number}"], nonce(number)) for number in range(5)])
    assert states == [NonceState.REPEATED] * 5
    assert broker.settle([Ack(each) for each in found]) == [True] * 21
    assert receive(broker) == []


def test_what_runs_here_is_adopted_when_its_connection_was_cut(server, connect):
    broker = connect()
    broker.declare(["q"])
    publish(broker, message("a"), message("b"))
    held = receive(broker)

    server.control("close_all_connections", "a test")

    again = broker.receive(["q"], limit=9, lease=30, timeout=0)
    assert again == []
    assert list(broker.extend(held, lease=30)) == list(held)
    assert broker.settle([Ack(each) for each in held]) == [True, True]
    assert [depth.ready for depth in broker.depths()] == [0]


def test_a_send_that_is_cut_goes_on_and_loses_nothing(server, connect):
    broker = connect()
    broker.declare(["q"])
    cut = threading.Event()
    sent = []

    def send():
        while not cut.is_set() or len(sent) % 1000:
            batch = [message(f"m{len(sent) + number}") for number in range(100)]
            publish(broker, *batch)
            sent.extend(each.id for each in batch)

    with ThreadPoolExecutor() as threads:
        sending = threads.submit(send)
        for _ in range(2):
            server.control("close_all_connections", "a test")
        cut.set()
        sending.result(LONG)

    found = set()
    while not found >= set(sent):
        taken = broker.receive(["q"], limit=200, lease=30, timeout=LONG)
        assert taken, f"{len(set(sent) - found)} never arrived"
        broker.settle([Ack(each) for each in taken])
        found.update(ids(taken))
    assert found == set(sent)


def test_connections_that_are_cut_leave_nothing_behind(server, connect):
    broker = connect()
    before = 0
    for number in range(4):
        if number == 1:  # by then the companion has opened all that it ever opens
            before = descriptors()
        server.control("close_all_connections", "a test")
        publish(broker, message(f"m{number}"))
        assert f"m{number}" in ids(until(broker))

    deadline = time.monotonic() + LONG
    # The last threads end in their own time, and the companion opens one more in its own. What is looked
    # for would be three for each of six connections.
    while descriptors() > before + 1:
        assert time.monotonic() < deadline, f"{descriptors()} descriptors, and {before} at first"
        time.sleep(0.05)


def test_a_server_that_stands_still_holds_nobody_up(server, connect):
    broker = connect(timeout=2.0)
    publish(broker, message("before"))
    server.freeze()
    try:
        start = time.monotonic()
        with pytest.raises(OperationalError, match="no answer in time"):
            broker.publish([message("lost?")], timeout=1.5)
        with pytest.raises(OperationalError):
            broker.receive(["q"], limit=1, lease=30, timeout=0)
        took = time.monotonic() - start
    finally:
        server.thaw()

    assert took < 8
    publish(broker, message("after"))
    found = set()
    while not found >= {"before", "after"}:
        found.update(ids(until(broker)))
    assert found - {"lost?"} == {"before", "after"}


def test_a_server_that_is_silent_for_too_long_is_left(server, connect):
    broker = connect()
    publish(broker, message("a"))
    assert ids(until(broker)) == ["a"]
    lines = [broker._intake._line, broker._publisher._round.line]
    ended = [threading.Event() for _ in lines]
    for line, event in zip(lines, ended, strict=True):
        line.on_end(event.set)
    server.freeze()
    try:
        assert all(event.wait(LONG) for event in ended)
    finally:
        server.thaw()

    assert {line.reason for line in lines} == {"the server was silent for 8 seconds"}


def test_a_server_that_is_out_of_memory_holds_nobody_up(server, connect):
    broker = connect(timeout=10.0)
    publish(broker, message("before"))
    server.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        with pytest.raises(OperationalError, match=r"no answer in time.*takes no messages"):
            broker.publish([message("held up")], timeout=3.0)
    finally:
        server.control("set_vm_memory_high_watermark", "0.4")

    publish(broker, message("after"))
    found = set()
    while not found >= {"before", "after"}:
        found.update(ids(until(broker)))


def test_a_copy_whose_end_was_not_heard_of_is_no_replay(server, connect, raw, prefix):
    """A worker dies between the end of a task and the acknowledgement."""
    broker, other = connect(), connect()
    publish(broker, Outgoing("q", "a", b"frame"))
    (a,) = receive(broker)
    assert broker.claim([claim(a, nonce(1))]) == [NonceState.CLAIMED]
    broker.companion.settle([Ack(a)])
    broker.companion.finish([nonce(1)])
    broker._intake.close()  # the end of its process, as the server sees it

    (again,) = until(other)

    assert (again.id, again.frame) == ("a", b"frame")
    assert other.claim([claim(again, nonce(1))]) == [NonceState.REPEATED]
    assert other.settle([Ack(again)]) == [True]

    # Whoever sends it anew is found out.
    raw.basic_publish("", f"{prefix}.0.q", b"frame", pika.BasicProperties(headers={"id": "copy"}))
    (copy,) = until(other)
    assert other.claim([claim(copy, nonce(1))]) == [NonceState.DONE]
    # So he is if it is lent again because it had to wait.
    other.settle([Requeue(copy)])
    (copy,) = until(other)
    assert copy.attempt == 2
    assert other.claim([claim(copy, nonce(1))]) == [NonceState.DONE]


def test_a_copy_whose_second_worker_died_as_well_is_no_replay(connect):
    """It had been lent by the companion by then, which lends it again and knows nothing of copies."""
    broker, other, third = connect(), connect(), connect()
    publish(broker, Outgoing("q", "a", b"frame"))
    (a,) = receive(broker)
    assert broker.claim([claim(a, nonce(1))]) == [NonceState.CLAIMED]
    broker.companion.settle([Ack(a)])
    broker.companion.finish([nonce(1)])
    broker._intake.close()  # the end of its process, as the server sees it
    (again,) = until(other)
    other._watcher.close()  # who is dead does not take it once more
    other.companion.settle([Requeue(again, Cause.CRASHED)])  # what the next worker of the name does
    other._intake.close()

    (last,) = until(third)

    assert (last.id, last.attempt) == ("a", 2)
    assert third.claim([claim(last, nonce(1))]) == [NonceState.REPEATED]
    assert third.settle([Ack(last)]) == [True]


def test_a_message_that_came_back_often_is_not_dropped(connect, raw, prefix):
    broker = connect()
    publish(broker, Outgoing("q", "restless", b"frame"))
    for _ in range(50):
        method, _, _ = raw.basic_get(f"{prefix}.0.q")
        assert method is not None
        raw.basic_nack(method.delivery_tag, requeue=True)

    assert ids(receive(broker)) == ["restless"]


def test_a_priority_that_is_new_reaches_who_waits(connect):
    worker, client = connect(), connect()
    worker.declare(["q"])
    assert receive(worker) == []
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(worker.receive, ["q"], limit=1, lease=30, timeout=LONG)
        publish(client, message("urgent")._replace(priority=7))

        assert ids(waiting.result(LONG)) == ["urgent"]


def test_a_queue_of_which_somebody_lies_holds_up_nobody(connect, raw, prefix):
    broker = connect()
    broker.declare(["q"])
    publish(broker, message("a"))
    assert ids(receive(broker)) == ["a"]
    for told in (b'["q", 6]', b'["q", 77]', b'["q", true]', b"[" * 9999, b"\xff", b"{}"):
        raw.basic_publish(f"{prefix}.levels", "", told)
    publish(broker, message("b"))

    assert ids(until(broker)) == ["b"]


def test_a_queue_that_somebody_deletes_is_made_again(connect, raw, prefix):
    broker = connect()
    publish(broker, message("a"))
    assert ids(receive(broker)) == ["a"]

    line = broker._intake._line
    raw.queue_delete(f"{prefix}.0.q")
    deadline = time.monotonic() + LONG
    while line.is_alive:  # until it has heard
        assert time.monotonic() < deadline
        broker.receive(["q"], limit=1, lease=30, timeout=0.1)
    publish(broker, message("b"))

    assert ids(until(broker)) == ["b"]


def test_a_task_that_runs_for_longer_than_the_server_waits_keeps_its_loan(server, connect):
    """The server closes the channel of who holds a message for too long."""
    set_limits(server, timeout=1000, tick=200)
    try:
        broker = connect()
        publish(broker, message("long"))
        (held,) = receive(broker)
        first = broker._intake._line
        deadline = time.monotonic() + LONG
        while first.is_alive:
            assert time.monotonic() < deadline, "the server had more patience than it was told"
            assert broker.receive(["q"], limit=5, lease=30, timeout=0.2) == []
    finally:
        set_limits(server, timeout=1_800_000, tick=60_000)

    assert "PRECONDITION_FAILED" in first.reason
    assert broker.receive(["q"], limit=5, lease=30, timeout=0) == []
    assert broker.extend([held], lease=30) == [held]
    assert broker.settle([Ack(held)]) == [True]
    assert receive(broker) == []


def set_limits(server, *, timeout, tick):
    """How many milliseconds a message may be held, and how often that is looked at; new channels only."""
    server.control(
        "eval",
        f"application:set_env(rabbit, consumer_timeout, {timeout}), "
        f"application:set_env(rabbit, channel_tick_interval, {tick}).",
    )


def test_what_one_worker_does_not_take_another_one_gets(connect):
    busy, idle = connect(), connect()
    busy.declare(["q"])
    assert busy.receive(["q"], limit=5, lease=30, timeout=0.01) == []
    publish(busy, *(message(f"m{number}") for number in range(3)))
    assert len(busy.receive(["q"], limit=1, lease=30, timeout=LONG)) == 1

    deadline = time.monotonic() + LONG
    found = []
    while len(found) < 2:
        assert time.monotonic() < deadline
        busy.maintain()
        found += idle.receive(["q"], limit=5, lease=30, timeout=0.2)

    assert len({*ids(found)}) == 2


def test_a_child_has_connections_of_its_own(connect):
    broker = connect()
    publish(broker, message("parent"))
    child = os.fork()
    if child == 0:
        with contextlib.suppress(Exception):
            publish(broker, message("child"))
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    publish(broker, message("later"))

    assert os.waitstatus_to_exitcode(status) == 0
    assert sorted(ids(until(broker, 3))) == ["child", "later", "parent"]


def test_the_second_server_of_a_url_stands_in_for_the_first(server, connect):
    broker = connect(url=f"amqp://127.0.0.1:1/;{server.url}")

    publish(broker, message("a"))

    assert ids(until(broker)) == ["a"]


def test_who_waits_for_a_server_waits_for_as_long_as_he_may(connect):
    broker = connect(url="amqp://127.0.0.1:1/")
    start = time.monotonic()

    with pytest.raises(OperationalError, match="refused"):
        broker.publish([message("a")], timeout=3)

    assert 2.9 < time.monotonic() - start < 6


def test_a_queue_of_another_kind_is_explained(connect, raw, prefix):
    raw.queue_declare(f"{prefix}.0.q", durable=True)

    with pytest.raises(OperationalError, match=r"other properties.*global_keyprefix"):
        connect(timeout=2.0).declare(["q"])


def test_an_error_shows_no_password(server, connect):
    broker = connect(url=server.url_of("guest", "hunter2"), timeout=LONG)

    with pytest.raises(OperationalError) as failed:
        broker.publish([message("a")], timeout=LONG)

    assert "access refused" in str(failed.value)
    assert "hunter2" not in repr(failed.value)


@pytest.mark.parametrize("options", [{"durability": "fsync"}, {"schema": "x"}])
def test_an_option_of_another_driver_is_told(connect, options):
    with pytest.raises(ImproperlyConfigured, match=next(iter(options))):
        connect(**options)


@pytest.fixture
def full(server, prefix):
    """Queues that take one message and refuse the next, until this is called."""
    name = f"full-{prefix}"
    limit = '{"max-length": 1, "overflow": "reject-publish"}'
    server.control("set_policy", name, f"^{prefix}", limit, "--apply-to", "queues")
    is_set = [True]

    def end():
        if is_set.pop():
            server.control("clear_policy", name)

    yield end
    if is_set:
        end()


def until_refused(broker):
    """A policy is in force soon after it is set, and a queue is a little larger than it says."""
    for number in range(1000):
        try:
            broker.publish([message(f"first-{number}")], timeout=0.5)
        except OperationalError as error:
            return str(error)
    raise AssertionError("nothing was refused")


def test_what_the_server_refuses_for_a_while_is_sent_again(connect, full):
    """As it does while the nodes of a queue choose another leader."""
    broker = connect()

    assert "the server refused 1 messages" in until_refused(broker)
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(broker.publish, [message("late")], timeout=LONG)
        full()
        sending.result(LONG)

    found = []
    while "late" not in found:
        found += ids(until(broker))


def test_a_result_that_the_server_will_never_take_holds_up_no_other(server, connect, caplog):
    backend = backends.connect("rpc://", clock=SystemClock(), beside=connect())
    allow = "application:set_env(rabbit, max_message_size, {0}), persistent_term:put(max_message_size, {0})."
    server.control("eval", allow.format(1000))
    try:
        address = backend.listen(timeout=LONG)
        results = [result("a"), result("large", bytes(2000)), result("b")]
        backend.store([each._replace(reply=address) for each in results])

        assert {each.task_id for each in backend.wait(["a", "b"], timeout=LONG)} == {"a", "b"}
        assert "the result of task large is dropped" in caplog.text
    finally:
        server.control("eval", allow.format(128 * 2**20))
        backend.close()


def test_what_is_not_acknowledged_comes_again_and_nothing_else(connect, raw, prefix):
    """Ends come in any order, and are told to the server by as few words as say it."""
    broker = connect()
    publish(broker, *(message(f"m{number}") for number in range(8)))
    held = {each.id: each for each in until(broker, 8)}
    for some in (["m2", "m1"], ["m0"], ["m5"], ["m3", "m7"]):
        assert all(broker.settle([Ack(held[name]) for name in some]))

    broker.close()

    left = []
    deadline = time.monotonic() + LONG
    while len(left) < 2 and time.monotonic() < deadline:
        found, properties, _ = raw.basic_get(f"{prefix}.0.q")
        if found:
            left.append(properties.headers["id"])
    assert sorted(left) == ["m4", "m6"]
    assert raw.basic_get(f"{prefix}.0.q")[0] is None


def test_long_messages_pass_whole_both_ways(connect):
    """More than one frame each, and together more than any buffer of the kernel's."""
    broker = connect()
    sent = {f"m{number}": os.urandom(300_000 + number) for number in range(60)}

    publish(broker, *(Outgoing("q", name, body) for name, body in sent.items()))

    found = until(broker, len(sent))
    assert {each.id: each.frame for each in found} == sent
    assert all(broker.settle([Ack(each) for each in found]))


def test_threads_that_send_at_once_send_each_message_once(connect):
    broker = connect()
    broker.declare(["q"])
    names = [[f"{thread}-{number}" for number in range(40)] for thread in range(8)]

    def send(mine):
        for name in mine:
            publish(broker, message(name))

    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(send, names))

    found = until(broker, 320)
    assert sorted(ids(found)) == sorted(name for mine in names for name in mine)
    assert broker.settle([Ack(each) for each in found]) == [True] * 320
    assert receive(broker) == []


def test_what_a_stranger_writes_about_his_message_ends_no_connection(connect, raw, prefix):
    broker = connect()
    publish(broker, message("first"))
    strange = [
        pika.BasicProperties(headers={"id": 7, "x": [None, {"y": True}]}),
        pika.BasicProperties(headers={"id": b"\xff\xfe"}, content_type="\0", expiration="600000"),
        pika.BasicProperties(headers={"\0": "x" * 60_000}, message_id="m", reply_to="id"),
        None,
    ]
    for number, properties in enumerate(strange):
        raw.basic_publish("", f"{prefix}.0.q", b"frame %d" % number, properties)
    raw.basic_publish("", f"{prefix}.0.q", b"")

    found = until(broker, 6)

    assert {each.frame for each in found} == {b"first", b"", *(b"frame %d" % n for n in range(4))}
    assert not any(each.frame.startswith(b"frame") and len(each.id) != 64 for each in found)
    assert all(broker.settle([Ack(each) for each in found]))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"AMQP\x00\x01\x00\x00",
        b"\x01\x00\x00\xff\xff\xff\xff" + bytes(100),
        b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\xce",
        b"",
    ],
    ids=["http", "another version", "an endless frame", "half a method", "nothing"],
)
def test_who_is_no_rabbitmq_is_given_up_in_time(connect, answer):
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as threads:

        def speak():
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as caller:
                        caller.recv(8)
                        caller.sendall(answer)

        speaking = threads.submit(speak)
        broker = connect(f"amqp://guest:top-secret@127.0.0.1:{listener.getsockname()[1]}/")
        started = time.monotonic()

        with pytest.raises(OperationalError, match="rabbitmq") as failed:
            broker.publish([message("a")], timeout=1)

        assert time.monotonic() - started < 5
        assert "top-secret" not in str(failed.value)
        listener.shutdown(socket.SHUT_RDWR)
        speaking.result(LONG)
