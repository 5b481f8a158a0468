"""Tasks that log, as much as they like and whatever they like; LOGGED holds further settings."""

import asyncio
import json
import logging
import os
import signal
import threading
import time
from pathlib import Path

from cardoon import Cardoon
from cardoon.utils.log import get_task_logger
from cardoon.worker.task_log import TaskLogHandler

app = Cardoon("logged")
app.conf.update(json.loads(os.environ.get("LOGGED", "{}")))
plain = logging.getLogger(__name__)
tasks = get_task_logger(__name__)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def speak(word: str) -> None:
    plain.debug("%s: not this", word)
    plain.info("%s: by the way", word)
    tasks.warning("%s: mind this", word)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        plain.exception("%s: that was wrong", word)
    logging.getLogger("shop.till").critical("%s: call somebody", word)


@app.task
async def speak_slowly(word: str, times: int) -> None:
    for number in range(times):
        plain.warning("%s: %d", word, number)
        await asyncio.sleep(0.02)


@app.task
def speak_in_a_thread(word: str) -> None:
    thread = threading.Thread(target=plain.warning, args=("%s: from a thread", word))
    thread.start()
    thread.join()


@app.task
def speak_and_die(word: str) -> None:
    plain.warning("%s: farewell", word)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def chatter(times: int, folder: str = "") -> None:
    """Log as fast as can be; with a folder, once `go` is there, and say that it begins and has ended."""
    if folder:
        wait_for.run(folder)
    for number in range(times):
        plain.warning("number %d", number)
    if folder:
        (Path(folder) / "done").touch()


@app.task
def shout(times: int) -> None:
    """Write lines, which is no logging."""
    for number in range(times):
        print(f"line {number}")


@app.task
def wait_for(folder: str) -> None:
    (Path(folder) / "begun").touch()
    while not (Path(folder) / "go").exists():
        time.sleep(0.02)


@app.task
def forge(lines: list[str], logger: str, text: str) -> int:
    """Write into the pipe what no handler would, and log what looks like something else."""
    [handler] = [one for one in logging.getLogger().handlers if isinstance(one, TaskLogHandler)]
    for line in lines:
        os.write(handler._pipe, line.encode("latin-1"))
    logging.getLogger(logger).warning(text)
    return os.getpid()


@app.task
def connections() -> list[str]:
    """What the process holds open that leads to another host or program by TCP."""
    inodes = {line.split()[9] for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]}
    held = [str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
    return [one for one in held if one.removeprefix("socket:[").rstrip("]") in inodes]
