"""`cardoon acl`."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cardoon.postgres import access as postgres_access
from cardoon.rabbitmq import access as rabbitmq_access
from cardoon.redis import access

ROLES = ("client", "worker", "beat", "monitor")
FAR = "redis://someone:secret@redis.example:6379/0"
"""A server that is not there, and to which no way is encrypted."""


@pytest.fixture
def unconnected(monkeypatch):
    """No connection may be made."""

    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.usefixtures("unconnected")
def test_the_command_for_redis_is_printed(project, role):
    told = project.answer("-b", FAR, "acl", "--role", role)

    assert told.split() == access.commands(role, username=role)
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "url",
    [
        "rediss://redis.example/0",
        "valkey://redis.example",
        "redis+socket:///run/redis.sock",
        "sentinel://one.example/0;sentinel://two.example/0",
    ],
)
def test_it_is_the_same_for_every_way_to_a_server(project, url):
    if url.startswith("sentinel"):
        url = url.replace("/0", "/0?master_name=shop")

    told = project.answer("acl", "--role", "beat", "--user", "b.eat", "-b", url)

    assert told.split() == access.commands("beat", username="b.eat")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.usefixtures("unconnected")
def test_the_statements_for_postgresql_are_printed(project, role):
    url = "postgresql://owner:secret@pg.example/shop?schema=tasks"

    told = project.answer("acl", "--role", role, "--user", "shop", "-b", url)

    wanted = postgres_access.commands(role, schema="tasks", username="shop")
    assert told == "".join(f"{statement};\n" for statement in wanted)


@pytest.mark.parametrize(("path", "vhost"), [("", "/"), ("/shop", "shop")])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.usefixtures("unconnected")
def test_the_commands_for_rabbitmq_are_printed(project, role, path, vhost):
    told = project.answer("acl", "--role", role, "-b", f"amqps://me:secret@rabbit.example{path}")

    assert told.splitlines() == rabbitmq_access.commands(role, username=role, vhost=vhost)


def test_the_options_of_the_app_count(project):
    (Path.cwd() / "shop.py").write_text(
        "from cardoon import Cardoon\n"
        f"app = Cardoon('shop', broker_url={FAR!r}, set_as_current=False)\n"
        "app.conf.broker_transport_options = {'global_keyprefix': 'shop', 'durability': 'fsync'}\n"
    )

    words = project.answer("-A", "shop", "acl", "--role", "worker").split()

    assert words == [*access.commands("worker", prefix="shop", username="worker"), "+waitaof"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (None, "sqlite has no users; the file's owner is the one who may"),
        ("sqlite:///here.db", "sqlite has no users"),
        ("memory://", "memory has no users"),
        ("redi://secret@redis.example", "every server needs a whole URL"),
    ],
)
def test_where_there_are_no_rules_it_says_why_and_no_secret(project, url, told):
    error = project.error(*(["-b", url] if url else []), "acl", "--role", "client")

    assert told in error
    assert "secret" not in error


@pytest.mark.parametrize("name", ["", "two words", "x\nACL", "1st", "x" * 64, "~*"])
def test_a_name_that_could_be_more_than_a_name_is_refused(project, name):
    error = project.error("-b", FAR, "acl", "--role", "client", "--user", name)

    assert error.startswith(f"--user: {name!r} is not up to 63 letters")


def test_a_role_must_be_one_of_the_four(project):
    assert "--role" in project.usage("acl")
    assert "'admin' is not one of" in project.usage("acl", "--role", "admin")
