"""An app with a task for each option of a task, for a worker that shows what the option does."""

import os
import time
from pathlib import Path

import pydantic

from cardoon import Cardoon, Task

app = Cardoon(
    "options",
    set_as_current=False,
    task_queues=[
        "celery",
        {"name": "films", "exchange": "media", "routing_key": "video"},
        {"name": "songs", "exchange": "media", "routing_key": "audio"},
    ],
)


def note(path: str, text: str) -> None:
    """Append a line to a file: a trace that outlives every process."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


def adds(x: int, y: int = 0) -> int:
    return x + y


def notes(path: str, text: str = "") -> str:
    note(path, text)
    return text


@app.task(bind=True)
def describe(self: Task) -> dict:
    request = self.request
    return {
        name: getattr(request, name)
        for name in ("id", "headers", "retries", "max_retries", "root_id", "parent_id", "shadow")
    } | {
        "stamps": dict(request.stamps),
        "timelimit": list(request.timelimit),
        "expires": request.expires,
        "eta": request.eta,
        "queue": request.delivery_info.get("routing_key"),
        "priority": request.delivery_info.get("priority"),
        "at": time.time(),
    }


def waits(gate: str) -> str:
    wait_for(gate)
    return "released"


def fails(path: str, text: str = "fail") -> None:
    note(path, text)
    raise ValueError(text)


def spins() -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        time.sleep(0.01)


def calls(add_to_parent: bool = False) -> str:
    return describe.apply_async(add_to_parent=add_to_parent).id


nested = app.task(name="options.nested")(calls)
untrailed = app.task(name="options.untrailed", trail=False)(calls)


class Base(Task):
    """A base class with an option and a hook of its own."""

    def on_failure(self, exc, task_id, args, kwargs, einfo) -> None:
        note(args[0], f"on_failure {type(exc).__name__}")


def leave(path: str) -> None:
    note(path, "left")
    os._exit(1)


add = app.task(name="options.add")(adds)
told = app.task(name="options.told")(notes)
fail = app.task(name="options.fail")(fails)
spin = app.task(name="options.spin")(spins)

early = app.task(name="options.early", acks_late=False)(leave)
fragile = app.task(name="options.fragile", reject_on_worker_lost=False)(leave)
twice = app.task(name="options.twice", max_crashes=2)(leave)
kept = app.task(name="options.kept", acks_on_failure_or_timeout=False)(fails)
based = app.task(name="options.based", base=Base)(fails)
silent = app.task(name="options.silent", ignore_result=True)(fails)
silent_but = app.task(
    name="options.silent_but", ignore_result=True, store_errors_even_if_ignored=True
)(fails)
expected = app.task(name="options.expected", throws=(ValueError,))(fails)
autoretried = app.task(
    name="options.autoretried",
    autoretry_for=(ValueError,),
    retry_kwargs={"max_retries": 2, "countdown": 0.01},
)(fails)
not_autoretried = app.task(
    name="options.not_autoretried",
    autoretry_for=(Exception,),
    dont_autoretry_for=(ValueError,),
)(fails)


def stamp(path: str) -> None:
    note(path, repr(time.time()))
    raise ValueError(path)


RETRIED = {"autoretry_for": (ValueError,), "max_retries": 3, "retry_jitter": False}
backing_off = app.task(name="options.backing_off", retry_backoff=0.1, **RETRIED)(stamp)
bounded = app.task(name="options.bounded", retry_backoff=0.3, retry_backoff_max=0.1, **RETRIED)(
    stamp
)
jittery = app.task(name="options.jittery", retry_backoff=0.4, **{**RETRIED, "retry_jitter": True})(
    stamp
)
slow_to_retry = app.task(
    name="options.slow_to_retry",
    default_retry_delay=0.3,
    max_retries=1,
    autoretry_for=(ValueError,),
)(stamp)

spin_softly = app.task(name="options.spin_softly", soft_time_limit=0.2)(spins)
spin_hard = app.task(name="options.spin_hard", time_limit=0.3)(spins)
tracked = app.task(name="options.tracked", track_started=True)(waits)
elsewhere = app.task(name="options.elsewhere", queue="elsewhere")(adds)
packed = app.task(name="options.packed", compression="zlib")(adds)
written = app.task(name="options.written", serializer="json")(adds)
urgent = app.task(name="options.urgent", priority=9)(notes)
stale = app.task(name="options.stale", expires=0)(adds)
slowly = app.task(name="options.slowly", rate_limit="5/s")(time.time)
unchecked = app.task(name="options.unchecked", typing=False)(adds)


class Order(pydantic.BaseModel):
    number: int
    paid: bool = False


def order(order: Order) -> Order:
    """Seven is accepted as text where the model is not strict."""
    return Order(number=order.number, paid=True)


class Tagged(pydantic.BaseModel):
    tag: str

    @pydantic.field_validator("tag")
    @classmethod
    def add_context(cls, tag: str, info: pydantic.ValidationInfo) -> str:
        return f"{tag} {(info.context or {}).get('colour')}"


def tag_of(tagged: Tagged) -> str:
    return tagged.tag


modelled = app.task(name="options.modelled", pydantic=True)(order)
strictly = app.task(name="options.strictly", pydantic=True, pydantic_strict=True)(order)
briefly = app.task(
    name="options.briefly", pydantic=True, pydantic_dump_kwargs={"include": {"paid"}}
)(order)
in_context = app.task(
    name="options.in_context", pydantic=True, pydantic_context={"colour": "green"}
)(tag_of)


def queue_of(self: Task) -> str:
    return self.request.delivery_info["routing_key"]


bound_to = app.task(name="options.bound_to", bind=True, exchange="media", routing_key="audio")(
    queue_of
)
only_one = app.task(name="options.only_one", unique=True, unique_key="path")(notes)


def span(path: str, seconds: float = 0.2) -> list[float]:
    begun = time.time()
    time.sleep(seconds)
    return [begun, time.time()]


in_turn = app.task(name="options.in_turn", concurrency_limit=1, limit_key="path")(span)
measured = app.task(name="options.measured", cluster_rate_limit=5)(span)
spanning = app.task(name="options.spanning")(span)
