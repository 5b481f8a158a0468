"""Names inside a task that shares the host's network: listed ones mean addresses of ours, others nothing.

A task with a list at `confined` has no way to ask a name server, so Python's own lookups are answered from
a table, and the C library's by the warden, whom it is told to ask over TCP. It is a convenience and no
boundary: what is connected to is judged by the warden.
"""

from __future__ import annotations

import _socket
import ctypes
import os
import socket
from collections.abc import Mapping
from typing import Any

from cardoon.sandbox.netrules import host_names, parse_ip
from cardoon.sandbox.presets import does_warden_connect
from cardoon.sandbox.profile import Sandbox

_RES_INIT, _RES_USEVC = 0x1, 0x8
_LOCAL = {"localhost": "127.0.0.1"}


def answer_names(profile: Sandbox) -> None:
    """In a task process: have `socket.getaddrinfo` and its elders know the listed names only.

    In a network of the task's own nothing is changed: there is a hosts file with the same table. "any" has
    the host's name servers, and no sockets but those of TCP to ask them with.
    """
    if not does_warden_connect(profile):
        return
    _ask_over_tcp()
    if profile.network != "any":
        names = _Names({**_LOCAL, **host_names(profile.network)})
        # `socket.getaddrinfo` looks it up there whenever it is called, whoever has imported it before.
        _socket.getaddrinfo = names.getaddrinfo
        socket.gethostbyname = names.gethostbyname
        socket.gethostbyname_ex = names.gethostbyname_ex


def _ask_over_tcp() -> None:
    """Tell the C library to ask name servers over TCP (resolv.conf(5)); only glibc can.

    It reads the variable before its first lookup in a process. Where the app has looked names up while it
    was imported, in whichever thread, this thread is told by the state that it keeps for it, and others are
    not told.
    """
    present = os.environ.get("RES_OPTIONS", "")
    if "use-vc" not in present.split():
        os.environ["RES_OPTIONS"] = f"{present} use-vc".strip()
    try:
        library = ctypes.CDLL(None)
        state, begin = library["__res_state"], library["__res_init"]
    except AttributeError:  # another C library than glibc
        return
    state.restype = ctypes.c_void_p
    # struct __res_state of <resolv.h>: two ints, then the options.
    options = ctypes.c_ulong.from_address(state() + 8)
    if not options.value & _RES_INIT:
        begin()  # else its first lookup would take what another thread's has made known to all
    options.value |= _RES_USEVC


class _Names:
    """Lookups as `socket` has them, in a table."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._getaddrinfo = _socket.getaddrinfo

    def getaddrinfo(
        self,
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """As `socket.getaddrinfo`; `gaierror` for a name that is not listed."""
        if host is None or parse_ip(_text(host).partition("%")[0]) is not None:
            return self._getaddrinfo(host, port, family, type, proto, flags)
        found = self._getaddrinfo(
            self._find(host), port, family, type, proto, flags | socket.AI_NUMERICHOST
        )
        if flags & socket.AI_CANONNAME:
            return [
                (*one[:3], _text(host) if at == 0 else "", one[4]) for at, one in enumerate(found)
            ]
        return found

    def gethostbyname(self, host: str) -> str:
        """As `socket.gethostbyname`."""
        return _text(host) if parse_ip(_text(host)) is not None else self._find(host)

    def gethostbyname_ex(self, host: str) -> tuple[str, list[str], list[str]]:
        """As `socket.gethostbyname_ex`."""
        return _text(host), [], [self.gethostbyname(host)]

    def _find(self, host: str | bytes) -> str:
        address = self._names.get(_text(host).rstrip(".").lower())
        if address is None:
            raise socket.gaierror(
                socket.EAI_NONAME, f"{_text(host)!r} is not in the sandbox's list of the network"
            )
        return address


def _text(host: str | bytes) -> str:
    return host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else str(host)
