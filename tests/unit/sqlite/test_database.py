"""Connections, transactions, durability and what happens when the store fails."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cardoon import brokers
from cardoon.backend import SealedResult
from cardoon.backends.sqlite import SqliteBackend
from cardoon.broker import Ack, Outgoing, Requeue
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.security.replay import Nonce, NonceClaim
from cardoon.sqlite import schema
from cardoon.sqlite.database import Database, flush_to_disk
from cardoon.testing import FakeClock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cardoon.db"


@pytest.fixture
def database(path):
    database = Database(path, clock=FakeClock(), timeout=0.2)
    yield database
    database.close()


@pytest.fixture
def broker(database):
    return SqliteBroker(database)


def message(name="a", size=1):
    return Outgoing("q", name, b"x" * size)


def names(broker):
    return [each.id for each in broker.receive(["q"], limit=100, lease=30, timeout=0)]


def open_descriptors():
    return len(list(Path("/dev/fd").iterdir()))


class UnforeseenError(Exception):
    pass


class Flushes:
    """A flush that counts, and fails on request."""

    def __init__(self):
        self.files = []
        self.error = None

    def __call__(self, descriptor):
        if self.error is not None:
            raise self.error
        flush_to_disk(descriptor)
        self.files.append(os.fstat(descriptor).st_ino)

    def taken(self):
        files, self.files = self.files, []
        return files


def test_every_promise_flushes_the_log_once_and_nothing_else_does(path):
    flushes = Flushes()
    database = Database(path, clock=FakeClock(), flush=flushes)
    broker, backend = SqliteBroker(database), SqliteBackend(database)
    nonce = Nonce(b"n" * 16, 1, 9e9)

    broker.publish([message("a"), message("b")], timeout=1)
    log = (path.parent / "cardoon.db-wal").stat().st_ino
    assert flushes.taken() == [log]
    a, b = broker.receive(["q"], limit=2, lease=30, timeout=0)
    broker.extend([a], lease=30)
    broker.claim([NonceClaim(nonce, a.receipt, a.attempt)])
    broker.maintain()
    assert flushes.taken() == []
    broker.settle([Ack(a)])
    assert flushes.taken() == [log]
    broker.settle([Requeue(b)])
    assert flushes.taken() == [log]
    broker.finish([nonce])
    assert flushes.taken() == [log]
    backend.store([SealedResult("a", b"x", True, None)])
    assert flushes.taken() == [log]
    database.close()


def test_a_failing_disk_is_told_to_the_sender(path):
    flushes = Flushes()
    broker = SqliteBroker(Database(path, clock=FakeClock(), flush=flushes))
    flushes.error = OSError(errno.EIO, "input or output error")

    with pytest.raises(OperationalError, match=str(path)):
        broker.publish([message()], timeout=1)

    flushes.error = None
    broker.publish([message()], timeout=1)
    assert names(broker) == ["a"]
    broker.close()


def test_a_transaction_that_raises_leaves_nothing(database):
    def add_and_fail():
        with database.write(durable=True) as transaction:
            transaction.run("broadcasts.add", expires_at=9e9, frame=b"x")
            raise UnforeseenError

    with pytest.raises(UnforeseenError):
        add_and_fail()

    assert database.rows("broadcasts.after", number=0, now=0) == []
    with database.write(durable=True) as transaction:
        transaction.run("broadcasts.add", expires_at=9e9, frame=b"y")
    assert [frame for _, frame in database.rows("broadcasts.after", number=0, now=0)] == [b"y"]


def test_the_file_and_its_companions_are_private(path, broker):
    before = os.umask(0)
    try:
        broker.publish([message()], timeout=1)
        names(broker)
    finally:
        os.umask(before)

    modes = {
        each.name: stat.S_IMODE(each.stat().st_mode)
        for each in path.parent.iterdir()
        if each.name.startswith("cardoon.db")
    }
    assert modes == {
        "cardoon.db": 0o600,
        "cardoon.db-wal": 0o600,
        "cardoon.db-shm": 0o600,
        "cardoon.db-wake": 0o700,
    }


def test_a_symbolic_link_means_what_it_points_to(path, tmp_path):
    real = tmp_path / "real" / "cardoon.db"
    path.symlink_to(real)
    broker = brokers.connect(f"sqlite:///{path}", clock=FakeClock())

    broker.publish([message()], timeout=1)

    assert real.exists()
    assert names(broker) == ["a"]
    broker.close()


def test_a_closed_database_opens_again(broker, database):
    broker.publish([message()], timeout=1)
    database.close()

    assert names(broker) == ["a"]


def test_closing_lets_go_of_every_descriptor_and_file(path):
    broker = brokers.connect(f"sqlite:///{path}", clock=FakeClock())
    before = open_descriptors()
    backend = SqliteBackend(broker.database)

    broker.publish([message()], timeout=1)
    broker.settle([Ack(each) for each in broker.receive(["q"], limit=1, lease=1, timeout=0)])
    list(backend.wait(["a"], timeout=0))
    during = open_descriptors()
    broker.close()

    assert during > before
    assert open_descriptors() == before
    assert [each.name for each in (path.parent / "cardoon.db-wake").iterdir()] == ["writer"]


@pytest.mark.parametrize("version", [schema.VERSION + 1, 999])
def test_a_newer_file_is_refused_by_both_versions(path, database, version):
    with database.write(durable=True) as transaction:
        transaction.run("broadcasts.add", expires_at=9e9, frame=b"x")
    database.close()
    change = sqlite3.connect(path)
    change.execute(f"PRAGMA user_version = {version}")
    change.close()

    with pytest.raises(ImproperlyConfigured, match=f"version {version}.* knows {schema.VERSION}"):
        database.rows("broadcasts.after", number=0, now=0)


def test_the_database_of_another_program_is_refused_and_left_alone(path, broker):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE customer (name TEXT)")
    other.commit()
    other.close()
    before = path.read_bytes()

    with pytest.raises(ImproperlyConfigured, match="another program"):
        broker.publish([message()], timeout=1)

    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(path, broker):
    path.write_bytes(b"these are my letters " * 100)

    with pytest.raises(OperationalError, match="not a database"):
        broker.publish([message()], timeout=1)


def test_a_damaged_file_is_told_and_its_repair_is_enough(path, broker):
    broker.publish([message()], timeout=1)
    broker.close()
    good = path.read_bytes()
    path.write_bytes(good[:4096] + b"\xff" * (len(good) - 4096))

    with pytest.raises(OperationalError, match="damaged"):
        names(broker)
    broker.close()
    for companion in ("-wal", "-shm"):
        path.with_name(path.name + companion).unlink(missing_ok=True)
    path.write_bytes(good)

    assert names(broker) == ["a"]


def test_a_directory_in_place_of_the_file_is_told(path, broker):
    path.mkdir()

    with pytest.raises(OperationalError, match="cannot be opened"):
        broker.publish([message()], timeout=1)


def test_two_processes_may_create_the_file_at_once(path, start):
    writers = [start("write", path, f"{part}.", 3, 3) for part in range(4)]
    for writer in writers:
        writer.communicate(timeout=30)

    assert [writer.returncode for writer in writers] == [0] * 4


def test_too_old_a_sqlite_is_refused(monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))

    with pytest.raises(ImproperlyConfigured, match=r"needs 3\.35"):
        schema.check_sqlite()


def test_another_writer_makes_a_sender_wait_and_then_raise(path, broker):
    broker.declare(["q"])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(OperationalError, match="locked by another process"):
        broker.publish([message()], timeout=0.05)

    other.execute("ROLLBACK")
    other.close()
    broker.publish([message()], timeout=1)
    assert names(broker) == ["a"]


def test_one_process_at_a_time_passes_the_gate(path, broker):
    broker.declare(["q"])
    gate = os.open(path.parent / "cardoon.db-wake" / "writer", os.O_RDWR)
    fcntl.flock(gate, fcntl.LOCK_EX)

    with pytest.raises(OperationalError, match="locked by another process"):
        broker.publish([message()], timeout=0.05)

    os.close(gate)
    broker.publish([message()], timeout=1)
    assert names(broker) == ["a"]


def test_reading_does_not_wait_for_a_writer(path, broker, database):
    backend = SqliteBackend(database)
    broker.publish([message()], timeout=1)
    backend.store([SealedResult("a", b"x", True, None)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM message")

    depths = broker.depths()
    loaded = backend.load(["a"])

    other.close()
    assert [depth.ready for depth in depths] == [1]
    assert set(loaded) == {"a"}


def test_a_thread_that_waits_too_long_for_another_is_told(broker, database):
    broker.declare(["q"])

    with database.write(durable=False), ThreadPoolExecutor() as threads:
        waiting = threads.submit(broker.publish, [message()], timeout=0.05)

        with pytest.raises(OperationalError, match="other threads"):
            waiting.result(10)


def test_a_full_database_is_told_and_work_goes_on_afterwards(broker, database):
    broker.publish([message("before")], timeout=1)
    with database.write(durable=False) as transaction:
        connection = transaction._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 4}")

    with pytest.raises(OperationalError, match=r"disk full; free space"):
        broker.publish([message("large", 100_000)], timeout=1)

    broker.publish([message("after")], timeout=1)
    assert names(broker) == ["before", "after"]


def test_a_file_that_may_not_grow_is_told_and_work_goes_on_afterwards(broker):
    broker.publish([message("before")], timeout=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OperationalError, match="input or output error"):
            broker.publish([message("large", 300_000)], timeout=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    broker.publish([message("after")], timeout=1)
    assert names(broker) == ["before", "after"]


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a file system of its own needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "cardoon-test", place],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a file system: {mounted.stderr!r}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_told_and_work_goes_on_afterwards(small_disk):
    broker = brokers.connect(f"sqlite:///{small_disk}/x.db", clock=FakeClock())
    broker.publish([message("before")], timeout=1)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(b"x" * 2**20)

    with pytest.raises(OperationalError, match="disk full"):
        broker.publish([message("large", 100_000)], timeout=1)

    ballast.unlink()
    broker.publish([message("after")], timeout=1)
    assert names(broker) == ["before", "after"]
    broker.close()


@pytest.mark.parametrize(
    "outgoing",
    [
        Outgoing("q", "nul\0", b"x"),
        Outgoing("q", "surrogate\ud800", b"x"),
        Outgoing("q", "a", b"x", run_at=float("nan")),
    ],
)
def test_what_cannot_be_stored_is_refused_and_nothing_is_stored(broker, outgoing):
    with pytest.raises(OperationalError):
        broker.publish([message("good"), outgoing], timeout=1)

    assert names(broker) == []


def test_many_threads_use_one_database(database):
    broker, backend = SqliteBroker(database), SqliteBackend(database)
    together = threading.Barrier(6)

    def use(part):
        together.wait()
        for number in range(20):
            name = f"{part}.{number}"
            broker.publish([message(name)], timeout=20)
            backend.store([SealedResult(name, b"x", True, None)])
            assert set(backend.load([name])) == {name}

    database.timeout = 20
    with ThreadPoolExecutor(6) as threads:
        for using in [threads.submit(use, part) for part in range(6)]:
            using.result()

    assert len(names(broker)) == 100
    assert broker.depths()[0].ready == 20
