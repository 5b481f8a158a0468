"""What is granted: that it can be used, so that a sandbox in which nothing works is not taken for a good one."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

from escapes.matrix import attempt
from escapes.proofs import on_disk, passed
from escapes.world import World


def _use_files(world: World) -> None:
    text = Path(world.paths["readable"]).read_text()
    path = Path(world.paths["work"], world.token + ".honest")
    path.write_text(text)
    path.rename(path.with_suffix(".kept"))
    assert text in path.with_suffix(".kept").read_text()
    with tempfile.TemporaryFile(dir=world.paths["work"]) as file:
        file.write(b"x")
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    one, other = socket.socketpair()
    one.sendall(b"x")
    assert other.recv(1) == b"x"


@attempt("granted", proof=passed, must=True)
def use_files(world: World) -> Any:
    """Read and write what is granted, start a thread, make a pair of sockets."""
    _use_files(world)
    return "passed: files, threads, pairs"


@attempt("granted", proof=passed, must=True, profile="listed")
def use_an_address(world: World) -> Any:
    """The same, and talk to the address that is granted."""
    _use_files(world)
    with socket.create_connection(("127.0.0.1", world.ports["granted"]), 5) as sock:
        sock.sendall(world.token.encode())
    return "passed: an address"


@attempt("granted", proof=passed, must=True, profile="subprocess")
def use_programs(world: World) -> Any:
    """The same, and run a program."""
    _use_files(world)
    found = subprocess.run(["/bin/echo", world.token], check=True, capture_output=True, timeout=5)
    assert world.token in found.stdout.decode()
    return "passed: a program"


@attempt("granted", proof=on_disk("disk"), must=True)
def fill_a_directory(world: World) -> Any:
    """Write many files, each of the size that is allowed, into the granted directory, which has no quota."""
    size = world.limits["file_size"]
    for number in range(3 * world.limits["disk"] // size):
        Path(world.paths["work"], f"{world.token}.{number}").write_bytes(b"x" * size)
    return "written"
