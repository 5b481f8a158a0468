"""Make the tables and functions, or bring them up to date. Nothing else of ours says CREATE."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from cardoon.exceptions import ImproperlyConfigured
from cardoon.postgres.failures import ConnectionLostError, ServerError, explain
from cardoon.postgres.location import Location, check_schema, quoted
from cardoon.postgres.schema_version import VERSION

try:
    import psycopg
    from psycopg.conninfo import make_conninfo
except ImportError as error:
    raise ImproperlyConfigured(
        "broker_url: postgresql needs psycopg; pip install 'cardoon[postgres]'"
    ) from error

_FUNCTIONS = (
    *("basics", "limits", "dormant", "publish", "subscribers", "results", "replay"),
    *(
        "complete",
        "pausing",
        "posting",
        "records",
        "claim",
        "adopt",
        "upkeep",
        "kept",
        "tracing",
        "rights",
    ),
)
"""In this order, and `rights` last."""

_TIMEOUT_SECONDS = 600
"""How long one statement of an upgrade may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a database stands."""

    schema: str
    version: int
    """0 where there are no tables of ours."""
    server: str
    """The server's version, as it says it."""

    @property
    def is_current(self) -> bool:
        """Whether this Cardoon can work with it."""
        return self.version == VERSION


def script(schema: str, *, version: int = 0) -> str:
    """The SQL that brings a schema from a version (0 for none) to this Cardoon's, in one transaction."""
    name = quoted(check_schema(schema, setting="schema"))
    parts = ["BEGIN;"]
    if version == 0:
        parts.append(f"CREATE SCHEMA IF NOT EXISTS {name};")
    parts += [_body(name, version), "COMMIT;"]
    return "\n\n".join(parts) + "\n"


def read_status(location: Location) -> Status:
    """Look how a database stands; raises `OperationalError`."""
    with _connected(location) as connection:
        version = _read_version(connection, location.schema)
        server = str(connection.execute("SHOW server_version").fetchone()[0])
    return Status(schema=location.schema, version=version, server=server)


def upgrade(location: Location) -> Status:
    """Make or migrate the tables, and renew the functions, in one transaction; safe twice.

    Raises `OperationalError`, and `ImproperlyConfigured` for a newer schema and for one that holds
    something else.
    """
    name = quoted(location.schema)
    with _connected(location) as connection:
        # Who comes second waits here, and finds it done.
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('cardoon db upgrade', 0))"
        )
        version = _read_version(connection, location.schema)
        if version > VERSION:
            raise ImproperlyConfigured(
                f"postgresql {location}: its tables have version {version}, and this Cardoon knows "
                f"{VERSION}; upgrade Cardoon"
            )
        if version == 0:
            _make_schema(connection, location)
        connection.execute(_body(name, version).encode())
        server = str(connection.execute("SHOW server_version").fetchone()[0])
    return Status(schema=location.schema, version=VERSION, server=server)


def _body(name: str, version: int) -> str:
    parts = [
        f"SET LOCAL search_path = {name}, pg_temp;",
        "SET LOCAL client_min_messages = warning;",
    ]
    parts += [_read(f"schema_{step}") for step in range(version + 1, VERSION + 1)]
    parts += [_read(area) for area in _FUNCTIONS]
    noted = f"INSERT INTO schema_version VALUES ({VERSION});"  # noqa: S608 - a number of ours
    parts += ["DELETE FROM schema_version;", noted]
    return "\n\n".join(parts)


def _make_schema(connection: Any, location: Location) -> None:
    """Use an empty schema that is there, or make one."""
    found = connection.execute(
        "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = pg_namespace.oid)"
        " + (SELECT count(*) FROM pg_proc WHERE pronamespace = pg_namespace.oid)"
        " FROM pg_namespace WHERE nspname = %s",
        (location.schema,),
    ).fetchone()
    if found is None:
        connection.execute(f"CREATE SCHEMA {quoted(location.schema)}".encode())
    elif found[0]:
        raise ImproperlyConfigured(
            f"postgresql {location}: schema {location.schema} belongs to another program; name one of "
            "Cardoon's own by schema=... in the URL"
        )


def _read_version(connection: Any, schema: str) -> int:
    row = connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", (f"{quoted(schema)}.schema_version",)
    ).fetchone()
    if not row[0]:
        return 0
    row = connection.execute(
        f"SELECT value FROM {quoted(schema)}.schema_version".encode()  # noqa: S608 - it is quoted
    ).fetchone()
    return int(row[0]) if row is not None else 0


def _read(name: str) -> str:
    folder = resources.files("cardoon.postgres").joinpath("sql")
    return folder.joinpath(f"{name}.sql").read_text("utf-8")


@contextlib.contextmanager
def _connected(location: Location) -> Iterator[Any]:
    """A transaction on the first server that lets us in."""
    try:
        with _open(location) as connection:
            connection.execute(f"SET LOCAL statement_timeout = '{_TIMEOUT_SECONDS}s'".encode())
            yield connection
    except psycopg.Error as error:
        code = error.sqlstate or ""
        said = str(error.diag.message_primary or error)
        failure = ServerError(code, said) if code else ConnectionLostError(said)
        raise explain(failure, str(location)) from error


def _open(location: Location) -> Any:
    for settings in location.settings[:-1]:
        with contextlib.suppress(psycopg.OperationalError):
            return psycopg.connect(_conninfo(settings))
    return psycopg.connect(_conninfo(location.settings[-1]))


def _conninfo(settings: Mapping[str, str]) -> str:
    return make_conninfo("", **{"connect_timeout": "10", **settings})
