"""Tasks that reach for more than they may, and what settings say of that; BOXED holds further settings."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path

from cardoon import Cardoon, Sandbox

app = Cardoon("boxed")
app.conf.update(json.loads(os.environ.get("BOXED", "{}")))


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


@app.task
def write(path: str) -> None:
    Path(path).write_text("x", encoding="utf-8")


@app.task
def hide(path: str) -> str:
    """Try, and say nothing of it."""
    try:
        return read.run(path)
    except OSError as error:
        return type(error).__name__


@app.task
def call(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


@app.task
def look() -> dict[str, object]:
    return {"uid": os.getuid(), "environment": sorted(os.environ), "cwd": str(Path.cwd())}


@app.task
def send() -> str:
    return add.delay(1, 2).id


@app.task(reject_on_worker_lost=False)
def spin() -> None:
    while True:
        pass


@app.task
def hoard(size: int) -> int:
    return len(bytearray(size))


@app.task
def start(program: str) -> int:
    return subprocess.run([program], check=False).returncode


@app.task
def dance(times: int) -> None:
    """Ask again and again for what is refused."""
    for _ in range(times):
        with contextlib.suppress(OSError):
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


own = os.environ.get("BOXED_OWN")
if own:
    app.task(name="boxed.own", sandbox=Sandbox(**json.loads(own)))(read.run)
