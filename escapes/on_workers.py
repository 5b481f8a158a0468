"""The worker itself, by all that a task process may send it: frames, descriptors, output, results."""

from __future__ import annotations

import array
import contextlib
import ctypes
import logging
import os
import pickle
import signal
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cardoon.worker.ipc import FrameType, pack_frame
from escapes.calls import call
from escapes.matrix import Act, attempt
from escapes.proofs import (
    described_by_length,
    forged_line,
    grown,
    marker,
    nothing_more,
    others_answered,
)
from escapes.world import World

_PREFIX = struct.Struct("!B3xII")
_GIB = 1 << 30
_MIB = 1 << 20
_NO_CONTROL = "only a worker has somebody to send it to; what must hold is that it goes on"


def _channel() -> socket.socket:
    """What connects this process with its worker."""
    for number in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return socket.socket(fileno=os.dup(number))
        except OSError:
            continue
    raise LookupError("no socket is open")


def _send(content: bytes, *, times: int = 1, pause: float = 0.0) -> str:
    """To the worker, until it has had enough."""
    channel = _channel()
    channel.settimeout(5)
    count = 0
    with contextlib.suppress(OSError):
        for _turn in range(times):
            channel.sendall(content)
            count += len(content)
            time.sleep(pause)
    return f"sent {count} bytes"


def _enter(**options: Any) -> Callable[[Act], Act]:
    return attempt(
        "worker", worker_only=True, needs=_NO_CONTROL, **{"proof": nothing_more, **options}
    )


def _frame(kind: int, head: int, body: int) -> bytes:
    return _PREFIX.pack(kind, head, body)


@_enter()
def frame_of_four_gigabytes(_: World) -> Any:
    """Announce a result of four gigabytes."""
    return _send(_frame(FrameType.OUTCOME, 64, 0xFFFFFFFF) + bytes(65536))


@_enter()
def head_of_four_gigabytes(_: World) -> Any:
    """Announce a head of four gigabytes."""
    return _send(_frame(FrameType.OUTCOME, 0xFFFFFFFF, 0) + bytes(65536))


@_enter(patience=30.0)
def result_of_a_gigabyte(_: World) -> Any:
    """Send a gigabyte as a result, frame by frame of what is permitted, for as long as it is read."""
    return _send(_frame(FrameType.OUTCOME, 2, 200 * _MIB) + b"{}" + bytes(_MIB), times=1000)


@_enter()
def frames_slowly(_: World) -> Any:
    """Send the beginning of a frame, a byte at a time."""
    return _send(_frame(FrameType.OUTCOME, 1000, 0)[:1], times=40, pause=0.05)


@_enter()
def frames_of_junk(_: World) -> Any:
    """Send random bytes."""
    return _send(os.urandom(65536))


@_enter()
def frames_of_no_kind(_: World) -> Any:
    """Send frames of numbers that mean nothing, or that only others may send."""
    head = b'{"pid":1,"code":0,"index":0}'
    kinds = [0, 99, 255, FrameType.FORKED, FrameType.DIED, FrameType.REPORT, FrameType.JOB]
    return _send(b"".join(_frame(kind, len(head), 0) + head for kind in kinds))


@_enter()
def frames_of_those_who_fork(_: World) -> Any:
    """Tell the worker that a process has died which has not."""
    return _send(pack_frame(FrameType.DIED, {"pid": os.getpid(), "code": 0}), times=100)


class _Bomb:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (self._command,))


@_enter(proof=marker("outside"))
def frames_of_pickle(world: World) -> Any:
    """Send a result that runs a command where it is unpickled."""
    bomb = pickle.dumps(_Bomb(f"touch {world.paths['outside']}/{world.token}"))
    head = {
        "kind": "succeeded",
        "codec": "pickle",
        "content_type": "application/x-python-serialize",
    }
    return [
        _send(bomb),
        _send(b"".join(pack_frame(FrameType.OUTCOME, {**head, "key": n}, bomb) for n in range(50))),
    ]


@_enter(patience=20.0)
def flood_of_frames(_: World) -> Any:
    """Send a hundred thousand frames that are permitted."""
    return _send(pack_frame(FrameType.STATE, {"key": 1}, b"{}") * 1000, times=100)


@_enter(patience=20.0)
def flood_of_readies(_: World) -> Any:
    """Say again and again that one is ready for a job."""
    return _send(pack_frame(FrameType.READY, {"pid": os.getpid()}) * 1000, times=20)


@_enter(proof=grown("descriptors", by=20), patience=20.0)
def flood_of_descriptors(_: World) -> Any:
    """Send thousands of descriptors along with bytes of a frame."""
    channel = _channel()
    channel.settimeout(5)
    held = array.array("i", [0] * 50)
    count = 0
    with contextlib.suppress(OSError):
        channel.sendall(_frame(FrameType.STATE, 100, 100))
        for _turn in range(150):
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, held)]
            channel.sendmsg([b"x"], rights)
            count += len(held)
    time.sleep(0.5)
    return f"sent {count} descriptors"


@_enter(proof=others_answered)
def results_of_others(_: World) -> Any:
    """Answer for all other tasks that may be running."""
    head = {"kind": "succeeded", "outcome": "succeeded", "runtime": 0.1, "codec": "json"}
    return _send(
        b"".join(pack_frame(FrameType.OUTCOME, {**head, "key": n}, b'"forged"') for n in range(500))
    )


@_enter()
def two_results(_: World) -> Any:
    """Answer twice."""
    head = {"key": 1, "kind": "succeeded", "runtime": 0.1}
    return _send(pack_frame(FrameType.OUTCOME, head, b"1"), times=2)


@_enter()
def heads_of_strange_types(_: World) -> Any:
    """Send heads whose members are of other types than they should be."""
    strange: list[Any] = [
        None,
        True,
        -1,
        1 << 70,
        1.5,
        "",
        [],
        {},
        [[[]]],
        {"a": {"b": 1}},
        "x" * 1000,
    ]
    names = ("key", "kind", "runtime", "pid", "reason", "eta", "countdown", "error")
    kinds = [kind for kind in FrameType if 16 <= kind <= 26]
    content = b"".join(
        pack_frame(kind, {name: value, "key": 1})
        for kind in kinds
        for name in names
        for value in strange
    )
    return _send(content)


@_enter()
def heads_without_end(_: World) -> Any:
    """Send a head of lists in lists, a hundred thousand deep."""
    deep = b"[" * 100_000
    return _send(_frame(FrameType.OUTCOME, len(deep), 0) + deep)


@_enter()
def head_of_a_long_number(_: World) -> Any:
    """Send a number of a million digits."""
    number = b'{"key":' + b"9" * 1_000_000 + b"}"
    return _send(_frame(FrameType.OUTCOME, len(number), 0) + number)


@_enter(proof=described_by_length("output"))
def result_beyond_the_limit(_: World) -> Any:
    """Return eight times what the profile lets a result have."""
    return "x" * (8 * _MIB)


@_enter()
def result_without_end(_: World) -> Any:
    """Return lists in lists."""
    found: list[Any] = []
    for _turn in range(100_000):
        found = [found]
    return found


@_enter()
def no_result(_: World) -> Any:
    """End without an answer."""
    os._exit(0)


@_enter()
def crash(_: World) -> Any:
    """Read at an address where there is nothing."""
    ctypes.string_at(0)


@_enter()
def kill_itself(_: World) -> Any:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


@_enter()
def close_everything(_: World) -> Any:
    """Close all descriptors, and stay."""
    os.closerange(0, 1024)
    time.sleep(3)


@_enter()
def stop_itself(_: World) -> Any:
    """Stop, so that no signal but SIGKILL ends it."""
    os.kill(os.getpid(), signal.SIGSTOP)


@_enter()
def exit_the_interpreter(_: World) -> Any:
    """Raise SystemExit in the task."""
    sys.exit(3)


_LINE = "FORGED CRITICAL the worker was "


@_enter(proof=forged_line)
def forge_lines_of_the_log(world: World) -> Any:
    """Print lines that look like the worker's own, and what clears a terminal."""
    text = (
        f"\n{world.token} {_LINE}\r{world.token} {_LINE}\x1b[2J\x1b[1;1H\x9b2J\u2028{world.token}\n"
    )
    print(text, flush=True)
    os.write(1, text.encode())
    os.write(2, text.encode())
    return "printed"


@_enter(proof=forged_line)
def forge_lines_by_logging(world: World) -> Any:
    """The same by the logging module."""
    text = f"\n{world.token} {_LINE}\x1b[2J\u2028{world.token}"
    logging.getLogger("escapes").critical("%s", text)
    logging.getLogger(text).critical("x")
    return "logged"


@_enter(proof=forged_line)
def forge_lines_by_an_error(world: World) -> Any:
    """The same by the name and the text of an exception."""
    text = f"\n{world.token} {_LINE}\x1b[2J\u2028{world.token}"
    raise type(f"Error{text}", (Exception,), {"__module__": text})(text)


@_enter(proof=grown("log", by=4 * _MIB), patience=60.0)
def flood_the_log(_: World) -> Any:
    """Print five hundred megabytes."""
    line = (b"x" * 199 + b"\n") * 5000
    with contextlib.suppress(OSError):
        for _turn in range(500):
            os.write(1, line)
    return "printed"


@_enter(proof=grown("log", by=4 * _MIB), patience=60.0)
def flood_the_log_without_lines(_: World) -> Any:
    """Print a hundred megabytes in one line."""
    with contextlib.suppress(OSError):
        for _turn in range(100):
            os.write(2, b"x" * _MIB)
    return "printed"


@_enter(proof=forged_line)
def forge_lines_by_a_refusal(world: World) -> Any:
    """Ask for what is refused, by names that would be lines of the log."""
    text = f"\n{world.token} {_LINE}\x1b[2J\u2028{world.token}"
    with contextlib.suppress(OSError):
        call("mount", text, text, text, 0, None)
    with contextlib.suppress(OSError):
        os.execv(f"/bin/sh{text}", ["sh"])
    closed = Path(world.paths["work"], f"{world.token}{text}")
    closed.touch(mode=0)
    return closed.read_text()


@_enter(patience=20.0)
def flood_of_refusals(_: World) -> Any:
    """Ask thirty thousand times for what is refused."""
    for _turn in range(30_000):
        with contextlib.suppress(OSError):
            call("socket", socket.AF_NETLINK, socket.SOCK_RAW, 0)
    return "asked"


@_enter(patience=20.0)
def flood_of_refusals_by_threads(_: World) -> Any:
    """The same by ten threads at once, while the process ends."""

    def ask() -> None:
        while True:
            with contextlib.suppress(OSError):
                call("socket", socket.AF_NETLINK, socket.SOCK_RAW, 0)

    threading.stack_size(256 * 1024)
    for _turn in range(10):
        threading.Thread(target=ask, daemon=True).start()
    time.sleep(0.5)
    return "asked"


@_enter(profile="listed", patience=20.0)
def connect_to_strange_addresses(world: World) -> Any:
    """Connect to addresses that are not there, are too long, or are no addresses."""
    sock = socket.socket()
    good = struct.pack("=H", socket.AF_INET) + struct.pack("!H", world.ports["broker"])
    good += socket.inet_aton("127.0.0.1") + bytes(8)
    family = struct.pack("=H", 65535)
    for address, size in (
        *((None, 16), (None, 0), (good, 1 << 31), (good, -1), (good, 0), (good, 1), (good, 3)),
        *((8, 16), (-4096, 16), (1 << 46, 128), (family + bytes(126), 128), (good * 1000, 16000)),
        *((bytes(200), 128), (b"\x01\x00" + b"\xff" * 126, 128), (b"\x0a\x00" + b"\xff" * 26, 28)),
    ):
        for descriptor in (sock.fileno(), -1, 0, 1 << 30):
            with contextlib.suppress(OSError):
                call("connect", descriptor, address, size)
    return "asked"
