"""Tasks that take turns, for the end-to-end tests."""

import os
import time
from pathlib import Path

from cardoon import Cardoon

app = Cardoon("work")


def note(path: str, *words: object) -> None:
    """Append a line to a file."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(" ".join(map(str, words)) + "\n")


@app.task(concurrency_limit=1)
def alone(path: str, number: int, until: str) -> int:
    """Say when it begins, and where, and when it ends: when a file is there."""
    note(path, "begin", number, os.getppid())
    while not Path(until).exists():
        time.sleep(0.02)
    time.sleep(0.05)
    note(path, "end", number)
    return number


@app.task(cluster_rate_limit="10/s")
def paced(path: str) -> None:
    """Say when it begins."""
    note(path, time.time())


@app.task(unique=True, unique_key="name")
def once(path: str, name: str, until: str) -> str:
    """Run until a file is there."""
    note(path, name)
    while not Path(until).exists():
        time.sleep(0.02)
    return name


@app.task
def send_twice(path: str, until: str) -> list[object]:
    """Send a unique task from within a task."""
    first, second = (once.delay(path, "inner", until) for _ in range(2))
    return [first.id == second.id, first.is_duplicate, second.is_duplicate]
