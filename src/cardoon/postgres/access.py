"""Which role may call what, as the statements that grant it.

No role has rights on a table: each is granted functions, which run with the rights of the schema's owner.
What a role is not granted the server refuses, whatever the program at the other end says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from cardoon.exceptions import ImproperlyConfigured
from cardoon.postgres.functions import FUNCTIONS
from cardoon.postgres.location import SCHEMA, check_schema, quoted

Role = Literal["client", "worker", "beat", "monitor"]

_READ = frozenset({"schema_version", "load_results", "horizon", "results_since", "find_places"})
_SEND = frozenset({"declare_queues", "unique_holders", "publish"})
_POSTS = frozenset({"posted", "newest_post"})
_TRACE = frozenset({"trace", "trace_missing", "trace_kept", "nonces_done"})
_LOOK = _TRACE | {
    *("depths", "limits", "kept", "heard", "resting_queues", "quarantined", "replay_memory")
}

RIGHTS: Mapping[Role, frozenset[str]] = {
    # A refused result is quarantined and forgotten by who refused it; a group is stored by who made it.
    # To look since when marks reach back begins that, with the server's time, and can do no more.
    "client": _READ
    | _SEND
    | _POSTS
    | {"store_results", "forget_results", "broadcast", "quarantine", "replay_memory"}
    | {"post_event", "records"},
    "worker": frozenset(name for name, function in FUNCTIONS.items() if function.home is None),
    "beat": frozenset({"schema_version", "post_event", "records", "put_record", "drop_record"})
    | _SEND,
    "monitor": _READ | _LOOK | _POSTS | {"records"},
}
"""The functions that each role may call."""


def commands(role: Role, *, schema: str = SCHEMA, username: str) -> list[str]:
    """The statements that make a user of a role, for the owner of the schema to run.

    Run again, the grants change nothing. They set no password: use psql's password command, or certificates.
    Raises `ImproperlyConfigured` for a name that is none.
    """
    if role not in RIGHTS:
        raise ImproperlyConfigured(f"role: unknown {role!r}; use {', '.join(RIGHTS)}")
    if not username or "\0" in username or len(username.encode()) > 63:
        raise ImproperlyConfigured(
            f"username: {username!r} is not a name; PostgreSQL takes 1 to 63 bytes"
        )
    place = quoted(check_schema(schema, setting="schema"))
    user = quoted(username)
    return [
        f"CREATE ROLE {user} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT",
        f"GRANT USAGE ON SCHEMA {place} TO {user}",
        *_grants(RIGHTS[role], place, user),
    ]


def _grants(functions: frozenset[str], place: str, user: str) -> Sequence[str]:
    return [
        f"GRANT EXECUTE ON FUNCTION {place}.{quoted(name)} TO {user}" for name in sorted(functions)
    ]
