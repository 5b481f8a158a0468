"""Results over RabbitMQ: the suite of every result backend, and what only this one does."""

from __future__ import annotations

import itertools
import multiprocessing
import uuid
from contextlib import ExitStack

import pika
import pytest

from cardoon import backends, brokers
from cardoon.backend import SealedResult
from cardoon.clock import SystemClock
from cardoon.exceptions import OperationalError
from cardoon.testing import FakeClock
from cardoon.testing.backends import LONG, BackendSuite, result


class Rpc:
    """Result backends that share a prefix on one server, each as a process of its own would have it."""

    def __init__(self, url, folder):
        self.url, self.folder = url, folder
        self.prefix = f"r{uuid.uuid4().hex}"
        self.made = ExitStack()

    def connect(self, clock=None, url=None):
        clock = clock or SystemClock()
        broker = brokers.connect(
            url or self.url,
            clock=clock,
            transport={"global_keyprefix": self.prefix},
            companion=brokers.connect(f"sqlite:///{self.folder}/store.db", clock=clock),
        )
        self.made.callback(broker.close)
        backend = backends.connect("rpc://", clock=clock, beside=broker)
        self.made.callback(backend.close)
        return backend

    def queue_of(self, address):
        return f"{self.prefix}.reply.{address}"


@pytest.fixture
def rpc(rabbitmq, tmp_path):
    found = Rpc(rabbitmq.url, tmp_path)
    with found.made:
        yield found


@pytest.fixture
def raw(rabbitmq):
    """A channel of somebody else's."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


class ToItself:
    """A backend that sends itself what it stores, and says so when that has arrived."""

    def __init__(self, backend):
        self._backend = backend
        self._numbers = itertools.count()

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def store(self, results):
        last = result(f"last-{next(self._numbers)}")
        address = self._backend.listen(timeout=LONG)
        self._backend.store([each._replace(reply=address) for each in (*results, last)])
        assert list(self._backend.wait([last.task_id], timeout=LONG))


class TestRpcBackend(BackendSuite):
    @pytest.fixture(autouse=True)
    def place(self, rpc):
        self.rpc = rpc

    def make(self, clock):
        return ToItself(self.rpc.connect(clock))


class TestRpcTlsBackend(TestRpcBackend):
    @pytest.fixture(autouse=True)
    def place(self, rabbitmq_tls, tmp_path):
        self.rpc = Rpc(rabbitmq_tls.url, tmp_path)
        with self.rpc.made:
            yield


def arrive(backend, *task_ids):
    return {each.task_id: each.frame for each in backend.wait(list(task_ids), timeout=LONG)}


def test_a_result_goes_to_the_address_and_to_nobody_else(rpc):
    one, other, worker = rpc.connect(), rpc.connect(), rpc.connect()
    first, second = one.listen(timeout=LONG), other.listen(timeout=LONG)

    worker.store([result("a", b"one")._replace(reply=first)])
    worker.store([result("a", b"other")._replace(reply=second)])
    worker.store([result("b", b"both")._replace(reply=address) for address in (first, second)])

    assert arrive(one, "a", "b") == {"a": b"one", "b": b"both"}
    assert arrive(other, "a", "b") == {"a": b"other", "b": b"both"}
    assert worker.load(["a", "b"]) == {}


def test_the_address_stays_and_names_the_account(rpc):
    backend = rpc.connect()

    address = backend.listen(timeout=LONG)

    assert backend.listen(timeout=LONG) == address
    assert address.startswith("guest.")
    assert rpc.connect().listen(timeout=LONG) != address


def test_results_for_nobody_harm_nobody(rpc):
    here, worker = rpc.connect(), rpc.connect()
    address = here.listen(timeout=LONG)

    worker.store(
        [
            result("a"),
            result("b")._replace(reply="guest." + "0" * 32),
            result("c")._replace(reply="x" * 300),
            result("d", b"mine")._replace(reply=address),
        ]
    )

    assert arrive(here, "d") == {"d": b"mine"}


def test_a_task_cannot_have_its_result_put_where_tasks_are_taken(rpc, raw):
    """The address is what a sender says, so it is never the name of a queue by itself."""
    queue = f"{rpc.prefix}.0.celery"
    raw.queue_declare(queue)
    raw.confirm_delivery()

    rpc.connect().store([result("a")._replace(reply=name) for name in (queue, "0.celery")])

    assert raw.basic_get(queue) == (None, None, None)


def test_what_is_no_result_is_dropped(rpc, raw):
    here, worker = rpc.connect(), rpc.connect()
    address = here.listen(timeout=LONG)
    odd = (
        {},
        {"correlation_id": "a"},
        {"correlation_id": "a", "headers": {"final": 1}},
        {"correlation_id": "a", "headers": {"final": True, "expires": "soon"}},
        {"correlation_id": "a", "headers": {"final": True, "expires": ["9"]}},
        {"correlation_id": "a" * 129, "headers": {"final": True}},
        {"correlation_id": "", "headers": {"final": True}},
    )
    for properties in odd:
        raw.basic_publish("", rpc.queue_of(address), b"\xff", pika.BasicProperties(**properties))

    worker.store([result("b")._replace(reply=address)])

    assert set(arrive(here, "b")) == {"b"}
    assert here.load(["a", "a" * 129, ""]) == {}


def test_what_arrives_while_the_connection_is_lost_is_not(rpc, rabbitmq):
    here, worker = rpc.connect(), rpc.connect()
    address = here.listen(timeout=LONG)
    worker.store([result("warm")._replace(reply=address)])
    names = [f"t{number}" for number in range(200)]

    rabbitmq.control("close_all_connections", "a test")
    assert here.listen(timeout=LONG) == address
    worker.store([result(name)._replace(reply=address) for name in names])

    assert set(arrive(here, "warm", *names)) == {"warm", *names}


def test_the_queue_goes_with_its_process(rpc, raw):
    here = rpc.connect()
    address = here.listen(timeout=LONG)
    raw.queue_declare(rpc.queue_of(address), passive=True)

    here.close()

    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        raw.queue_declare(rpc.queue_of(address), passive=True)


def test_a_queue_that_is_left_behind_expires(rpc, raw):
    """Nobody can declare it with other properties, and those say for how long it stays."""
    address = rpc.connect().listen(timeout=LONG)

    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match=r"x-expires.*600000"):
        raw.queue_declare(rpc.queue_of(address), durable=True)


def _listen_in_child(backend, answers):
    answers.put(backend.listen(timeout=LONG))
    answers.put(dict(backend.load(["a"])))
    backend.close()


def test_a_forked_process_has_an_address_of_its_own(rpc):
    here, worker = rpc.connect(), rpc.connect()
    address = here.listen(timeout=LONG)
    worker.store([result("a")._replace(reply=address)])
    assert arrive(here, "a")
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_listen_in_child, args=(here, answers))
    child.start()

    theirs, loaded = answers.get(timeout=LONG), answers.get(timeout=LONG)
    child.join(LONG)
    worker.store([result("b")._replace(reply=address)])

    assert theirs != address
    assert loaded == {}
    assert arrive(here, "b")


def test_no_server_is_told_within_the_time_named(rpc, rabbitmq):
    dead = rabbitmq.url.replace(str(rabbitmq.port), "1")
    backend = rpc.connect(url=dead)
    clock = SystemClock()
    begun = clock.monotonic()

    with pytest.raises(OperationalError, match="rpc: no queue for results"):
        backend.listen(timeout=0.5)

    assert clock.monotonic() - begun < LONG / 2


def test_a_result_that_has_expired_on_its_way_is_not_there(rpc):
    clock = FakeClock()
    here, worker = rpc.connect(clock), rpc.connect(clock)
    address = here.listen(timeout=LONG)

    worker.store(
        [
            SealedResult("old", b"x", True, clock.now(), address),
            SealedResult("new", b"x", True, clock.now() + 9, address),
        ]
    )

    assert set(arrive(here, "new")) == {"new"}
    assert here.load(["old"]) == {}
