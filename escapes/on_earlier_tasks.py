"""What an earlier task of the same profile has left: in memory, in files, in the kernel."""

from __future__ import annotations

import builtins
import ctypes
import gc
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from escapes.calls import call
from escapes.matrix import Act, attempt
from escapes.proofs import Proof, passed
from escapes.world import World

_USER_KEYRING = -4
_PAGE = 4096
_IPC_CREAT = 0o1000
_IPC_RMID = 0
_LEFT: list[Any] = []


def _found(text: object, world: World) -> str:
    assert world.token in str(text), "nothing of it is left"
    return "passed: found what the earlier task left"


def _enter(before: Act, *, proof: Proof = passed) -> Callable[[Act], Act]:
    return attempt("earlier tasks", before=before, proof=proof)


def _leave_object(world: World) -> None:
    _LEFT.append(f"a customer's name: {world.token}")


@_enter(_leave_object)
def objects_of_an_earlier_task(world: World) -> Any:
    """Find an earlier task's values among the objects of the interpreter."""
    texts = [one for found in gc.get_objects() if isinstance(found, list) for one in found[:50]]
    return _found([one for one in texts if isinstance(one, str)], world)


def _leave_patch(world: World) -> None:
    setattr(builtins, world.token, world.token)
    sys.modules[world.token] = sys


@_enter(_leave_patch)
def code_of_an_earlier_task(world: World) -> Any:
    """Be run by what an earlier task has put into the interpreter."""
    return _found([getattr(builtins, world.token, ""), *sys.modules], world)


def _leave_variable(world: World) -> None:
    os.environ[world.token] = world.token


@_enter(_leave_variable)
def environment_of_an_earlier_task(world: World) -> Any:
    """Find a variable that an earlier task has set."""
    return _found(dict(os.environ), world)


def _leave_descriptor(world: World) -> None:
    one, other = socket.socketpair()
    other.sendall(world.token.encode())
    _LEFT.append((one.detach(), other.detach()))


@_enter(_leave_descriptor)
def descriptors_of_an_earlier_task(world: World) -> Any:
    """Read from a descriptor that an earlier task has left open."""
    found = []
    for number in range(3, 256):
        try:
            with socket.socket(fileno=os.dup(number)) as sock:
                found.append(sock.recv(100, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            continue
    return _found(found, world)


def _leave_thread(world: World) -> None:
    threading.Thread(target=time.sleep, args=(20,), name=world.token, daemon=True).start()


@_enter(_leave_thread)
def threads_of_an_earlier_task(world: World) -> Any:
    """Find a thread that an earlier task has left running."""
    return _found(threading.enumerate(), world)


def _leave_file(world: World) -> None:
    Path(tempfile.gettempdir(), world.token).write_text(world.token)


@_enter(_leave_file)
def files_of_an_earlier_task(world: World) -> Any:
    """Find a temporary file of an earlier task."""
    return _found(Path(tempfile.gettempdir(), world.token).read_text(), world)


def _leave_home(world: World) -> None:
    Path(world.token).write_text(world.token)


@_enter(_leave_home)
def working_directory_of_an_earlier_task(world: World) -> Any:
    """Find a file of an earlier task in the working directory."""
    return _found(Path(world.token).read_text(), world)


def _leave_shared_file(world: World) -> None:
    Path("/dev/shm", world.token).write_text(world.token)


@_enter(_leave_shared_file)
def shared_memory_file_of_an_earlier_task(world: World) -> Any:
    """Find what an earlier task has put into /dev/shm."""
    return _found(Path("/dev/shm", world.token).read_text(), world)


def _key(world: World) -> int:
    return int(world.token[3:], 16) & 0x7FFFFFFF


def _leave_segment(world: World) -> None:
    segment = call("shmget", _key(world), _PAGE, _IPC_CREAT | 0o600)
    address = call("shmat", segment, None, 0)
    ctypes.memmove(address, world.token.encode(), len(world.token))


@_enter(_leave_segment)
def segment_of_an_earlier_task(world: World) -> Any:
    """Find an earlier task's System V shared memory."""
    segment = call("shmget", _key(world), _PAGE, 0o600)
    address = call("shmat", segment, None, 0)
    text = ctypes.string_at(address, len(world.token))
    call("shmctl", segment, _IPC_RMID, None)
    return _found(text, world)


def _leave_letter(world: World) -> None:
    queue = call("msgget", _key(world), _IPC_CREAT | 0o600)
    text = world.token.encode()
    call("msgsnd", queue, struct.pack("l", 1) + text, len(text), 0)


@_enter(_leave_letter)
def queue_of_an_earlier_task(world: World) -> Any:
    """Find an earlier task's System V message queue."""
    queue = call("msgget", _key(world), 0o600)
    text = ctypes.create_string_buffer(64)
    call("msgrcv", queue, text, 32, 0, 0)
    call("msgctl", queue, _IPC_RMID, None)
    return _found(text.raw, world)


def _leave_semaphore(world: World) -> None:
    call("semget", _key(world), 1, _IPC_CREAT | 0o600)


@_enter(_leave_semaphore)
def semaphore_of_an_earlier_task(world: World) -> Any:
    """Find an earlier task's System V semaphore."""
    found = call("semget", _key(world), 1, 0o600)
    call("semctl", found, 0, _IPC_RMID, 0)
    return f"passed: found semaphore {found}"


def _leave_posix_queue(world: World) -> None:
    call("mq_open", world.token, os.O_CREAT | os.O_RDWR, 0o600, None)


@_enter(_leave_posix_queue)
def posix_queue_of_an_earlier_task(world: World) -> Any:
    """Find an earlier task's POSIX message queue."""
    found = call("mq_open", world.token, os.O_RDWR, 0, None)
    call("mq_unlink", world.token)
    return f"passed: found queue {found}"


def _leave_key(world: World) -> None:
    text = world.token.encode()
    call("add_key", "user", world.token, text, len(text), _USER_KEYRING)


@_enter(_leave_key)
def keyring_of_an_earlier_task(world: World) -> Any:
    """Find what an earlier task has put into the user's keyring."""
    search, read, unlink = 10, 11, 9
    key = call("keyctl", search, _USER_KEYRING, "user", world.token, 0)
    text = ctypes.create_string_buffer(64)
    # Readable only by its possessor, which one is by a link from the session's keyring.
    call("keyctl", unlink, key, _USER_KEYRING, 0, 0)
    try:
        call("keyctl", read, key, text, 64, 0)
    except OSError:
        return f"passed: found key {key}"
    return _found(text.raw, world)


def _leave_name(world: World) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(f"\0{world.token}")
    sock.listen()
    _LEFT.append(sock)


@_enter(_leave_name)
def socket_of_an_earlier_task(world: World) -> Any:
    """Connect to an abstract name that an earlier task listens on."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"\0{world.token}")
    return "passed: connected"
