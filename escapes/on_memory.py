"""Memory and environment of others: the worker, the process that forks tasks, a sibling, an earlier task."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import resource
import struct
from collections.abc import Callable, Iterator
from typing import Any

from escapes.calls import call
from escapes.matrix import attempt
from escapes.on_secrets import read
from escapes.proofs import core_file, passed, secret
from escapes.world import World

_SECRET = re.compile(rb"SECRET-[a-z]+-[0-9a-f]{16}")
_AREA_BYTES = 64 << 20
_TOTAL_BYTES = 512 << 20
_CHUNK_BYTES = 1 << 20
_PTRACE_SEIZE = 0x4206
_Reader = Callable[[int, int], bytes]


def _areas(pid: int | str) -> Iterator[tuple[int, int]]:
    """Begin and size of what a process has in memory and may write."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        for line in file:
            span, rights, *_ = line.split()
            begin, end = (int(part, 16) for part in span.split("-"))
            if rights.startswith("rw") and end - begin <= _AREA_BYTES:
                yield begin, end - begin


def _search(pid: int | str, reader: _Reader) -> list[str]:
    """Secrets in the memory of a process."""
    found: set[bytes] = set()
    total = 0
    for begin, size in _areas(pid):
        for offset in range(0, size, _CHUNK_BYTES):
            try:
                content = reader(begin + offset, min(_CHUNK_BYTES, size - offset))
            except OSError:
                break
            found.update(_SECRET.findall(content))
            total += len(content)
            if total > _TOTAL_BYTES:
                return sorted(one.decode() for one in found)
    assert total, "nothing could be read"
    return sorted(one.decode() for one in found)


def _by_file(pid: int | str) -> _Reader:
    held = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    return lambda begin, size: os.pread(held, size, begin)


def _by_call(pid: int) -> _Reader:
    def reader(begin: int, size: int) -> bytes:
        local = ctypes.create_string_buffer(size)
        here = struct.pack("PN", ctypes.addressof(local), size)
        there = struct.pack("PN", begin, size)
        count = call("process_vm_readv", pid, here, 1, there, 1, 0)
        return local.raw[:count]

    return reader


@attempt("memory", proof=secret("environ"))
def read_workers_environment(world: World) -> Any:
    """Read /proc/PID/environ of the worker."""
    return read(f"/proc/{world.pids['supervisor']}/environ")


@attempt("memory", proof=passed)
def read_parents_environment(world: World) -> Any:
    """Read /proc/PID/environ of the process that forks tasks."""
    found = read(f"/proc/{world.pids['parent']}/environ")
    assert found, "it is empty"
    return f"passed: {len(found)} bytes"


@attempt("memory", proof=passed)
def read_siblings_environment(world: World) -> Any:
    """Read /proc/PID/environ of another task's process."""
    found = read(f"/proc/{world.pids['sibling']}/environ")
    assert found, "it is empty"
    return f"passed: {len(found)} bytes"


@attempt("memory", proof=secret("environ", "memory"))
def search_workers_memory(world: World) -> Any:
    """Search the worker's memory by /proc/PID/mem."""
    pid = world.pids["supervisor"]
    return _search(pid, _by_file(pid))


@attempt("memory", proof=secret("environ", "memory"))
def search_workers_memory_by_call(world: World) -> Any:
    """The same by process_vm_readv."""
    pid = world.pids["supervisor"]
    return _search(pid, _by_call(pid))


@attempt("memory", proof=secret("sibling"))
def search_siblings_memory(world: World) -> Any:
    """Search another task's memory by /proc/PID/mem."""
    pid = world.pids["sibling"]
    return _search(pid, _by_file(pid))


@attempt("memory", proof=secret("sibling"))
def search_siblings_memory_by_call(world: World) -> Any:
    """The same by process_vm_readv."""
    pid = world.pids["sibling"]
    return _search(pid, _by_call(pid))


_KNOWN = b"SECRET is no secret" + bytes(45)
"""At the same address in all processes that are forked from where this was imported."""


@attempt("memory", proof=passed)
def read_sibling_at_a_known_address(world: World) -> Any:
    """Read another task's memory where siblings of one fork have the same, without asking for its map."""
    content = _by_call(world.pids["sibling"])(id(_KNOWN), 64)
    assert _KNOWN[:19] in content, f"read {content!r}"
    return "passed: read what was expected there"


@attempt("memory", proof=passed)
def write_siblings_memory(world: World) -> Any:
    """Write to another task's memory: nothing, but with all rights checked."""
    local = ctypes.create_string_buffer(_KNOWN, len(_KNOWN))
    here = struct.pack("PN", ctypes.addressof(local), 16)
    there = struct.pack("PN", id(_KNOWN) + bytes.__basicsize__ - 1, 16)
    count = call("process_vm_writev", world.pids["sibling"], here, 1, there, 1, 0)
    return f"passed: wrote {count} bytes"


@attempt("memory", proof=secret("memory"))
def search_own_memory(_: World) -> Any:
    """Search one's own memory for what the worker held when it forked."""
    return _search("self", _by_file("self"))


@attempt("memory", proof=secret("memory"))
def search_own_objects(_: World) -> Any:
    """Search all objects of the interpreter."""
    found = []
    for one in gc.get_objects():
        if type(one) in {dict, list, tuple}:
            values = one.values() if isinstance(one, dict) else one
            found += [
                item for item in values if isinstance(item, str) and item.startswith("SECRET-")
            ]
    return found[:100]


def _trace(pid: int) -> str:
    call("ptrace", _PTRACE_SEIZE, pid, 0, 0)
    return f"passed: traces {pid}"


@attempt("memory", proof=passed)
def trace_the_worker(world: World) -> Any:
    """Become the worker's debugger."""
    return _trace(world.pids["supervisor"])


@attempt("memory", proof=passed)
def trace_the_parent(world: World) -> Any:
    """Become the debugger of the process that forks tasks."""
    return _trace(world.pids["parent"])


@attempt("memory", proof=passed)
def trace_a_sibling(world: World) -> Any:
    """Become another task's debugger."""
    return _trace(world.pids["sibling"])


@attempt("memory", proof=secret("opened", "store"))
def take_the_workers_descriptors(world: World) -> Any:
    """Take the worker's open files by pidfd_getfd, and read them."""
    handle = os.pidfd_open(world.pids["supervisor"])
    found: list[bytes] = []
    last: OSError | None = None
    for number in range(3, 64):
        try:
            taken = call("pidfd_getfd", handle, number, 0)
            found += _SECRET.findall(os.pread(taken, 1 << 22, 0))
        except OSError as error:
            last = error
    if not found and last is not None:
        raise last
    return [one.decode() for one in found]


@attempt("memory", proof=passed)
def compare_with_the_worker(world: World) -> Any:
    """Ask kcmp whether one shares memory with the worker, which needs the rights of a debugger."""
    vm = 1
    return f"passed: {call('kcmp', os.getpid(), world.pids['supervisor'], vm, 0, 0)}"


@attempt("memory", proof=passed)
def list_the_workers_pages(world: World) -> Any:
    """Ask move_pages where the worker's memory lies."""
    return f"passed: {call('move_pages', world.pids['supervisor'], 0, None, None, None, 0)}"


@attempt("memory", proof=passed)
def find_the_workers_lists(world: World) -> Any:
    """Ask for an address inside the worker, by get_robust_list."""
    head, size = ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)
    call("get_robust_list", world.pids["supervisor"], head, size)
    return f"passed: {int.from_bytes(head.raw, 'little'):#x}"


@attempt("memory", proof=passed)
def list_processes(world: World) -> Any:
    """See the worker and its command line among all processes."""
    pid = str(world.pids["supervisor"])
    assert pid in os.listdir("/proc"), "the worker is not to be seen"
    return f"passed: {read(f'/proc/{pid}/cmdline')[:100]!r}"


@attempt("memory", proof=passed)
def watch_the_worker(world: World) -> Any:
    """Count the worker's instructions by perf_event_open."""
    event = _perf_event()
    return f"passed: {call('perf_event_open', event, world.pids['supervisor'], -1, -1, 0)}"


@attempt("memory", proof=passed)
def be_readable_again(_: World) -> Any:
    """Let others of the same user read one's memory, by PR_SET_DUMPABLE, and see whether it holds."""
    get, put = 3, 4
    call("prctl", put, 1, 0, 0, 0)
    assert call("prctl", get, 0, 0, 0, 0) == 1
    assert os.stat("/proc/self/mem").st_uid == os.getuid()
    os.close(os.open("/proc/self/mem", os.O_RDWR))
    return "passed: /proc/self/mem is open"


def _perf_event() -> bytes:
    software, only_user = 1, 1 | 1 << 5 | 1 << 6
    return struct.pack("IIQQQQQ", software, 112, 0, 0, 0, 0, only_user).ljust(112, b"\0")


@attempt("memory", proof=core_file)
def leave_a_core(world: World) -> Any:
    """Crash, and have the kernel write all memory into the granted directory."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    os.chdir(world.paths["work"])
    os.abort()
