"""A project that uses every serializer, and types of its own in arguments and results."""

from __future__ import annotations

import dataclasses
import enum
import json
import os

from cardoon import Cardoon
from cardoon.serialization import register


def write(value: object) -> str:
    """A serializer of one's own is given values as they are, and makes of them what it likes."""
    return json.dumps(value, default=plain)[::-1]


def plain(value: object) -> object:
    return value.value if isinstance(value, enum.Enum) else dataclasses.asdict(value)


def read(text: str) -> object:
    return json.loads(text[::-1])


register("mirrored", write, read, content_type="application/x-mirrored")

SETTINGS = {
    "task_serializer": "msgpack",
    "accept_content": ["auth", "msgpack", "yaml", "pickle", "mirrored"],
    "unsafe_allow_pickle": True,
}
app = Cardoon("packed", state_directory=".cardoon", **SETTINGS)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Item:
    name: str
    colour: Colour
    parts: tuple[str, ...] = ()


@app.task
def paint(item: Item, colour: Colour) -> Item:
    """A copy in another colour, made where the task runs."""
    assert isinstance(item, Item), item
    return dataclasses.replace(item, colour=colour)


@app.task
def describe(value: object) -> str:
    return f"{type(value).__name__} in {'a task process' if os.getppid() != 1 else 'nowhere'}"


@app.task
def send_pickle() -> None:
    describe.apply_async((1,), serializer="pickle")
