"""What a PostgreSQL URL means: the servers to try, how to reach them, and whose tables are meant."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from cardoon.endpoints import PLAIN_ACCESS, Access, Endpoint, Tls, parse_endpoints
from cardoon.exceptions import ImproperlyConfigured

SCHEMA = "cardoon"
"""The schema that holds our tables where no other is named."""

_OURS = frozenset({"schema", "prepare"})
_PASSED_ON = frozenset({
    *("application_name", "connect_timeout", "options", "passfile", "channel_binding"),
    *("krbsrvname", "gssencmode", "sslcrl", "ssl_min_protocol_version", "target_session_attrs"),
})  # fmt: skip
"""Options of libpq's that may stand behind the URL's `?`."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
"""Short enough that names made of it are whole: PostgreSQL cuts them at 63 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Servers that stand in for one another, and a schema in their database."""

    endpoints: tuple[Endpoint, ...]
    schema: str = SCHEMA
    prepare: bool = True
    """Whether statements are prepared once for a connection."""
    settings: tuple[Mapping[str, str], ...] = field(default=(), repr=False)
    """For libpq, of each endpoint; with passwords."""

    def __str__(self) -> str:
        return ", ".join(map(str, self.endpoints))


def locate(
    url: str,
    *,
    setting: str,
    access: Access = PLAIN_ACCESS,
    transport: Mapping[str, object] | None = None,
) -> Location:
    """Parse a URL with what the settings say of it; raises `ImproperlyConfigured`."""
    endpoints = parse_endpoints(url, setting=setting, access=access)
    given: dict[str, str] = {
        name: str(value) for name, value in (transport or {}).items() if name in _OURS
    }
    for endpoint in endpoints:
        for name, value in endpoint.options.items():
            if name in _OURS:
                given[name] = value
            elif name not in _PASSED_ON:
                known = ", ".join(sorted(_OURS | _PASSED_ON))
                raise ImproperlyConfigured(
                    f"{setting}: unknown option {name!r} of a postgresql URL; use {known}"
                )
    return Location(
        endpoints=endpoints,
        schema=check_schema(given.get("schema", SCHEMA), setting=setting),
        prepare=_flag(given.get("prepare", "true"), setting=setting),
        settings=tuple(map(settings_of, endpoints)),
    )


def check_schema(name: str, *, setting: str) -> str:
    """The name, if it may be one; raises `ImproperlyConfigured`."""
    if name == "public" or name.startswith("pg_") or name == "information_schema":
        raise ImproperlyConfigured(
            f"{setting}: schema {name!r} is not ours alone; name another, such as cardoon"
        )
    if not _NAME.fullmatch(name):
        raise ImproperlyConfigured(
            f"{setting}: schema {name!r} is not a name; use up to 40 letters, digits and _"
        )
    return name


def quoted(name: str) -> str:
    """An identifier as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def _flag(text: str, *, setting: str) -> bool:
    match text.lower():
        case "true" | "yes" | "1" | "on":
            return True
        case "false" | "no" | "0" | "off":
            return False
        case other:
            raise ImproperlyConfigured(f"{setting}: prepare={other!r}; use true or false")


def settings_of(endpoint: Endpoint) -> Mapping[str, str]:
    """What libpq is told of one server."""
    told = {
        "client_encoding": "UTF8",
        "application_name": "cardoon",
        "target_session_attrs": "read-write",
        "gssencmode": "disable",
        "host": endpoint.socket or endpoint.host,
        "port": str(endpoint.port),
        # A host that is gone is noticed within about this time, whoever waits for whom.
        "tcp_user_timeout": "10000",
        "keepalives_idle": "10",
        "keepalives_interval": "3",
        "keepalives_count": "3",
    }
    login = {"user": endpoint.username, "password": endpoint.password, "dbname": endpoint.path}
    told.update({name: value for name, value in login.items() if value})
    if endpoint.tls is None:
        # Encrypted where the server can; `Access` has seen to it that it need not be.
        told["sslmode"] = "prefer"
    else:
        told.update(_tls_settings(endpoint))
    told.update({name: value for name, value in endpoint.options.items() if name in _PASSED_ON})
    return told


def _tls_settings(endpoint: Endpoint) -> Mapping[str, str]:
    tls = endpoint.tls
    assert tls is not None
    told = {"sslmode": _sslmode(tls), "ssl_min_protocol_version": "TLSv1.2"}
    if tls.verify:
        told["sslrootcert"] = tls.ca or "system"
    files = {
        "sslcert": tls.certificate,
        "sslkey": tls.key or tls.certificate,
        "sslpassword": tls.key_password,
    }
    told.update({name: value for name, value in files.items() if value})
    if tls.server_name and not endpoint.socket:
        told["host"] = tls.server_name
        told["hostaddr"] = _address(endpoint.host)
    return told


def _sslmode(tls: Tls) -> str:
    if not tls.verify:
        return "require"
    return "verify-full" if tls.check_hostname else "verify-ca"


def _address(host: str) -> str:
    """The host's: libpq checks the name that it connects to, unless it is told the address beside it."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return host  # and libpq says what is wrong with it
