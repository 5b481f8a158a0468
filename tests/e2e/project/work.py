"""The app that the end-to-end tests run."""

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

from cardoon import Cardoon, Task
from cardoon.exceptions import Ignore, Reject, SoftShutdown, SoftTimeLimitExceeded
from cardoon.utils.log import get_task_logger

app = Cardoon("work")
logger = get_task_logger(__name__)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def touch(path: str, text: str = "") -> str:
    """Append a line to a file: a trace that outlives every process."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{text} {os.getpid()}\n")
    return text


@app.task
def fail(message: str) -> None:
    raise ValueError(message)


class HouseError(Exception):
    pass


@app.task
def fail_strangely() -> None:
    raise HouseError("only here")


@app.task(bind=True, max_retries=3)
def flaky(self: Task, successes_after: int) -> int:
    if self.request.retries < successes_after:
        raise self.retry(exc=ValueError("not yet"), countdown=0.01)
    return self.request.retries


@app.task(bind=True, max_retries=3)
def retry_changed(self: Task, number: int) -> int:
    if number < 3:
        raise self.retry(args=(number + 1,), countdown=0.01)
    return number


@app.task(autoretry_for=(ValueError,), retry_backoff=0.01, retry_jitter=False, max_retries=2)
def retried_by_itself(path: str) -> None:
    touch(path, "try")
    raise ValueError("always")


@app.task
def ignore() -> None:
    raise Ignore


@app.task
def reject(*, requeue: bool = False) -> None:
    raise Reject("not mine", requeue=requeue)


@app.task
def need(path: str) -> str:
    """Refuse the message until a file is there."""
    if not Path(path).exists():
        raise Reject("not there")
    return "there"


@app.task(bind=True)
def progress(self: Task, gate: str) -> str:
    self.update_state(state="PROGRESS", meta={"done": 1})
    wait_for(gate)
    return "all"


@app.task(bind=True)
def describe(self: Task) -> dict:
    request = self.request
    return {
        "id": request.id,
        "task": request.task,
        "retries": request.retries,
        "hostname": request.hostname,
        "headers": dict(request.headers),
        "origin": request.origin,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "timelimit": list(request.timelimit),
        "pid": os.getpid(),
        "fence": request.fence,
    }


@app.task
def variables() -> list[str]:
    return sorted(os.environ)


@app.task
def nested(x: int) -> str:
    return describe.delay().id


@app.task
def many(count: int) -> list[str]:
    return [result.id for result in add.send_many([(i, i) for i in range(count)])]


@app.task
def ask_other(x: int) -> int:
    return add.delay(x, 1).get(timeout=20, disable_sync_subtasks=False)


@app.task
def ask_other_wrongly(x: int) -> int:
    return add.delay(x, 1).get(timeout=20)


@app.task
async def sleep_async(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "awake"


@app.task
async def send_async(x: int) -> int:
    results = await asyncio.gather(*(add.adelay(x, i) for i in range(5)))
    return sum(await asyncio.gather(*results))


@app.task(soft_time_limit=0.2)
async def soft_async() -> str:
    try:
        await asyncio.sleep(30)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "slept"


@app.task(soft_time_limit=0.2)
def soft() -> str:
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "slept"


@app.task(time_limit=0.3)
def hard() -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        time.sleep(0.01)


@app.task
def hold(started: str, gate: str) -> str:
    """Say that it runs, and wait to be let go."""
    touch(started, "start")
    try:
        wait_for(gate)
    except SoftShutdown:
        touch(started, "shutdown")
        raise
    return "released"


@app.task
def say_late(text: str, started: str, gate: str) -> str:
    """Say that it runs, and say something when it is let go."""
    touch(started, "start")
    wait_for(gate)
    return text


@app.task
def die(path: str) -> None:
    touch(path, "die")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def leave(path: str) -> None:
    touch(path, "leave")
    os._exit(7)


@app.task(acks_late=False)
def once(path: str) -> None:
    touch(path, "once")
    os._exit(1)


@app.task(reject_on_worker_lost=False)
def fragile(path: str) -> None:
    touch(path, "fragile")
    os._exit(1)


@app.task
def pid() -> int:
    return os.getpid()


@app.task
def log(text: str) -> None:
    logger.info("%s", text)


@app.task
def hog(mebibytes: int) -> int:
    """Keep memory, as a leak does."""
    _leak.append(bytearray(os.urandom(1 << 20)) * mebibytes)
    return os.getpid()


_leak: list[bytearray] = []


@app.task
def echo(value: object) -> object:
    return value


@app.task
def unencodable() -> object:
    return threading.Lock()


@app.task(rate_limit=5)
def limited() -> float:
    return time.time()


@app.task(ignore_result=True)
def silent(path: str) -> None:
    touch(path, "silent")


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)
