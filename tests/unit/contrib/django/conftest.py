"""A Django project for these tests: settings, a table of its own, and real databases."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import django
import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connections, models

POSTGRES_HOST = os.environ.get("CARDOON_TEST_POSTGRES", "127.0.0.1")
"""Where a PostgreSQL is that lets its superuser in without a password; empty for none."""
_FOLDER = tempfile.mkdtemp(prefix="cardoon-django-")

settings.configure(
    SECRET_KEY="of the tests",
    INSTALLED_APPS=["cardoon.contrib.django"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(Path(_FOLDER) / "default.db"),
        },
        "postgres": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": POSTGRES_HOST,
            "USER": "postgres",
            "NAME": f"cardoon_django_{os.getpid()}",
        },
    },
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    ALLOWED_HOSTS=["testserver"],
    TASKS={
        "default": {
            "BACKEND": "cardoon.contrib.django.tasks.CardoonBackend",
            "QUEUES": ["default", "mail"],
        }
    },
)
django.setup()


class Order(models.Model):
    """What the project keeps."""

    item = models.CharField(max_length=100)

    class Meta:
        app_label = "shop"

    def __str__(self):
        return self.item


def _why_no_postgres() -> str:
    """Why PostgreSQL cannot be tested on; empty if it can."""
    if not POSTGRES_HOST:
        return "CARDOON_TEST_POSTGRES is empty"
    try:
        import psycopg  # noqa: PLC0415
    except ModuleNotFoundError:
        return "psycopg is not installed"
    try:
        psycopg.connect(host=POSTGRES_HOST, user="postgres", connect_timeout=2).close()
    except psycopg.Error as error:
        return f"PostgreSQL does not answer at {POSTGRES_HOST}: {error}"
    return ""


@pytest.fixture(scope="session")
def sqlite() -> Iterator[str]:
    yield from _prepared("default")
    Path(connections["default"].settings_dict["NAME"]).unlink()
    Path(_FOLDER).rmdir()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    reason = _why_no_postgres()
    if reason:
        pytest.skip(f"NOT TESTED ON POSTGRESQL: {reason}")
    connection = connections["postgres"]
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {connection.settings_dict['NAME']}")
    yield from _prepared("postgres")
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE {connection.settings_dict['NAME']} WITH (FORCE)")


def _prepared(alias: str) -> Iterator[str]:
    call_command("migrate", database=alias, verbosity=0)
    with connections[alias].schema_editor() as editor:
        editor.create_model(Order)
    yield alias
    connections[alias].close()


@pytest.fixture
def database(sqlite: str) -> Iterator[str]:
    """The default database, empty: SQLite."""
    yield from _emptied(sqlite)


@pytest.fixture(params=["sqlite", "postgres"])
def alias(request: Any) -> Iterator[str]:
    """Each kind of database, empty."""
    yield from _emptied(request.getfixturevalue(request.param))


def _emptied(alias: str) -> Iterator[str]:
    yield alias
    connection = connections[alias]
    assert not connection.in_atomic_block
    for model in (Order, apps.get_model("cardoon", "OutboxMessage")):
        model.objects.using(alias).all().delete()
    connection.close()


class RollbackError(Exception):
    """Ends a transaction."""


@pytest.fixture
def rolled_back() -> Any:
    """Begins a transaction as it is told to, and rolls it back."""

    @contextmanager
    def block(begin: Any, alias: str = "default") -> Iterator[None]:
        with suppress(RollbackError), begin(alias):
            yield
            raise RollbackError

    return block


@pytest.fixture
def order() -> type[Order]:
    """The project's table."""
    return Order
