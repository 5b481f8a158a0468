"""An app that writes down every signal that it receives: who sent it, where, and what was said."""

import json
import logging
import os
import time
from pathlib import Path

from cardoon import Cardoon, signals

app = Cardoon("signalled")
RECORD = Path("signals.jsonl")
MAX_TEXT = 200


@app.task(name="work.add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="work.fail")
def fail(message: str) -> None:
    raise ValueError(message)


@app.task(name="work.relay")
def relay() -> None:
    add.delay(20, 22)


@app.task(name="work.die")
def die() -> None:
    os._exit(3)


@app.task(name="work.sleep")
def sleep(seconds: float) -> None:
    time.sleep(seconds)


@app.task(name="work.headers", bind=True)
def headers(self) -> dict:
    return {"headers": dict(self.request.headers), "span": self.request.get("span")}


def record(signal: signals.Signal, sender: object, **payload: object) -> None:
    told = {name: str(value)[:MAX_TEXT] for name, value in payload.items()}
    line = {**told, "signal": signal.name, "sender": str(sender)}
    line |= {"pid": os.getpid(), "parent": os.getppid()}
    with RECORD.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


for _name in signals.__all__:
    _signal = getattr(signals, _name)
    if not _signal.never_sent and _name != "setup_logging":
        _signal.connect(record)


@signals.celeryd_init.connect
def configure(conf: object, **_: object) -> None:
    conf.task_time_limit = 4.0


@signals.before_task_publish.connect
def trace(headers: dict, **_: object) -> None:
    headers["span"] = "s-1"


@signals.worker_ready.connect
def call_a_task(**_: object) -> None:
    add.delay(1, 2)


@signals.worker_shutdown.connect
def call_another(**_: object) -> None:
    add.delay(3, 4)


@signals.after_setup_logger.connect
def note(logger: logging.Logger, **_: object) -> None:
    handler = logging.FileHandler("own.log")
    logger.addHandler(handler)
    logging.getLogger(__name__).warning("from my own handler")
