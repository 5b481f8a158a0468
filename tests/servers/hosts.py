"""Hosts of a test: network namespaces with a wire between them. They need root."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.servers.ground import find_program, lacking

NETWORK = "198.51.100"
"""Of RFC 5737, which no real host has."""
_NEW_NETWORK = 0x40000000


class Host:
    """A network namespace, with an address on the wire."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.address = f"{NETWORK}.{number}"

    def run(
        self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What a program says there."""
        return subprocess.run(
            self.command(*words),
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def command(self, *words: str) -> list[str]:
        """What starts a program there; the process is the program's."""
        return [find_program("ip"), "netns", "exec", self.name, *words]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have what this thread opens and starts be there."""
        with _opened("/proc/thread-self/ns/net") as own, _opened(f"/run/netns/{self.name}") as it:
            _enter(it)
            try:
                yield
            finally:
                _enter(own)


@contextlib.contextmanager
def wired(*names: str) -> Iterator[list[Host]]:
    """So many hosts; the first one has the switch, and reaches all others as they reach each other."""
    if os.geteuid() != 0:
        lacking("what makes network namespaces (root)")
    for program in ("nft", "ip"):
        find_program(program)
    mark = uuid.uuid4().hex[:6]
    hosts = [Host(f"cardoon-{name}-{mark}", at) for at, name in enumerate(names, 1)]
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
            _ip("-n", host.name, "link", "set", "lo", "up")
        first = hosts[0]
        _ip("-n", first.name, "link", "add", "switch", "type", "bridge")
        _address(first, "switch")
        for at, host in enumerate(hosts[1:], 1):
            ends = ["link", "add", f"port{at}", "netns", first.name, "type", "veth"]
            _ip(*ends, "peer", "name", "wire", "netns", host.name)
            _ip("-n", first.name, "link", "set", f"port{at}", "master", "switch", "up")
            _address(host, "wire")
        yield hosts
    finally:
        for host in hosts:
            subprocess.run(
                [find_program("ip"), "netns", "del", host.name], check=False, capture_output=True
            )


def _address(host: Host, link: str) -> None:
    _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", link)
    _ip("-n", host.name, "link", "set", link, "up")


def _ip(*words: str) -> None:
    done = subprocess.run([find_program("ip"), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        lacking(f"what makes network namespaces (ip {' '.join(words)}: {done.stderr.strip()})")


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
