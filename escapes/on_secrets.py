"""Secrets in files: the worker's key and its store, `.env`, other people's files; and ways around a closed path."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import stat
import struct
from pathlib import Path
from typing import Any

from escapes.calls import call
from escapes.matrix import attempt
from escapes.proofs import passed, secret
from escapes.world import World

_AT_FDCWD = -100
_SHADOW = (
    "what is in it is the kernel's to keep from ordinary users; only a worker that is root reads it"
)
_OTHER_ROOT = "/proc/1/root is open only to those who may trace process 1"


def read(path: str | int, size: int = 65536) -> str:
    """The beginning of a file, as text."""
    with open(path, "rb") as file:
        return file.read(size).decode("utf-8", "replace")


def _near_secrets(text: str) -> list[str]:
    """What is worth telling, since what a task tells is bounded."""
    return re.findall(r"SECRET-[a-z]+-[0-9a-f]{16}", text)


@attempt("secrets", proof=secret("key"))
def read_key(world: World) -> Any:
    """Read the worker's private key."""
    return read(world.paths["key"])


@attempt("secrets", proof=secret("key"))
def read_key_by_proc_self_root(world: World) -> Any:
    """The same by /proc/self/root."""
    return read("/proc/self/root" + world.paths["key"])


@attempt("secrets", proof=secret("key"))
def read_key_by_the_workers_root(world: World) -> Any:
    """The same by /proc/PID/root of the worker."""
    return read(f"/proc/{world.pids['supervisor']}/root{world.paths['key']}")


@attempt("secrets", proof=secret("key"), needs=_OTHER_ROOT)
def read_key_by_the_first_process(world: World) -> Any:
    """The same by /proc/1/root."""
    return read("/proc/1/root" + world.paths["key"])


@attempt("secrets", proof=secret("key"))
def read_key_by_the_workers_directory(world: World) -> Any:
    """The same by /proc/PID/cwd of the worker, and from there upwards."""
    up = "/".join([".."] * 20)
    return read(f"/proc/{world.pids['supervisor']}/cwd/{up}{world.paths['key']}")


@attempt("secrets", proof=secret("key"))
def read_key_by_climbing(world: World) -> Any:
    """Leave the root by more `..` than there are directories."""
    os.chdir("/")
    return read("/".join([".."] * 40) + world.paths["key"])


@attempt("secrets", proof=secret("key"))
def read_key_by_o_path(world: World) -> Any:
    """Open it with O_PATH, which asks for no right, and then by /proc/self/fd."""
    held = os.open(world.paths["key"], os.O_PATH)
    return read(f"/proc/self/fd/{held}")


@attempt("secrets", proof=secret("key"))
def read_key_by_o_path_directory(world: World) -> Any:
    """Open its directory with O_PATH, and it from there."""
    path = Path(world.paths["key"])
    held = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    return read(os.open(path.name, os.O_RDONLY, dir_fd=held))


@attempt("secrets", proof=secret("key"))
def read_key_by_openat2(world: World) -> Any:
    """Open it by the newer call."""
    how = struct.pack("QQQ", os.O_RDONLY, 0, 0)
    return read(call("openat2", _AT_FDCWD, world.paths["key"], how, len(how)))


@attempt("secrets", proof=secret("key"))
def read_key_by_a_symbolic_link(world: World) -> Any:
    """Link to it from the granted directory, and read the link."""
    link = Path(world.paths["work"], world.token + ".link")
    link.symlink_to(world.paths["key"])
    return read(str(link))


@attempt("secrets", proof=secret("decoy"))
def read_key_by_a_hard_link(world: World) -> Any:
    """Give it a second name in the granted directory."""
    link = Path(world.paths["work"], world.token + ".hard")
    os.link(world.paths["decoy"], link)
    return read(str(link))


@attempt("secrets", proof=secret("decoy"))
def read_key_by_renaming(world: World) -> Any:
    """Move it into the granted directory."""
    here = Path(world.paths["work"], world.token + ".moved")
    Path(world.paths["decoy"]).rename(here)
    return read(str(here))


@attempt("secrets", proof=secret("decoy"))
def read_key_by_exchanging(world: World) -> Any:
    """Exchange it with a file of the granted directory."""
    here = Path(world.paths["work"], world.token + ".swap")
    here.write_text("mine")
    exchange = 2
    call("renameat2", _AT_FDCWD, world.paths["decoy"], _AT_FDCWD, str(here), exchange)
    return read(str(here))


@attempt("secrets", proof=secret("key"), needs="open_by_handle_at asks for CAP_DAC_READ_SEARCH")
def read_key_by_handle(world: World) -> Any:
    """Open it by its handle, which knows no paths."""
    size = 128
    handle = ctypes.create_string_buffer(struct.pack("Ii", size, 0), 8 + size)
    mount = ctypes.create_string_buffer(4)
    call("name_to_handle_at", _AT_FDCWD, world.paths["key"], handle, mount, 0)
    somewhere = os.open(world.paths["work"], os.O_RDONLY)
    return read(call("open_by_handle_at", somewhere, handle, os.O_RDONLY))


@attempt("secrets", proof=secret("opened", "store"))
def read_open_files_of_the_worker(world: World) -> Any:
    """Open once more what the worker has open, by /proc/PID/fd."""
    folder = f"/proc/{world.pids['supervisor']}/fd"
    found = []
    for name in sorted(os.listdir(folder), key=int):
        target = os.readlink(f"{folder}/{name}")
        if target.removesuffix("-wal") in {world.paths["opened"], world.paths["store"]}:
            found.append(_near_secrets(read(f"{folder}/{name}", 1 << 22)))
    return found


@attempt("secrets", proof=secret("store"))
def read_the_workers_store(world: World) -> Any:
    """Read its SQLite file, which holds all messages."""
    found = read(world.paths["store"], 1 << 22)
    log = Path(world.paths["store"] + "-wal")
    return _near_secrets(found + (read(str(log), 1 << 22) if log.exists() else ""))


@attempt("secrets", proof=secret("dotenv"))
def read_dotenv(world: World) -> Any:
    """Read `.env` beside the code."""
    return read(world.paths["dotenv"])


@attempt("secrets", proof=secret("later"))
def read_dotenv_made_later(world: World) -> Any:
    """Read `.env.later` beside the code, where it was put when the worker was running."""
    return read(world.paths["later"])


@attempt("secrets", proof=secret("neighbour"))
def read_a_neighbours_file(world: World) -> Any:
    """Read what another user has left readable for all."""
    return read(world.paths["neighbour"])


@attempt("secrets", proof=secret("shadow"), needs=_SHADOW)
def read_shadow(_: World) -> Any:
    """Read /etc/shadow."""
    return read("/etc/shadow")


@attempt("secrets", proof=passed)
def list_a_neighbours_directory(world: World) -> Any:
    """See the names of another user's files."""
    names = os.listdir(Path(world.paths["neighbour"]).parent)
    return f"passed: {names}"


@attempt("secrets", proof=secret("environ"))
def read_own_environment(_: World) -> Any:
    """Find a secret of the worker's environment in one's own."""
    return dict(os.environ)


@attempt("secrets", proof=secret("key", "opened", "store"))
def read_inherited_descriptors(_: World) -> Any:
    """Read whatever is open that was not opened here."""
    found = []
    for number in range(1024):
        try:
            content = os.pread(number, 1 << 22, 0).decode("utf-8", "replace")
            found.append([content[:1000], *_near_secrets(content)])
        except OSError:  # not open, or nothing to read at an offset
            continue
    return found


@attempt("secrets", proof=passed)
def use_inherited_sockets(_: World) -> Any:
    """Find a connection to a server among what is open."""
    for number in range(1024):
        try:
            found = socket.socket(fileno=os.dup(number))
        except OSError:
            continue
        if found.family in {socket.AF_INET, socket.AF_INET6}:
            return f"passed: descriptor {number} is {found}"
    return "none"


@attempt("secrets", proof=passed)
def inherit_more_than_the_channel(_: World) -> Any:
    """Find more sockets open than the one that connects a task with its worker."""
    found = []
    for number in range(3, 1024):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                found.append(number)
        except OSError:
            continue
    assert len(found) > 1, f"open are {found}"
    return f"passed: sockets {found}"


@attempt(
    "secrets",
    proof=passed,
    open_in={"confined": "whether a file exists, and its size and times, can be seen for any file"},
)
def see_that_a_file_exists(world: World) -> Any:
    """See the size and the times of the key, without opening it."""
    found = os.stat(world.paths["key"])
    return f"passed: {found.st_size} bytes of {found.st_mtime_ns}"


@attempt("secrets", proof=passed)
def watch_a_directory(world: World) -> Any:
    """See the names of files that others make, by inotify, where nothing is granted."""
    created = 0x100
    libc = ctypes.CDLL(None, use_errno=True)
    watcher = libc.inotify_init1(0)
    if libc.inotify_add_watch(watcher, os.fsencode(world.paths["outside"]), created) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    return f"passed: watches {world.paths['outside']}"
