"""Checks of our own account at each server: it should be able to do its work, and no more."""

from __future__ import annotations

from collections.abc import Iterator

from cardoon.doctor.brokers import asked, known
from cardoon.doctor.check import Severity, check
from cardoon.doctor.scene import NotApplicableError, Scene, UncheckedError
from cardoon.doctor.server_facts import ServerFacts

_ACL = "`cardoon acl --role worker` prints the commands that give a user no more than it needs"
_TAGS = {"administrator", "monitoring", "policymaker", "management", "impersonator"}


def _logged_in(scene: Scene, *kinds: str) -> list[ServerFacts]:
    found = asked(scene, *kinds)
    let_in = [one for one in found if not one.login_error]
    if not let_in:
        raise UncheckedError("; ".join(f"{one.place}: {one.login_error}" for one in found))
    return let_in


@check(
    "RED-01",
    Severity.HIGH,
    "Redis: a user of one's own",
    looks_at="the user in the URL",
    remedy=_ACL,
)
def redis_user(scene: Scene) -> Iterator[str]:
    """The default user is everybody's, and may do all."""
    for one in scene.endpoints("broker_url", "result_backend"):
        if one.kind in {"redis", "sentinel"} and one.username in {"", "default"}:
            yield f"{one}: the default user is used"


@check(
    "RED-02",
    Severity.HIGH,
    "Redis: commands of administration",
    looks_at="whether our user may CONFIG GET, MODULE LIST, ACL USERS, SLOWLOG LEN, LATENCY LATEST",
    remedy=_ACL,
)
def redis_commands(scene: Scene) -> Iterator[str]:
    """With them, who has the password has the server, and often the machine."""
    for one in _logged_in(scene, "redis"):
        if one.may:
            yield f"{one.place}: {one.user or 'our user'} may {', '.join(one.may)}"


@check(
    "RED-03",
    Severity.HIGH,
    "Redis: keys of others",
    looks_at="whether our user may read a key that does not begin with global_keyprefix",
    remedy=_ACL,
)
def redis_keys(scene: Scene) -> Iterator[str]:
    """What else the server holds is read and changed by who breaks in here."""
    for one in _logged_in(scene, "redis"):
        if one.reaches:
            yield f"{one.place}: {one.user or 'our user'} reaches {', '.join(one.reaches)}"


@check(
    "RED-04",
    Severity.MEDIUM,
    "Redis: eviction",
    looks_at="maxmemory_policy of INFO",
    remedy="maxmemory-policy noeviction in redis.conf",
)
def redis_eviction(scene: Scene) -> Iterator[str]:
    """A full server deletes marks of what has run, and messages."""
    for one in _logged_in(scene, "redis"):
        if not one.eviction:
            raise UncheckedError(f"{one.place} does not tell its maxmemory_policy")
        if one.eviction != "noeviction":
            yield f"{one.place}: maxmemory-policy is {one.eviction}"


@check(
    "RED-05",
    Severity.MEDIUM,
    "Redis: what is left after a crash",
    looks_at="aof_enabled of INFO",
    remedy="appendonly yes and appendfsync everysec in redis.conf",
)
def redis_persistence(scene: Scene) -> Iterator[str]:
    """Without the marks of what has run, old messages can run again."""
    for one in known([(one, _negated(one.persistent)) for one in _logged_in(scene, "redis")]):
        yield f"{one.place} writes no append-only file"


def _negated(answer: bool | None) -> bool | None:  # noqa: FBT001  # it is the matter itself
    return None if answer is None else not answer


@check(
    "RMQ-01",
    Severity.HIGH,
    "RabbitMQ: tags of the user",
    looks_at="/api/whoami of the management, where it listens",
    remedy="rabbitmqctl set_user_tags USER",
)
def rabbit_tags(scene: Scene) -> Iterator[str]:
    """A tag opens the management, with all queues of all applications."""
    found = [one for one in _logged_in(scene, "amqp") if one.manageable]
    if not found:
        raise NotApplicableError(
            "the management does not answer this host; look at the broker's own"
        )
    for one in found:
        if one.attributes is None:
            raise UncheckedError(
                f"{one.place}: its management does not tell the tags of {one.user}"
            )
        if tags := sorted(_TAGS & set(one.attributes)):
            yield f"{one.place}: {one.user} has the tags {', '.join(tags)}"


@check(
    "RMQ-02",
    Severity.HIGH,
    "RabbitMQ: names of others",
    looks_at="whether our user may declare a queue that does not begin with global_keyprefix",
    remedy=_ACL,
)
def rabbit_permissions(scene: Scene) -> Iterator[str]:
    """Permissions of `.*` reach everything in the virtual host."""
    for one in _logged_in(scene, "amqp"):
        if one.reaches:
            yield f"{one.place}: {one.user} may declare {', '.join(one.reaches)}"


@check(
    "RMQ-03",
    Severity.MEDIUM,
    "RabbitMQ: a virtual host of one's own",
    looks_at="the path of broker_url",
    remedy="rabbitmqctl add_vhost cardoon; amqps://USER@HOST/cardoon",
)
def rabbit_vhost(scene: Scene) -> Iterator[str]:
    """In the usual one are those of all who did not think of it."""
    for one in scene.endpoints("broker_url"):
        if one.kind == "amqp" and one.path in {"", "/"}:
            yield f"{one}: the virtual host / is used"


@check(
    "PG-01",
    Severity.CRITICAL,
    "PostgreSQL: attributes of the role",
    looks_at="pg_roles: superuser, createrole, createdb, bypassrls, replication",
    remedy=_ACL,
)
def postgres_role(scene: Scene) -> Iterator[str]:
    """A superuser runs programs on the server."""
    for one in _logged_in(scene, "postgresql"):
        if one.attributes:
            yield f"{one.place}: {one.user} is {', '.join(one.attributes)}"


@check(
    "PG-02",
    Severity.HIGH,
    "PostgreSQL: encryption of the session",
    looks_at="pg_stat_ssl of our session",
    remedy="hostssl in pg_hba.conf; sslmode=verify-full",
)
def postgres_session(scene: Scene) -> Iterator[str]:
    """What the server says counts, whatever the settings say."""
    found = [one for one in _logged_in(scene, "postgresql") if not one.is_local]
    for one in known([(one, _negated(one.session_tls)) for one in found]):
        yield f"{one.place}: our session is not encrypted"


@check(
    "PG-03",
    Severity.HIGH,
    "PostgreSQL: how passwords are asked for",
    looks_at="the server's first answer, password_encryption",
    remedy="scram-sha-256 in pg_hba.conf; password_encryption = scram-sha-256; set the password anew",
)
def postgres_passwords(scene: Scene) -> Iterator[str]:
    """With md5 what the server has stored is enough to log in."""
    for one in asked(scene, "postgresql"):
        if one.method in {"md5", "password", "trust"}:
            yield f"{one.place} asks by {one.method}"
        if one.password_encryption == "md5":  # noqa: S105  # no password
            yield f"{one.place}: password_encryption is md5"


@check(
    "PG-04",
    Severity.MEDIUM,
    "PostgreSQL: what may be made in public",
    looks_at="the privilege CREATE on the schema public",
    remedy="REVOKE CREATE ON SCHEMA public FROM PUBLIC",
)
def postgres_public(scene: Scene) -> Iterator[str]:
    """A function made there may be run by others, in place of the one they meant."""
    found = [(one, one.creates_in_public) for one in _logged_in(scene, "postgresql")]
    for one in known(found):
        yield f"{one.place}: {one.user} may create in public"


CHECKS = (
    redis_user,
    redis_commands,
    redis_keys,
    redis_eviction,
    redis_persistence,
    rabbit_tags,
    rabbit_permissions,
    rabbit_vhost,
    postgres_role,
    postgres_session,
    postgres_passwords,
    postgres_public,
)
