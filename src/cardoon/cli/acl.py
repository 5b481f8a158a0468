"""`cardoon acl`: what a server has to be told, so that it denies each role what it does not need."""

from __future__ import annotations

import re
from typing import Literal, get_args

import click

from cardoon.cli.access import answer, answer_option, find_app
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.endpoints import Access, parse_endpoints
from cardoon.exceptions import ImproperlyConfigured

Role = Literal["client", "worker", "beat", "monitor"]

_USER = re.compile(r"[A-Za-z_][\w.-]{0,62}", re.ASCII)
_UNCHECKED = Access(allow_plaintext=True, allow_unverified=True)
"""Nothing is sent to these servers, so the way there does not matter."""


@click.command()
@click.option(
    "--role", required=True, type=click.Choice(get_args(Role)), help="What the user is to do."
)
@click.option("--user", metavar="NAME", help="The name of the user.  [that of the role]")
@click.option("-b", "--broker", metavar="URL", help="Where the messages are, as before `acl`.")
@answer_option
@click.pass_obj
def acl(invocation: Invocation, role: Role, user: str | None, broker: str | None) -> None:
    """Print the commands that give a user of the broker's server the rights of a role.

    They set no password, and nothing is sent to the server.
    """
    if broker is not None:
        invocation.settings["broker_url"] = broker
    name = role if user is None else user
    if not _USER.fullmatch(name):
        raise ImproperlyConfigured(
            f"--user: {name!r} is not up to 63 letters, digits, '_', '.' or '-', with a letter first"
        )
    lines = _commands(find_app(invocation).settings, role=role, user=name)
    answer({"role": role, "user": name, "commands": lines}, "\n".join(lines))


def _commands(settings: Settings, *, role: Role, user: str) -> list[str]:
    """The lines for the broker's server; raises `ImproperlyConfigured` where it has no users."""
    url = Deployment(settings, clock=SystemClock()).broker_url
    match url.partition("://")[0].lower():
        case "sqlite":
            raise ImproperlyConfigured(
                "broker_url: sqlite has no users; the file's owner is the one who may"
            )
        case "memory":
            raise ImproperlyConfigured(
                "broker_url: memory has no users; nothing outside of its process reaches it"
            )
    [first, *_] = parse_endpoints(url, setting="broker_url", access=_UNCHECKED)
    match first.kind:
        case "redis" | "sentinel":
            return [_redis(url, settings, role=role, user=user)]
        case "postgresql":
            return _postgres(url, settings, role=role, user=user)
        case "amqp":
            from cardoon.rabbitmq.access import commands  # noqa: PLC0415 - load what is chosen

            prefix = settings.broker_transport_options.get("global_keyprefix", "cardoon")
            return commands(role, prefix=prefix, username=user, vhost=first.path or "/")
        case kind:
            raise AssertionError(kind)


def _redis(url: str, settings: Settings, *, role: Role, user: str) -> str:
    """One line for `redis-cli`."""
    from cardoon.brokers.redis import connect  # noqa: PLC0415 - load what is chosen
    from cardoon.redis import access, durability  # noqa: PLC0415

    transport = connect(  # which opens nothing, and judges the options
        url,
        clock=SystemClock(),
        timeout=1.0,
        access=_UNCHECKED,
        transport=settings.broker_transport_options,
    ).store.transport
    prefix = transport.get("global_keyprefix", "cardoon")
    words = access.commands(role, prefix=prefix, username=user)
    if durability.parse_durability(transport).fsync:
        words.append("+waitaof")
    return " ".join(words)


def _postgres(url: str, settings: Settings, *, role: Role, user: str) -> list[str]:
    """Statements for psql."""
    from cardoon.postgres import access, location  # noqa: PLC0415 - load what is chosen

    place = location.locate(
        url, setting="broker_url", access=_UNCHECKED, transport=settings.broker_transport_options
    )
    return [f"{one};" for one in access.commands(role, schema=place.schema, username=user)]
