"""Watched: a real warden, and forked processes whose real filters ask it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import importlib
import json
import os
import select
import socket
import struct
import sys
import sysconfig
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cardoon.sandbox.kernel import call
from cardoon.sandbox.limits import (
    drop_capabilities,
    hide_memory,
    no_new_privileges,
    read_capabilities,
)
from cardoon.sandbox.nameserver import answer
from cardoon.sandbox.notifying import admit_reader, hand_over, must_admit_reader
from cardoon.sandbox.profile import Sandbox
from cardoon.sandbox.seccomp import build_filter, load
from cardoon.worker.watch import Told, Watch

NOBODY = 65534
NEW_MOUNTS, NEW_NETWORK = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18
SECONDS = 30.0


class Ended(NamedTuple):
    """What a task returned, or the errno or text of what it raised; and what it was refused."""

    value: Any
    errno: str | None
    error: str | None
    told: tuple[Told, ...]

    @property
    def refusals(self) -> list[tuple[str, str]]:
        return [(one.rule, one.detail) for one in self.told]


class Room:
    """One warden and one hatch; tasks of one profile."""

    def __init__(self, watch: Watch, profile: Sandbox, *, names: bool = False) -> None:
        self.watch = watch
        self.profile = profile
        self.names = names
        self.hatch = watch.hatch_for(profile)
        self._token = 0

    def start(
        self, action: Callable[[], Any], *, first: Callable[[int], None] | None = None
    ) -> Running:
        """Fork a task process: admitted, filtered, handed over; then it acts.

        `first` is what its nest would have done, given the hatch.
        """
        self._token += 1
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reading)
                self._act(action, first, writing)
            finally:
                os._exit(1)
        os.close(writing)
        return Running(self.watch, self._token, pid, reading)

    def run(
        self, action: Callable[[], Any], *, first: Callable[[int], None] | None = None
    ) -> Ended:
        return self.start(action, first=first).end()

    def _act(
        self, action: Callable[[], Any], first: Callable[[int], None] | None, writing: int
    ) -> None:
        told: dict[str, Any] = {}
        try:
            if first is not None:
                first(self.hatch.fileno())
            confine(self.profile, self.hatch.detach(), self._token)
            told["value"] = action()
        except OSError as error:
            told = {"errno": errno.errorcode.get(error.errno or 0), "error": repr(error)}
        except BaseException:  # noqa: BLE001 - the last frame of this process
            told = {"error": traceback.format_exc()}
        os.write(writing, json.dumps(told).encode())
        os._exit(0)


def confine(profile: Sandbox, hatch: int, token: int) -> None:
    """The steps of a task process that have to do with the warden."""
    must_admit = must_admit_reader()
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    if must_admit:
        admit_reader(hatch)
    else:
        hide_memory()
    drop_capabilities()
    no_new_privileges()
    listener = load(build_filter(profile, notify=True), listener=True)
    assert listener is not None
    hand_over(hatch, token, listener)


class Running(NamedTuple):
    """A task process that has not been waited for."""

    watch: Watch
    token: int
    pid: int
    reading: int

    def end(self, *, quiet: float = 0.3) -> Ended:
        """Wait for it, then hear of it until nothing was told for so many seconds."""
        with os.fdopen(self.reading, "rb") as file:
            if not select.select([file], [], [], SECONDS)[0]:
                os.kill(self.pid, 9)
            found = json.loads(file.read() or b"{}")
        os.waitpid(self.pid, 0)
        told = list(self.watch.receive())
        while select.select([self.watch], [], [], quiet)[0]:
            told += self.watch.receive()
        return Ended(found.get("value"), found.get("errno"), found.get("error"), tuple(told))


@contextlib.contextmanager
def room(profile: Sandbox, *, denied: tuple[tuple[str, int], ...] = ()) -> Iterator[Room]:
    watch = Watch(denied)
    watch.start()
    try:
        made = Room(watch, profile)
        with made.hatch:
            yield made
    finally:
        watch.stop()


def as_nobody(action: Callable[[], Any]) -> Any:
    """Run a whole scene, warden included, in a process of an ordinary user; what it returns.

    With the system's interpreter, since that user may not read the one of the tests.
    """
    return apart(action, _become_nobody)


def where_names_mean(
    hosts: dict[str, str], action: Callable[[], Any], *, name_server: str = "127.0.0.1"
) -> Any:
    """Run a scene in a network that has these addresses, with a hosts file that says so. For root."""

    def prepare() -> None:
        call("test", "unshare", NEW_MOUNTS | NEW_NETWORK)
        call("test", "mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        raise_loopback(list(hosts.values()))
        text = "".join(f"{address} {name}\n" for name, address in hosts.items())
        for path, content in (
            ("/etc/hosts", f"127.0.0.1 localhost\n{text}"),
            ("/etc/resolv.conf", f"nameserver {name_server}\n"),
        ):
            with tempfile.NamedTemporaryFile("w") as file:
                os.chmod(file.name, 0o644)  # noqa: PTH101
                file.write(content)
                file.flush()
                call("test", "mount", file.name.encode(), path.encode(), None, MS_BIND, None)
        forget_name_servers()

    return apart(action, prepare)


def forget_name_servers() -> None:
    """Have glibc read resolv.conf anew, which other tests of this process made it read before."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return
    state = library["__res_state"]
    state.restype = ctypes.c_void_p
    ctypes.c_ulong.from_address(state() + 8).value &= ~1  # RES_INIT


def raise_loopback(addresses: list[str]) -> None:
    """Bring `lo` up in a network of one's own, with further addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", 1))
        for number, address in enumerate(addresses):
            label = f"lo:{number}".encode()
            for request, value in ((0x8916, socket.inet_aton(address)), (0x891C, b"\xff" * 4)):
                asked = struct.pack("=16sHH4s8x", label, socket.AF_INET, 0, value)
                fcntl.ioctl(sock, request, asked)


def without_ptrace() -> None:
    """Be root as in a container: neither this process nor those that it starts read others' memory."""
    call("test", "prctl", 24, 19)
    effective, permitted, _ = read_capabilities()
    low, high = (effective & permitted & ~(1 << 19)) & 0xFFFFFFFF, permitted >> 32
    header = struct.pack("=Ii", 0x20080522, 0)
    call("test", "capset", header, struct.pack("=6I", low, low, 0, high, high, 0))


def apart(action: Callable[[], Any], prepare: Callable[[], None] = lambda: None) -> Any:
    """Run a scene in a process of its own; what it returns, which JSON can say."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            told = {"value": action()}
        except BaseException:  # noqa: BLE001 - the last frame of this process
            told = {"error": traceback.format_exc()}
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        found = json.loads(file.read())
    os.waitpid(pid, 0)
    assert "error" not in found, found["error"]
    return found["value"]


def _become_nobody() -> None:
    importlib.import_module("encodings.idna")
    packages = sysconfig.get_path("purelib")
    source = Path(importlib.import_module("cardoon").__file__ or "").parent.parent
    os.environ["PYTHONPATH"] = f"{source}:{packages}"
    if os.getuid() == 0:
        sys.executable = "/usr/bin/python3"
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        os.chdir("/")


@contextlib.contextmanager
def echo_server(host: str = "127.0.0.1") -> Iterator[int]:
    """A server that sends back what it gets until its client says that no more comes; its port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.create_server((host, 0), family=family)

    def echo(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while found := connection.recv(65536):
                connection.sendall(found)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=echo, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


@contextlib.contextmanager
def name_server(host: str, names: dict[str, str]) -> Iterator[None]:
    """A name server over TCP, for one resolver at a time."""
    server = socket.create_server((host, 53))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, connection.makefile("rwb") as stream:
                    while size := stream.read(2):
                        told = answer(stream.read(int.from_bytes(size, "big")), names)
                        stream.write(len(told).to_bytes(2, "big") + told)
                        stream.flush()

    threading.Thread(target=serve, daemon=True).start()
    with server:
        yield
