"""Tables and functions: made, migrated, and refused where they do not fit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cardoon.broker import Outgoing
from cardoon.endpoints import Access
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.postgres import schema
from cardoon.postgres.location import locate
from cardoon.postgres.schema_version import VERSION


def place(url, name="other"):
    return locate(f"{url}?schema={name}", setting="broker_url")


@pytest.fixture
def empty(postgres):
    """A server without the schema `other`."""
    postgres.ask("DROP SCHEMA IF EXISTS other CASCADE")
    yield postgres
    postgres.ask("DROP SCHEMA IF EXISTS other CASCADE")


def test_without_tables_the_command_that_makes_them_is_named(connect, empty):
    with pytest.raises(ImproperlyConfigured, match="cardoon db upgrade"):
        connect(f"{empty.url}?schema=other").depths()

    assert empty.ask("SELECT 1 FROM pg_namespace WHERE nspname = 'other'") == []


def test_an_upgrade_makes_all_that_is_needed_and_again_changes_nothing(connect, empty):
    for _ in range(2):
        status = schema.upgrade(place(empty.url))
        assert (status.version, status.is_current) == (VERSION, True)
        broker = connect(f"{empty.url}?schema=other")
        broker.publish([Outgoing("q", "a", b"x")], timeout=10)

    assert len(broker.receive(["q"], limit=9, lease=30, timeout=0)) == 1


def test_schemas_know_nothing_of_each_other(connect, empty):
    schema.upgrade(place(empty.url))
    connect(f"{empty.url}?schema=other").publish([Outgoing("q", "a", b"x")], timeout=10)

    assert connect(empty.empty()).receive(["q"], limit=9, lease=30, timeout=0) == []


def test_upgrades_at_the_same_time_take_turns(empty):
    with ThreadPoolExecutor(3) as threads:
        done = [threads.submit(schema.upgrade, place(empty.url)) for _ in range(3)]

        assert [each.result(30).version for each in done] == [VERSION] * 3


def test_the_printed_script_does_what_the_command_does(connect, empty):
    with psycopg.connect(empty.url, autocommit=True) as connection:
        connection.execute(schema.script("other"))

    connect(f"{empty.url}?schema=other").publish([Outgoing("q", "a", b"x")], timeout=10)
    assert schema.read_status(place(empty.url)).is_current


@pytest.mark.parametrize(
    ("version", "remedy"), [(VERSION + 1, "upgrade Cardoon"), (0, "cardoon db upgrade")]
)
def test_another_version_is_refused_with_what_to_do(connect, empty, version, remedy):
    schema.upgrade(place(empty.url))
    empty.ask(f"UPDATE other.schema_version SET value = {version}")

    with pytest.raises(ImproperlyConfigured, match=remedy):
        connect(f"{empty.url}?schema=other").depths()


def test_tables_of_version_1_learn_to_adopt(connect, empty):
    schema.upgrade(place(empty.url))
    url = f"{empty.url}?schema=other"
    broker = connect(url)
    broker.publish([Outgoing("q", "before", b"x")], timeout=10)
    empty.ask("DROP ROUTINE other.adopt")
    empty.ask("UPDATE other.schema_version SET value = 1")
    with pytest.raises(ImproperlyConfigured, match="cardoon db upgrade"):
        connect(url).depths()

    schema.upgrade(place(empty.url))

    wanted = [Outgoing("q", name, b"x") for name in ("before", "new")]
    lent = connect(url).adopt(wanted, lease=30, durable=True)
    assert [each and each.id for each in lent] == [None, "new"]


def test_a_newer_schema_is_not_touched(empty):
    schema.upgrade(place(empty.url))
    empty.ask(f"UPDATE other.schema_version SET value = {VERSION + 1}")

    with pytest.raises(ImproperlyConfigured, match=f"version {VERSION + 1}"):
        schema.upgrade(place(empty.url))


def test_a_schema_of_another_program_is_not_touched(empty):
    empty.ask("CREATE SCHEMA other")
    empty.ask("CREATE TABLE other.orders (x integer)")

    with pytest.raises(ImproperlyConfigured, match="belongs to another program"):
        schema.upgrade(place(empty.url))


def test_a_user_who_may_not_make_a_schema_is_told_so(empty):
    empty.ask("DROP ROLE IF EXISTS nobody_much")
    empty.ask("CREATE ROLE nobody_much LOGIN PASSWORD 'x'")

    with pytest.raises(OperationalError, match="42501"):
        schema.upgrade(place(empty.server.url_of("nobody_much", "x")))


@pytest.mark.parametrize("name", ["public", "pg_catalog", "a b", 'x"; DROP', "", "x" * 41])
def test_a_name_that_is_none_of_ours_is_refused(name):
    with pytest.raises(ImproperlyConfigured, match="schema"):
        locate("postgresql://localhost/x", setting="broker_url", transport={"schema": name})


def test_an_unknown_option_is_refused():
    with pytest.raises(ImproperlyConfigured, match="unknown option 'shcema'"):
        locate("postgresql://localhost/x?shcema=a", setting="broker_url")


def test_what_is_said_of_tls_reaches_libpq():
    url = "postgresql://me:secret@db.example/x?sslmode=verify-full&sslrootcert=/ca&sslcert=/c&sslkey=/k"

    found = locate(url, setting="broker_url")

    [told] = found.settings
    assert (told["sslmode"], told["sslrootcert"], told["sslcert"], told["sslkey"]) == (
        *("verify-full", "/ca", "/c", "/k"),
    )
    assert "secret" not in repr(found)
    assert "secret" not in str(found)


def test_plain_text_to_another_host_is_refused_unless_it_is_allowed():
    with pytest.raises(ImproperlyConfigured, match="plain text"):
        locate("postgresql://db.example/x", setting="broker_url")

    access = Access(allow_plaintext=True)
    [told] = locate("postgresql://db.example/x", setting="broker_url", access=access).settings
    assert told["sslmode"] == "prefer"


def test_a_unix_socket_is_used(connect, postgres):
    postgres.empty()
    login = postgres.url.partition("@")[0]
    folder = str(postgres.server.folder)

    broker = connect(f"{login}@localhost:{postgres.server.port}/postgres?host={folder}")

    broker.publish([Outgoing("q", "a", b"x")], timeout=10)
    [(address,)] = postgres.ask(
        "SELECT DISTINCT client_addr FROM pg_stat_activity WHERE application_name = 'cardoon'"
        " AND client_addr IS NULL"
    )
    assert address is None
