"""Where syslog messages go, and under which facility: what settings say of it, without a server."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

FACILITIES: Mapping[str, int] = {
    "kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7,
    "uucp": 8, "cron": 9, "authpriv": 10, "ftp": 11, "local0": 16, "local1": 17, "local2": 18,
    "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23,
}  # fmt: skip
"""By the names that syslog's own configuration has for them; RFC 5424, table 1."""
FORMATS = ("rfc5424", "ecs", "ocsf", "cef")
MAX_PATH = 100
"""Bytes of a socket's path; what systems take is a little more."""
MOST_TARGETS = 8
"""Each has a thread and a queue of its own."""

_PORTS = {"udp": 514, "tcp": 514, "tls": 6514}
_TLS_NAMES = ("ca", "certificate", "key", "key_password", "server_name")
_USAGE = "is not udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:/PATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One syslog server: a host and its port, or the path of a datagram socket."""

    kind: str
    """`udp`, `tcp`, `tls` or `unix`."""
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Whether what is sent there never leaves this machine."""
        if self.path or self.host == "localhost":
            return True
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False

    @property
    def is_datagram(self) -> bool:
        """Whether each message is sent by itself, with nobody to say that it came."""
        return self.kind in {"udp", "unix"}

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"


def parse_target(text: str) -> Target:
    """One address as a setting has it; `ValueError` for all else."""
    if text.startswith("unix:"):
        path = "/" + text.removeprefix("unix:").lstrip("/")
        if not 1 < len(os.fsencode(path)) <= MAX_PATH or not path.isprintable():
            raise ValueError("is not unix:/PATH with a path of 1 to 100 bytes")
        return Target(kind="unix", path=path)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(_USAGE) from None
    if parts.scheme not in _PORTS or not parts.hostname or not parts.hostname.isprintable():
        raise ValueError(_USAGE)
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(
            f"{_USAGE}, with nothing before or behind; files of TLS go into syslog_tls"
        )
    return Target(kind=parts.scheme, host=parts.hostname, port=port or _PORTS[parts.scheme])


def syslog_addresses(value: object) -> tuple[str, ...]:
    """Parser of a setting: addresses as a list, or as text with commas; each once."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise ValueError("is not a list of addresses")  # noqa: TRY004  # one error for all parsers
    found = tuple(dict.fromkeys(str(parse_target(str(one))) for one in value))
    if len(found) > MOST_TARGETS:
        raise ValueError(f"names more than {MOST_TARGETS} servers")
    return found


def syslog_tls(value: object) -> dict[str, Any]:
    """Parser of a setting: the files of TLS, by name."""
    if not isinstance(value, Mapping):
        raise ValueError("is not a dict")  # noqa: TRY004  # one error for all parsers
    for name, item in value.items():
        if name not in _TLS_NAMES:
            raise ValueError(f"has an unknown key {name!r}; use {', '.join(_TLS_NAMES)}")
        if not isinstance(item, (str, os.PathLike)):
            raise ValueError(f"has {name}, which is not text")  # noqa: TRY004
    return {str(name): os.fspath(item) for name, item in value.items()}
