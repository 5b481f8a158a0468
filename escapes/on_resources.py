"""Resources: memory in all its places, processes, threads, descriptors, disk, processor time."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from escapes.calls import call
from escapes.matrix import attempt
from escapes.on_processes import take_name
from escapes.proofs import at_least, at_once, burned, on_disk, passed
from escapes.world import World

MIB = 1 << 20
_PIPE_BYTES = 1031
_MOST_PROCESSES = 60
_MOST_THREADS = 400
_MOST_DESCRIPTORS = 2000
_LOCKED = "RLIMIT_MEMLOCK keeps ordinary users below some megabytes"
_BEYOND = 3
"""How many times the limit an attempt tries to take."""


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@attempt("resources", proof=at_least("memory", unit="bytes of memory", slack=1.05))
def fill_the_heap(world: World) -> Any:
    """Allocate three times the memory that the profile gives."""
    before, held = _resident(), []
    with contextlib.suppress(MemoryError):
        for _turn in range(_BEYOND * world.limits["memory"] // MIB):
            held.append(b"x" * MIB)
    return _resident() - before


@attempt("resources", proof=at_least("memory", unit="bytes of memory", slack=1.05))
def fill_shared_anonymous_memory(world: World) -> Any:
    """The same with mappings that children would share."""
    before, held = _resident(), []
    with contextlib.suppress(MemoryError, OSError):
        for _turn in range(_BEYOND * world.limits["memory"] // (4 * MIB)):
            area = mmap.mmap(-1, 4 * MIB)
            area.write(b"x" * (4 * MIB))
            held.append(area)
    return _resident() - before


@attempt("resources", proof=at_least("memory", unit="bytes of memory", slack=1.05))
def fill_a_memory_file(world: World) -> Any:
    """Write into a file in memory (memfd), which is not part of the address space."""
    held = call("memfd_create", world.token, 0)
    with contextlib.suppress(OSError):
        for _turn in range(_BEYOND * world.limits["memory"] // MIB):
            os.write(held, b"x" * MIB)
    return os.fstat(held).st_blocks * 512


@attempt("resources", proof=at_least("locked", unit="bytes locked in memory"), needs=_LOCKED)
def fill_secret_memory(world: World) -> Any:
    """Make memory that only its process sees (memfd_secret), which is never swapped out, and fill it."""
    held = call("memfd_secret", 0)
    size = _BEYOND * world.limits["locked"]
    os.ftruncate(held, size)
    area = mmap.mmap(held, size)
    for offset in range(0, size, 4096):
        area[offset] = 1
    return size


@attempt("resources", proof=at_least("memory", unit="bytes of memory", slack=1.05))
def fill_system_v_memory(world: World) -> Any:
    """Make segments of shared memory, fill them, and let go of the addresses."""
    private, remove, total = 0, 0, 0
    made = []
    try:
        for _turn in range(_BEYOND * world.limits["memory"] // (4 * MIB)):
            segment = call("shmget", private, 4 * MIB, 0o600)
            made.append(segment)
            address = call("shmat", segment, None, 0)
            ctypes.memset(address, 1, 4 * MIB)
            ctypes.CDLL(None).shmdt(ctypes.c_void_p(address))
            total += 4 * MIB
    finally:
        for segment in made:
            call("shmctl", segment, remove, None)
    return total


@attempt("resources", proof=at_least("memory", unit="bytes of memory", slack=1.05))
def fill_dev_shm(world: World) -> Any:
    """Write a large file into /dev/shm."""
    path = Path("/dev/shm", world.token)
    try:
        with path.open("wb", buffering=0) as file:
            for _turn in range(_BEYOND * world.limits["memory"] // MIB):
                file.write(b"x" * MIB)
            return path.stat().st_blocks * 512
    finally:
        path.unlink(missing_ok=True)


@attempt("resources", proof=at_least("kernel_memory", unit="bytes of buffers"))
def fill_socket_buffers(world: World) -> Any:
    """Fill the buffers of as many sockets as can be had, made as large as the kernel lets them be."""
    total, pairs = 0, []
    with contextlib.suppress(OSError):
        while total < _BEYOND * world.limits["kernel_memory"]:
            pair = socket.socketpair()
            pairs.append(pair)
            for one in pair:
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * MIB)
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        total += one.send(b"x" * 65536)
    return total


@attempt("resources", proof=at_least("kernel_memory", unit="bytes of buffers"))
def fill_pipes(world: World) -> Any:
    """Fill pipes, made as large as the kernel lets them be."""
    total, ends = 0, []
    with contextlib.suppress(OSError):
        while total < _BEYOND * world.limits["kernel_memory"]:
            read_end, write_end = os.pipe()
            ends.append((read_end, write_end))
            with contextlib.suppress(OSError):
                fcntl.fcntl(write_end, _PIPE_BYTES, MIB)
            os.set_blocking(write_end, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    total += os.write(write_end, b"x" * 65536)
    return total


@attempt("resources", proof=at_least("memory", unit="bytes of memory", slack=1.05))
def lift_the_limit_of_memory(world: World) -> Any:
    """Set one's own limit of memory as high as it goes, and allocate."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return fill_the_heap(world)


@attempt("resources", proof=passed, needs="a higher hard limit asks for CAP_SYS_RESOURCE")
def lift_hard_limits(_: World) -> Any:
    """Raise a hard limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
    return f"passed: {hard + 1} files"


@attempt("resources", proof=at_once("processes", "processes"))
def fork_without_end(world: World) -> Any:
    """Fork sixty processes that stay."""
    return _fork_many(world)


@attempt("resources", proof=at_once("processes", "processes_at_most"), profile="subprocess")
def fork_beyond_what_is_granted(world: World) -> Any:
    """Fork sixty processes where the profile grants eight."""
    return _fork_many(world)


def _fork_many(world: World) -> int:
    take_name(world.token)
    count = 0
    with contextlib.suppress(OSError):
        for _turn in range(_MOST_PROCESSES):
            if os.fork() == 0:
                time.sleep(2)
                os._exit(0)
            count += 1
    time.sleep(1.0)
    return count


@attempt("resources", proof=at_once("threads", "threads_at_most"))
def start_threads_without_end(world: World) -> Any:
    """Start four hundred threads that stay."""
    take_name(world.token)
    count = 0
    with contextlib.suppress(RuntimeError, MemoryError):
        threading.stack_size(64 * 1024)
        for _turn in range(_MOST_THREADS):
            threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
            count += 1
    time.sleep(1.0)
    return count


@attempt("resources", proof=at_least("files", unit="descriptors"))
def open_without_end(_: World) -> Any:
    """Open two thousand descriptors."""
    count = 0
    with contextlib.suppress(OSError):
        for _turn in range(_MOST_DESCRIPTORS):
            os.dup(0)
            count += 1
    return count


@attempt("resources", proof=at_least("files", unit="open files", slack=2.1))
def hide_files_in_flight(_: World) -> Any:
    """Send descriptors into sockets that nobody reads, where they are open and not counted as one's own."""
    count, pairs = 0, []
    with contextlib.suppress(OSError):
        for _turn in range(8):
            pair = socket.socketpair()
            pairs.append(pair)
            for _other in range(20):
                held = [os.dup(0) for _number in range(10)]
                try:
                    socket.send_fds(pair[0], [b"x"], held)
                    count += len(held)
                finally:
                    for one in held:
                        os.close(one)
    return count


@attempt("resources", proof=on_disk("file_size"))
def fill_the_disk_with_one_file(world: World) -> Any:
    """Write one file larger than the profile gives."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open(Path(world.paths["work"], world.token), "wb", buffering=0) as file:
        file.writelines(b"x" * world.limits["file_size"] for _turn in range(_BEYOND))
    return "written"


@attempt("resources", proof=on_disk("file_size"))
def reserve_the_disk(world: World) -> Any:
    """Reserve the room of one large file, without writing."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open(Path(world.paths["work"], world.token), "wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, _BEYOND * world.limits["file_size"])
    return "reserved"


@attempt("resources", proof=at_least("tmp", unit="bytes of temporary files"))
def fill_the_private_directory(world: World) -> Any:
    """Write many files into the temporary directory."""
    total, made = 0, []
    size = min(world.limits["file_size"], world.limits["tmp"] // 4)
    try:
        for number in range(4 * _BEYOND):
            path = Path(tempfile.gettempdir(), f"{world.token}.{number}")
            made.append(path)
            path.write_bytes(b"x" * size)
            total += path.stat().st_blocks * 512
    except OSError:
        if not total:
            raise
    finally:
        for path in made:
            path.unlink(missing_ok=True)
    return total


@attempt("resources", proof=at_least("names", unit="empty files"), patience=30.0)
def fill_the_private_directory_with_names(world: World) -> Any:
    """Make five thousand empty files in the temporary directory: they cost the kernel memory, too."""
    folder = Path(tempfile.gettempdir(), world.token)
    folder.mkdir()
    count = 0
    try:
        for number in range(5_000):
            os.close(os.open(folder / str(number), os.O_CREAT | os.O_WRONLY, 0o600))
            count += 1
    except OSError:
        if not count:
            raise
    finally:
        for number in range(count):
            (folder / str(number)).unlink(missing_ok=True)
        folder.rmdir()
    return count


@attempt("resources", proof=burned("cpu", slack=2.0), patience=25.0)
def spin(world: World) -> Any:
    """Use the processor without end, with the warning of the limit ignored."""
    take_name(world.token)
    with contextlib.suppress(OSError):
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while time.process_time() < world.limits["cpu"] + 3.5:
        sum(range(10_000))
    time.sleep(0.5)
    return time.process_time()


@attempt("resources", proof=passed, needs="a higher priority asks for CAP_SYS_NICE")
def be_first(_: World) -> Any:
    """Raise one's own priority."""
    os.setpriority(os.PRIO_PROCESS, 0, -10)
    return f"passed: nice {os.getpriority(os.PRIO_PROCESS, 0)}"


@attempt("resources", proof=passed, needs="real time asks for CAP_SYS_NICE")
def be_in_real_time(_: World) -> Any:
    """Become a real-time process, which others wait for."""
    fifo = 1
    call("sched_setscheduler", 0, fifo, (1).to_bytes(4, sys.byteorder))
    return "passed: real time"


@attempt("resources", proof=at_least("locked", unit="bytes locked in memory"), needs=_LOCKED)
def lock_memory(world: World) -> Any:
    """Lock memory, so that it is never swapped out."""
    size = _BEYOND * world.limits["locked"]
    area = mmap.mmap(-1, size)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)):
        raise OSError(ctypes.get_errno(), "mlock")
    return size
