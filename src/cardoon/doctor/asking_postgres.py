"""What a PostgreSQL server answers to a stranger, and to our own role."""

from __future__ import annotations

import contextlib
import ssl
import struct
from typing import Any

from cardoon.doctor.lines import (
    agrees_to_old_tls,
    answer,
    at_once,
    connected,
    encrypted,
    stranger,
)
from cardoon.endpoints import Endpoint

_SSL_REQUEST = struct.pack(">II", 8, 80_877_103)
_VERSION = 196_608
"""3.0 of the protocol."""
_METHODS = {0: "trust", 3: "password", 5: "md5", 10: "scram-sha-256"}
_ATTRIBUTES = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")
_ROLE = f"SELECT rolname, {', '.join(_ATTRIBUTES)} FROM pg_roles WHERE rolname = current_user"  # noqa: S608  # ours
_SESSION = (
    "SELECT COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), "
    "has_schema_privilege('public', 'CREATE'), current_setting('password_encryption'), "
    "current_setting('server_version')"
)
_PATIENCE = {"connect_timeout": "2", "options": "-c statement_timeout=1000"}


def ask_as_stranger(endpoint: Endpoint) -> dict[str, Any]:
    """Whether it talks without TLS, and how it asks for a password; raises `OSError`."""
    plain, shown, old = at_once(
        lambda: _start_plainly(endpoint),
        lambda: {} if endpoint.socket else _ask_encrypted(endpoint),
        lambda: None if endpoint.socket else agrees_to_old_tls(endpoint, before=_SSL_REQUEST),
    )
    found = {**plain(), **shown()}
    if "demands_certificate" in found:
        found["old_tls"] = old()
    # A certificate that nobody showed cannot be why: who is let in so is let in by `trust`.
    found["open_to_all"] = found["method"] == "trust"
    return found


def _start_plainly(endpoint: Endpoint) -> dict[str, Any]:
    with connected(endpoint) as line:
        told = answer(line, _startup(endpoint))
    return {"plaintext": told[:1] == b"R", "method": _method(told)}


def _ask_encrypted(endpoint: Endpoint) -> dict[str, Any]:
    """Nothing where it speaks no TLS."""
    found: dict[str, Any] = {}
    with connected(endpoint) as line:
        if answer(line, _SSL_REQUEST, most=1) != b"S":
            return found
        found["demands_certificate"] = True
        with contextlib.suppress(ssl.SSLError), encrypted(line, stranger(), endpoint) as wrapped:
            found["certificate"] = wrapped.getpeercert(binary_form=True) or b""
            told = answer(wrapped, _startup(endpoint))
            found["demands_certificate"] = told[:1] != b"R"
            if method := _method(told):
                found["method"] = method
    return found


def _startup(endpoint: Endpoint) -> bytes:
    words = ("user", endpoint.username or "postgres", "database", endpoint.path or "postgres")
    body = struct.pack(">I", _VERSION) + b"".join(one.encode() + b"\0" for one in words) + b"\0"
    return struct.pack(">I", len(body) + 4) + body


def _method(told: bytes) -> str:
    """How the server asks for a password, by its first message; empty where it refuses."""
    if told[:1] != b"R" or len(told) < 9:
        return ""
    number = int.from_bytes(told[5:9], "big")
    return _METHODS.get(number, f"method {number}")


def ask_with_account(endpoint: Endpoint, prefix: str) -> dict[str, Any]:  # noqa: ARG001  # as for the others
    """The attributes of our role, and what the server says of our session."""
    import psycopg  # noqa: PLC0415 - an extra
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415

    from cardoon.postgres.location import settings_of  # noqa: PLC0415 - load what is used

    told = {**settings_of(endpoint), **_PATIENCE, "target_session_attrs": "any"}
    try:
        with psycopg.connect(make_conninfo(**told), autocommit=True) as connection:
            role = connection.execute(_ROLE).fetchone()
            session = connection.execute(_SESSION).fetchone()
    except psycopg.Error as error:
        raise OSError(str(error).strip().partition("\n")[0]) from error
    if role is None or session is None:
        raise OSError("the server does not tell who we are")
    name, *has = role
    encrypted_, creates, encryption, version = session
    return {
        "user": str(name),
        "product": "postgresql",
        "version": str(version),
        "attributes": tuple(
            one.removeprefix("rol") for one, is_so in zip(_ATTRIBUTES, has, strict=True) if is_so
        ),
        "session_tls": bool(encrypted_),
        "creates_in_public": bool(creates),
        "password_encryption": str(encryption),
    }
