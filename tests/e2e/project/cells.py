"""Tasks that try what a process of their own must bear: they remember, talk, fork and lie."""

import contextlib
import ctypes
import gc
import json
import logging
import os
import random
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

from work import app

from cardoon import Task
from cardoon.utils.log import get_task_logger
from cardoon.worker.ipc import FrameType, pack_frame

logger = get_task_logger(__name__)
if sandbox := os.environ.get("CELL_SANDBOX"):
    app.conf.worker_sandbox = json.loads(sandbox)
memory: list[str] = []


@app.task(name="work.whoami")
def whoami() -> list:
    """Process, parent, user, and something random."""
    return [os.getpid(), os.getppid(), os.getuid(), random.random()]


@app.task(name="work.remember")
def remember(text: str) -> list:
    """What is left here of earlier tasks: in the module, and in any list of this process."""
    found = {
        one for kept in gc.get_objects() if isinstance(kept, list) for one in kept if is_left(one)
    }
    memory.append(text)
    return [memory[:-1], sorted(found - {text})]


def is_left(found: object) -> bool:
    return isinstance(found, str) and found.startswith("secret-")


@app.task(name="work.speak")
def speak(*lines: str) -> None:
    for line in lines:
        print(line)


@app.task(name="work.chatter")
def chatter(count: int) -> None:
    sys.stdout.write("x" * count)
    sys.stderr.write("\n")


@app.task(name="work.log_lines")
def log_lines(text: str) -> None:
    logger.error("of the task: %s", text)
    logging.getLogger("somewhere").info("of a library: %s", text)
    try:
        int(text)
    except ValueError:
        logger.exception("caught")


@app.task(name="work.leave_daemon")
def leave_daemon() -> int:
    """Start a process that has left its session and its parent."""
    child = subprocess.run(
        [sys.executable, "-c", _DAEMON], stdout=subprocess.PIPE, text=True, check=True
    )
    return int(child.stdout)


@app.task(name="work.open_descriptors")
def open_descriptors() -> list:
    """What is open, by kind; output and error as one if they are."""
    found = []
    for number in range(256):
        with contextlib.suppress(OSError):
            found.append(stat.S_IFMT(os.fstat(number).st_mode))
    kinds = {stat.S_IFCHR: "device", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return [kinds.get(one, "other") for one in found]


@app.task(name="work.die_of")
def die_of(path: str, how: str) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write("here\n")
    if how == "fault":
        ctypes.string_at(8)
    os._exit(7)


@app.task(name="work.long_result")
def long_result(size: int) -> str:
    return "x" * size


@app.task(name="work.lie", bind=True, max_crashes=1)
def lie(self: Task, how: str) -> str:
    """Speak to the worker past Cardoon, as a task that has been taken over would."""
    channel = _channel()
    match how:
        case "huge":
            channel.sendall(b"\x11\0\0\0\0\0\0\2\xff\xff\xff\xff{}")
        case "junk":
            channel.sendall(b"\xff" * 4096)
        case "unknown":
            channel.sendall(b"\x7f\0\0\0\0\0\0\2\0\0\0\0{}")
        case "zygote":
            channel.sendall(pack_frame(FrameType.DIED, {"index": 1, "pid": 1, "code": 0}))
        case "flood":
            frame = pack_frame(
                FrameType.STATE, {"id": self.request.id, "state": "P", "codec": "json"}
            )
            with contextlib.suppress(OSError):
                while True:
                    channel.sendall(frame * 100)
        case "unanswered":
            for number in range(10_000, 20_000):
                head = {"n": number, "timeout": 1.0, "handles": []}
                channel.sendall(pack_frame(FrameType.WAIT, head))
        case "descriptors":
            for _ in range(8):  # bytes: less than the head of a frame, which would be a wrong one
                with contextlib.suppress(OSError):
                    socket.send_fds(channel, [b""], [0, 1, 2] * 50)
                    socket.send_fds(channel, [b"\x10"], [0, 1, 2] * 50)
        case "twice":
            head = {"key": _job_key(self), "runtime": 0.1, "kind": "succeeded"}
            first = pack_frame(FrameType.OUTCOME, head, json.dumps({"result": "first"}).encode())
            second = pack_frame(FrameType.OUTCOME, head, json.dumps({"result": "second"}).encode())
            channel.sendall(first + second)
        case "still talking":
            wrong = pack_frame(FrameType.WAIT, {"n": "none"})
            head = {"key": _job_key(self), "runtime": 0.1, "kind": "succeeded"}
            answer = pack_frame(FrameType.OUTCOME, head, b'{"result": "believed"}')
            channel.sendall(wrong)
            if os.fork() == 0:  # says more while this process is killed; not at other levels
                while True:
                    channel.sendall(answer)
        case "other":
            head = {"key": 1 << 40, "runtime": 0.1, "kind": "succeeded"}
            channel.sendall(pack_frame(FrameType.OUTCOME, head, b'{"result": 1}'))
    time.sleep(60)
    return "nobody minded"


@app.task(name="work.fetch")
def fetch(host: str, port: int, text: str) -> str:
    """What an echo server there sends back."""
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile() as file:
            return file.read()


@app.task(name="work.fetch_or_say")
def fetch_or_say(host: str, port: int) -> str:
    try:
        return fetch.run(host, port, "hello")
    except OSError as error:
        return type(error).__name__


@app.task(name="work.fetch_without_end")
def fetch_without_end(host: str, port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            fetch.run(host, port, "x")


@app.task(name="work.wait_and_fetch")
def wait_and_fetch(path: str, go: str, host: str, port: int) -> str:
    """Say that it has begun, wait until it may, then fetch."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write("begun\n")
    while not Path(go).exists():
        time.sleep(0.02)
    return fetch.run(host, port, "at last")


def _channel() -> socket.socket:
    """This process's end of its channel to the worker."""
    for number in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return socket.socket(fileno=number)
    raise LookupError


def _job_key(task: Task) -> int:
    frame = sys._getframe()
    while frame is not None:
        head = getattr(frame.f_locals.get("frame"), "head", None)
        if isinstance(head, dict) and "key" in head:
            return head["key"]
        frame = frame.f_back
    raise LookupError(task)


_DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if pid := os.fork():
    print(pid, flush=True)
    os._exit(0)
sys.stdout = None
os.close(1)
time.sleep(300)
"""
