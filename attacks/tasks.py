"""The canaries: tasks that write down that they ran, as what, and with which arguments."""

from __future__ import annotations

import time
from typing import Any

from attacks import diary
from cardoon import Cardoon, Task

app = Cardoon("attacks")


@app.task(name="canary.note", bind=True)
def note(self: Task[Any, Any], token: str, value: Any = None) -> list[Any]:
    """What most attacks are about."""
    diary.write("note", self.request.id, token, value)
    return [token, value]


@app.task(name="canary.guarded", bind=True)
def guarded(self: Task[Any, Any], token: str, value: Any = None) -> list[Any]:
    """The policy lets one client send it, and not the other."""
    diary.write("guarded", self.request.id, token, value)
    return [token, value]


@app.task(name="canary.gather", bind=True)
def gather(self: Task[Any, Any], parts: list[Any], token: str) -> list[Any]:
    """A chord's body."""
    diary.write("gather", self.request.id, token, parts)
    return parts


@app.task(name="canary.slow", bind=True)
def slow(self: Task[Any, Any], token: str, seconds: float) -> str:
    """Takes a while; what is written tells that it came to its end."""
    time.sleep(seconds)
    diary.write("slow", self.request.id, token, seconds)
    return token


@app.task(name="canary.fail", bind=True)
def fail(self: Task[Any, Any], token: str) -> None:
    """Fails."""
    diary.write("fail", self.request.id, token, None)
    raise ValueError(token)
