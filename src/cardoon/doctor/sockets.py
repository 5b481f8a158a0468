"""Who listens on this host, as /proc/net/tcp and tcp6 tell it."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from typing import NamedTuple

from cardoon.doctor.scene import Scene

_LISTENING = "0A"


class Listener(NamedTuple):
    """A TCP socket that takes connections."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    uid: int

    @property
    def is_exposed(self) -> bool:
        """Whether other hosts can reach it, as far as the address says."""
        mapped = getattr(self.address, "ipv4_mapped", None) or self.address
        return not mapped.is_loopback

    @property
    def is_everywhere(self) -> bool:
        """Whether it listens on all addresses of the host."""
        return self.address.is_unspecified

    def __str__(self) -> str:
        shown = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{shown}:{self.port}"


def listeners(scene: Scene) -> list[Listener]:
    """All that listen in this network namespace; lines that cannot be read are left out."""
    scene.need("/proc/net/tcp")
    found: list[Listener] = []
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        found += _parse(scene.read(path))
    return found


def _parse(text: str) -> Iterator[Listener]:
    for line in text.splitlines()[1:]:
        cells = line.split()
        if len(cells) < 8 or cells[3] != _LISTENING:
            continue
        host, _, port = cells[1].partition(":")
        try:
            yield Listener(_address(host), int(port, 16), int(cells[7]))
        except (ValueError, OverflowError):
            continue


def _address(told: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel writes each word of four bytes as a number of this machine's order."""
    words = (told[at : at + 8] for at in range(0, len(told), 8))
    return ipaddress.ip_address(b"".join(int(one, 16).to_bytes(4, sys.byteorder) for one in words))
