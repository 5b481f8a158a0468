"""Where status pages are served: a TCP port, or a Unix socket."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from typing import NamedTuple

MAX_PATH = 100
"""Bytes of a socket's path; what systems take is a little more."""


class Address(NamedTuple):
    """Where to listen: a TCP port, or the path of a Unix socket."""

    host: str
    port: int
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """`HOST:PORT`, `PORT` (of 127.0.0.1) or `unix:PATH`; `ValueError` for all else."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path or len(os.fsencode(path)) > MAX_PATH:
            raise ValueError("is not unix:PATH with a path of 1 to 100 bytes")
        return Address("", 0, path)
    host, _, number = text.rpartition(":")
    host = (host or "127.0.0.1").removeprefix("[").removesuffix("]")
    if not number.isdecimal() or not 0 <= int(number) <= 65535 or not host.isprintable():
        raise ValueError("is not HOST:PORT, such as 127.0.0.1:9464, nor unix:PATH")
    return Address(host, int(number))
