"""Which servers a broker or result backend URL means, and whether the way there may be trusted.

Parsed once for all drivers of servers. What is said of TLS is one value, whether it came with the URL's
scheme, with its options or with a setting of Celery's; plain text to another host is refused.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cardoon.exceptions import ImproperlyConfigured

_PORTS = {"redis": 6379, "sentinel": 26379, "amqp": 5672, "postgresql": 5432}
_PORT_OF_AMQPS = 5671
_SCHEMES = {
    "redis": ("redis", False),
    "valkey": ("redis", False),
    "redis+socket": ("redis", False),
    "rediss": ("redis", True),
    "valkeys": ("redis", True),
    "sentinel": ("sentinel", False),
    "sentinels": ("sentinel", True),
    "amqp": ("amqp", False),
    "pyamqp": ("amqp", False),
    "amqps": ("amqp", True),
    "postgresql": ("postgresql", False),
    "postgres": ("postgresql", False),
    "postgresql+psycopg": ("postgresql", False),
    "postgresql+psycopg2": ("postgresql", False),
    "db+postgresql": ("postgresql", False),
}
"""Kind of server, and whether the scheme itself asks for TLS."""

_TLS_NAMES = {
    "ssl_ca_certs": "ca",
    "ca_certs": "ca",
    "sslrootcert": "ca",
    "ssl_certfile": "certificate",
    "certfile": "certificate",
    "sslcert": "certificate",
    "ssl_keyfile": "key",
    "keyfile": "key",
    "sslkey": "key",
    "ssl_password": "key_password",
    "ssl_keyfile_password": "key_password",
    "sslpassword": "key_password",
    "ssl_cert_reqs": "verify",
    "cert_reqs": "verify",
    "ssl_check_hostname": "check_hostname",
    "check_hostname": "check_hostname",
    "server_hostname": "server_name",
}
"""What Celery, redis-py and libpq call these, in `broker_use_ssl` or behind the URL's `?`."""

_SSLMODES = {
    "verify-full": {},
    "verify-ca": {"check_hostname": False},
    "require": {"verify": False, "check_hostname": False},
}
_PLAIN_SSLMODES = frozenset({"disable", "allow", "prefer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a connection is encrypted, and what the server has to show."""

    ca: str = ""
    """A file of authorities; the system's where it is empty."""
    certificate: str = ""
    """Of the client, where the server asks for one; with its key in the same file or in `key`."""
    key: str = ""
    key_password: str = field(default="", repr=False)
    verify: bool = True
    check_hostname: bool = True
    server_name: str = ""
    """What the server's certificate must name, where that is not its host."""

    def context(self) -> ssl.SSLContext:
        """For drivers that speak TLS through Python; at least TLS 1.2."""
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.certificate:
                context.load_cert_chain(
                    self.certificate, self.key or None, self.key_password or None
                )
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(filter(None, (self.ca, self.certificate, self.key)))
            raise ImproperlyConfigured(f"TLS: cannot use {files}: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.verify and self.check_hostname
        if not self.verify:
            context.verify_mode = ssl.CERT_NONE  # by unsafe_allow_unverified_tls alone
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One server, as a URL names it. Its `repr` and `str` show no password."""

    kind: str
    """`redis`, `sentinel`, `amqp` or `postgresql`."""
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)
    path: str = ""
    """A database's name or number, or a virtual host; without the slash before it."""
    socket: str = ""
    """The path of a Unix socket, instead of host and port."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What stands behind the URL's `?`, without what is said of TLS."""
    tls: Tls | None = None

    def __str__(self) -> str:
        return self.socket or f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether what is sent there never leaves this host."""
        if self.socket or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the settings say of the way to a server, beside its URL."""

    use_ssl: bool | Mapping[str, Any] | None = None
    """`broker_use_ssl` or its like: False for none, a mapping for what to use."""
    allow_plaintext: bool = False
    """`unsafe_allow_plaintext_broker`."""
    allow_unverified: bool = False
    """`unsafe_allow_unverified_tls`."""
    allow_eviction: bool = False
    """`unsafe_allow_eviction`."""


PLAIN_ACCESS = Access()
"""Encrypted to other hosts, and verified."""


def kind_of(url: str) -> str:
    """The kind of server that a URL's scheme means, as in `Endpoint.kind`; empty if none."""
    kind, _ = _SCHEMES.get(url.partition("://")[0].lower(), ("", False))
    return kind


def addresses_of(*urls: str) -> tuple[tuple[str, int], ...]:
    """Host and port of every server that these URLs name; files and unix sockets have none.

    For those who keep others away from these servers, whether or not the way there may be trusted.
    """
    lenient = Access(allow_plaintext=True, allow_unverified=True)
    return tuple(
        (one.host, one.port)
        for url in urls
        if kind_of(url)
        for one in parse_endpoints(url, setting="url", access=lenient)
        if not one.socket
    )


def parse_endpoints(
    url: str, *, setting: str, access: Access = PLAIN_ACCESS
) -> tuple[Endpoint, ...]:
    """The servers that a URL names, in the order in which they are to be tried.

    Several stand behind each other with `;` between them, and are of one kind. Raises
    `ImproperlyConfigured` that names the setting, and never shows a URL: it may hold a password.
    """
    found = tuple(
        _parse(part.strip(), setting=setting, access=access)
        for part in url.split(";")
        if part.strip()
    )
    if not found:
        raise ImproperlyConfigured(f"{setting}: names no server")
    if len({one.kind for one in found}) > 1:
        kinds = ", ".join(one.kind for one in found)
        raise ImproperlyConfigured(
            f"{setting}: several servers stand in for one another, so they are of one kind; it has "
            f"{kinds}"
        )
    return found


def _parse(url: str, *, setting: str, access: Access) -> Endpoint:
    scheme, mark, _ = url.partition("://")
    if not mark or scheme.lower() not in _SCHEMES:
        raise ImproperlyConfigured(
            f"{setting}: every server needs a whole URL such as redis://host:6379/0"
        )
    kind, encrypted = _SCHEMES[scheme.lower()]
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
    except ValueError as error:
        if urlsplit(url).query == "":
            raise ImproperlyConfigured(
                f"{setting}: the port is not a number up to 65535"
            ) from error
        raise ImproperlyConfigured(
            f"{setting}: what stands behind '?' is not name=value&name=value"
        ) from error
    socket = ""
    path = unquote(parts.path.removeprefix("/"))
    if scheme.lower() == "redis+socket":
        socket, path = unquote(parts.path), options.pop("virtual_host", options.pop("db", ""))
    elif kind == "postgresql" and (parts.hostname or "").lower().startswith("%2f"):
        socket = unquote(parts.netloc.rpartition("@")[2])
    elif options.get("host", "").startswith("/") and kind == "postgresql":
        socket = options.pop("host")
    tls = _tls(options, encrypted=encrypted, setting=setting, access=access)
    default = _PORT_OF_AMQPS if kind == "amqp" and tls else _PORTS[kind]
    endpoint = Endpoint(
        kind=kind,
        host=parts.hostname or "localhost",
        port=port or default,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        path=path,
        socket=socket,
        options=options,
        tls=tls,
    )
    if tls is None and not endpoint.is_local and not access.allow_plaintext:
        raise ImproperlyConfigured(
            f"{setting}: plain text to {endpoint.host} would show passwords and tasks to everybody on "
            f"the way; use {_encrypted(kind)}, or set unsafe_allow_plaintext_broker=True where the "
            "network itself is encrypted"
        )
    return endpoint


def _encrypted(kind: str) -> str:
    return {
        "redis": "rediss://",
        "sentinel": "sentinels://",
        "amqp": "amqps://",
        "postgresql": "sslmode=verify-full",
    }[kind]


def _tls(options: dict[str, str], *, encrypted: bool, setting: str, access: Access) -> Tls | None:
    """What all the ways to ask for TLS say together; takes its own out of the options."""
    said: dict[str, Any] = {}
    mode = options.pop("sslmode", None)
    if mode is not None and mode not in {*_SSLMODES, *_PLAIN_SSLMODES}:
        raise ImproperlyConfigured(
            f"{setting}: unknown sslmode {mode!r}; use {', '.join(_SSLMODES)} or disable"
        )
    said.update(_SSLMODES.get(mode or "", {}))
    for name in [name for name in options if name in _TLS_NAMES]:
        said[_TLS_NAMES[name]] = options.pop(name)
    if isinstance(access.use_ssl, Mapping):
        for name, value in access.use_ssl.items():
            if name not in _TLS_NAMES:
                raise ImproperlyConfigured(
                    f"{setting}: its TLS options have an unknown {name!r}; use "
                    f"{', '.join(sorted(_TLS_NAMES))}"
                )
            said[_TLS_NAMES[name]] = value
    wanted = (
        encrypted
        or mode in _SSLMODES
        or bool(access.use_ssl)
        or isinstance(access.use_ssl, Mapping)
    )
    if not wanted:
        if said:
            raise ImproperlyConfigured(
                f"{setting}: it has TLS options ({', '.join(said)}), but asks for no TLS; use a "
                "scheme or sslmode that does"
            )
        return None
    tls = Tls(**{name: _value(name, value, setting) for name, value in said.items()})
    if not tls.verify and not access.allow_unverified:
        raise ImproperlyConfigured(
            f"{setting}: a certificate that is not verified is anybody's; name the authority's file "
            "(ssl_ca_certs or sslrootcert), or set unsafe_allow_unverified_tls=True"
        )
    return tls


def _value(name: str, value: Any, setting: str) -> Any:
    if name == "verify":
        if isinstance(value, bool):
            return value
        match str(getattr(value, "name", value)).lower():
            case "required" | "cert_required" | "2":
                return True
            case "none" | "cert_none" | "0":
                return False
            case "optional" | "cert_optional" | "1":
                return True  # of a server, OpenSSL takes it for "required"
            case other:
                raise ImproperlyConfigured(
                    f"{setting}: unknown ssl_cert_reqs {other!r}; use required or none"
                )
    if name == "check_hostname":
        return value if isinstance(value, bool) else str(value).lower() in {"1", "true", "yes"}
    return str(value)
