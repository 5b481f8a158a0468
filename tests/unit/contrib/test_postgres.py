"""Sending within a transaction: with the commit, or not at all."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.orm import Session

from cardoon import Cardoon, brokers, chord
from cardoon.broker import Subscription
from cardoon.clock import SystemClock
from cardoon.contrib.postgres import send_within
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError, OperationalError
from cardoon.queues import Broadcast, Queue
from cardoon.security.authority import create_authority, ensure_identity, issue
from tests.servers.postgres import postgres
from tests.unit.hands import Hands

__all__ = ["postgres"]


@pytest.fixture
def url(postgres):
    postgres.ask("CREATE TABLE IF NOT EXISTS orders (id integer PRIMARY KEY)")
    postgres.ask("TRUNCATE orders")
    return postgres.empty()


@pytest.fixture
def app(url, tmp_path):
    state = tmp_path / ".cardoon"
    create_authority(state, "cardoon.local", clock=SystemClock())
    for role in ("client", "worker"):
        issue(state, role, clock=SystemClock())
        ensure_identity(state, role, clock=SystemClock())
    app = Cardoon(
        "shop", set_as_current=False, state_directory=str(state), broker_url=url, result_backend=url
    )

    @app.task(name="shop.add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="shop.once", unique=True)
    def once(x: int) -> int:
        return x

    yield app
    app.close()


@pytest.fixture
def queued(postgres):
    """The ids of what is stored, as everybody sees it."""
    return lambda: [
        name for (name,) in postgres.ask("SELECT id FROM cardoon.message ORDER BY number")
    ]


@pytest.fixture
def connection(url):
    with psycopg.connect(url) as made:
        yield made


@pytest.fixture
def engine(url):
    made = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    yield made
    made.dispose()


def test_a_message_is_there_with_the_commit_and_not_before(app, connection, queued):
    connection.execute("INSERT INTO orders VALUES (7)")
    with send_within(connection):
        result = app.tasks["shop.add"].delay(2, 3)
    assert queued() == []

    connection.commit()

    assert queued() == [result.id]


def test_a_message_vanishes_with_the_rollback(app, connection, queued):
    with send_within(connection):
        app.tasks["shop.add"].delay(2, 3)

    connection.rollback()

    assert queued() == []


def test_what_is_sent_is_signed_and_runs(app, connection):
    with send_within(connection):
        result = app.tasks["shop.add"].delay(2, 3)
    connection.commit()
    hands = Hands(app.settings)
    [delivery] = hands.take()

    hands.succeed(delivery, 5)

    assert result.get(timeout=20) == 5


def test_copies_for_each_subscriber_are_there_with_the_commit(app, url, connection, queued):
    app.conf.task_queues = [Queue("celery"), Broadcast("caches")]
    subscriptions = [Subscription("caches", f"caches>{name}") for name in "ab"]
    worker = brokers.connect(url, clock=SystemClock())
    worker.subscribe(subscriptions, seconds=60)
    worker.close()
    with send_within(connection):
        result = app.tasks["shop.add"].apply_async((2, 3), queue="caches")
    assert queued() == []

    connection.commit()

    assert sorted(queued()) == [f"{result.id}>caches>{name}" for name in "ab"]


def test_many_calls_and_canvases_are_one_batch(app, connection, queued):
    add = app.tasks["shop.add"]
    with send_within(connection):
        add.send_many([(n, n) for n in range(50)])
        chord([add.s(1, 1), add.s(2, 2)], add.s(3))()
    assert queued() == []

    connection.commit()

    assert len(queued()) == 53


def test_a_unique_task_is_decided_in_the_transaction(app, connection, queued):
    once = app.tasks["shop.once"]
    with send_within(connection):
        first, second = once.delay(1), once.delay(1)
    connection.commit()

    assert second.id == first.id
    assert queued() == [first.id]


def test_savepoints_take_back_what_was_sent_in_them(app, connection, queued):
    add = app.tasks["shop.add"]
    with connection.transaction(), send_within(connection):
        kept = add.delay(1, 1)
        with connection.transaction() as inner:
            add.delay(2, 2)
            raise psycopg.Rollback(inner)

    connection.commit()
    assert queued() == [kept.id]


def test_rows_may_come_as_the_connection_likes_them(app, connection, queued):
    connection.row_factory = dict_row
    with send_within(connection):
        app.tasks["shop.once"].delay(1)
    connection.commit()

    assert len(queued()) == 1


def test_connections_of_sqlalchemy(app, engine, queued):
    add = app.tasks["shop.add"]
    with engine.begin() as connection, send_within(connection):
        connection.execute(sqlalchemy.text("INSERT INTO orders VALUES (1)"))
        sent = add.delay(1, 1)
        assert queued() == []
    assert queued() == [sent.id]

    with engine.connect() as connection:
        connection.begin()
        with send_within(connection):
            add.delay(2, 2)
        connection.rollback()
    assert queued() == [sent.id]


def test_sessions_of_sqlalchemy(app, engine, queued):
    with Session(engine) as session, send_within(session):
        sent = app.tasks["shop.add"].delay(1, 1)
        assert queued() == []
        session.commit()

    assert queued() == [sent.id]


def test_outside_of_a_transaction_nothing_is_sent(app, engine, url, queued):
    add = app.tasks["shop.add"]
    with (
        engine.connect() as connection,
        send_within(connection),
        pytest.raises(InvalidTaskError, match="in no transaction"),
    ):
        add.delay(1, 1)
    with psycopg.connect(url, autocommit=True) as connection, send_within(connection):
        with pytest.raises(InvalidTaskError, match="in no transaction"):
            add.delay(1, 1)
        with connection.transaction():
            sent = add.delay(2, 2)

    assert queued() == [sent.id]


def test_what_is_no_connection_is_refused(app):
    with send_within(object()), pytest.raises(ImproperlyConfigured, match="no connection"):
        app.tasks["shop.add"].delay(1, 1)


def test_a_failed_transaction_takes_nothing(app, connection, queued):
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT 1 / 0")
    with send_within(connection), pytest.raises(OperationalError, match="25P02"):
        app.tasks["shop.add"].delay(1, 1)
    connection.rollback()

    assert queued() == []


def test_an_app_with_another_broker_is_told(connection, tmp_path):
    app = Cardoon("other", set_as_current=False, state_directory=str(tmp_path))
    with send_within(connection), pytest.raises(ImproperlyConfigured, match="not in PostgreSQL"):
        app.send_task("other.add", (1, 1))
    app.close()


def test_behind_the_block_sends_go_the_usual_way(app, connection, queued):
    with send_within(connection):
        pass

    sent = app.tasks["shop.add"].delay(1, 1)

    assert queued() == [sent.id]
