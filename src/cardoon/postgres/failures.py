"""What PostgreSQL says, as an `OperationalError` that names the server and the remedy.

Never more of a connection than its host and port: what libpq was given holds a password.
"""

from __future__ import annotations

from cardoon.exceptions import ImproperlyConfigured, OperationalError

_SHARED = (
    "others use the same session, as behind a PgBouncer in transaction mode; add ?prepare=false to the "
    "URL, or use session mode"
)

_MEANINGS = {
    "22021": "the store cannot keep text with a NUL character or half a surrogate; leave it out",
    "26000": _SHARED,
    "42P05": _SHARED,
    "25006": "it is read-only, such as a standby; name the primary in the URL, or both",
    "25P03": "it ended a transaction that was idle for too long",
    "28000": "it does not let this user in; see its pg_hba.conf",
    "28P01": "it does not let this user in; check the password",
    "3D000": "the database does not exist; create it, or correct the URL",
    "40001": "transactions were in each other's way for too long; send less at once",
    "40P01": "transactions were in each other's way for too long; send less at once",
    "42501": "this role may not do that; see docs/postgresql.md for what each role is granted",
    "53100": "its disk is full; free space there and send again",
    "53200": "it is out of memory; send less at once",
    "53300": "it has too many connections; raise max_connections, or put a PgBouncer before it",
    "54000": "more than one call may carry; send less at once",
    "57014": "it did not finish within its statement_timeout; send less at once",
    "57P01": "it is shutting down",
    "57P02": "it is starting again after a crash",
    "57P03": "it is starting up or shutting down",
    "58030": "input or output error; check its disk and log",
}

_RETRIED = frozenset({"25006", "25P03", "40001", "40P01", "53300", "57P01", "57P02", "57P03"})
"""What may be different in a moment, or on the next server."""

_GONE = frozenset({"25006", "25P03", "53300", "57P01", "57P02", "57P03"})

_NO_SCHEMA = frozenset({"3F000", "42883", "42P01"})


class ConnectionLostError(Exception):
    """The connection is of no more use; whether the last call had an effect is not known."""

    is_late = False
    """Whether it was only the caller's time that was up."""


class LateError(ConnectionLostError):
    """There was no answer in time."""

    is_late = True


class ServerError(Exception):
    """The server said no; the call had no effect."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        """SQLSTATE; empty where the failure was on our side of the connection."""

    @property
    def is_passing(self) -> bool:
        """Whether trying again may help."""
        return self.code in _RETRIED or self.code.startswith("08")

    @property
    def is_of_connection(self) -> bool:
        """Whether the connection is of no more use."""
        return self.code in _GONE or self.code.startswith("08")


def explain(error: Exception, where: str) -> OperationalError | ImproperlyConfigured:
    """The same failure in our words; PostgreSQL's own stand at the end."""
    code = error.code if isinstance(error, ServerError) else ""
    if code in _NO_SCHEMA:
        return ImproperlyConfigured(
            f"postgresql {where}: it has no tables of Cardoon's; run `cardoon db upgrade` with the "
            f"same URL, as a user who may create a schema ({error})"
        )
    meaning = _MEANINGS.get(code, "it does not answer" if not code else "failed")
    shown = f"{code}: {error}" if code else f"{error}"
    return OperationalError(f"postgresql {where}: {meaning} ({' '.join(shown.split())})")
