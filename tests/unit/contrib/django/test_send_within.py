"""`send_within` on a connection of Django's."""

from __future__ import annotations

import pytest
from django.db import connections, transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg.conninfo import conninfo_to_dict

from cardoon import Cardoon
from cardoon.contrib.postgres import send_within
from cardoon.exceptions import InvalidTaskError
from tests.servers.postgres import postgres

__all__ = ["postgres"]


@pytest.fixture
def connection(postgres):
    """Django's, to the database of the broker."""
    told = conninfo_to_dict(postgres.empty())
    given = connections.configure_settings(
        {
            "default": {},
            "shop": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": told["dbname"],
                "USER": told["user"],
                "PASSWORD": told["password"],
                "HOST": told["host"],
                "PORT": told["port"],
            },
        }
    )
    connections["shop"] = DatabaseWrapper(given["shop"], alias="shop")
    yield connections["shop"]
    connections["shop"].close()
    del connections["shop"]


@pytest.fixture
def app(postgres, tmp_path):
    app = Cardoon(
        "shop",
        set_as_current=False,
        state_directory=str(tmp_path),
        broker_url=postgres.url,
        task_serializer="json",
        accept_content=["json"],
    )
    yield app
    app.close()


def test_messages_go_with_the_block(app, connection, postgres):
    def queued():
        return [name for (name,) in postgres.ask("SELECT id FROM cardoon.message")]

    with transaction.atomic("shop"), send_within(connection):
        sent = app.send_task("shop.add", (1, 1))
        assert queued() == []
    assert queued() == [sent.id]

    with transaction.atomic("shop"), send_within(connection):
        app.send_task("shop.add", (2, 2))
        transaction.set_rollback(True, using="shop")
    assert queued() == [sent.id]


def test_outside_of_a_block_nothing_is_sent(app, connection):
    with send_within(connection), pytest.raises(InvalidTaskError, match="in no transaction"):
        app.send_task("shop.add", (1, 1))
