"""SQL text by name, and a whole batch as one or two parameters.

Every step of a statement hands the interpreter lock to whoever wants it, and with a thread that
computes, getting it back takes up to the switch interval, 5 ms. Sixty-four rows bound one by one
took 370 ms that way, and 20 ms as one statement. So a batch travels as one JSON document, read by
`json_each`, and one blob that `substr` cuts up; and rows come back as one row.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Any, TypeVar

from cardoon.exceptions import OperationalError

MAX_BATCH_ROWS = 1000
MAX_BATCH_BYTES = 16 * 2**20
"""What one statement carries at most, so that memory stays bounded (SQLite's limit is 10^9)."""

_MARK = "-- name: "
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_T = TypeVar("_T")


@functools.cache
def sql(name: str) -> str:
    """The text of a statement, such as `messages.insert` for that name in `messages.sql`."""
    area, _, statement = name.partition(".")
    return _read(area)[statement]


def names(area: str) -> Sequence[str]:
    """The names of all statements of an area."""
    return [f"{area}.{statement}" for statement in _read(area)]


def document(rows: Sequence[Any]) -> str:
    """Rows of numbers and text as JSON.

    Raises `OperationalError` for what SQLite's JSON cannot carry unchanged: a NUL character, which
    would cut the text short, and a number that is not finite.
    """
    try:
        text = _encode(rows)
    except ValueError as error:
        raise OperationalError(f"the store cannot keep this number: {error}") from error
    if "\\u0000" in text:
        raise OperationalError("the store cannot keep text with a NUL character; leave it out")
    return text


def join(parts: Iterable[bytes]) -> bytes:
    """The blob that `substr` cuts up again; never empty, since `substr` makes that NULL."""
    return b"".join((*parts, b"\0"))


def cut(parts: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Where each part lies in the joined blob, as `substr` counts: from 1, and its size."""
    offset = 1
    for part in parts:
        size = len(part)
        yield offset, size
        offset += size


def batches(items: Sequence[_T], frames: Sequence[bytes]) -> Iterator[tuple[Sequence[_T], bytes]]:
    """Runs of items small enough for one statement each, with their frames joined."""
    start = 0
    while start < len(items):
        end, size = start, 0
        while end < min(len(items), start + MAX_BATCH_ROWS):
            size += len(frames[end])
            if size > MAX_BATCH_BYTES and end > start:
                break
            end += 1
        yield items[start:end], join(frames[start:end])
        start = end


def load_schema(version: int) -> str:
    """The script that brings a file from the version before to this one."""
    folder = resources.files("cardoon.sqlite").joinpath("sql")
    return folder.joinpath(f"schema_{version}.sql").read_text("utf-8")


@functools.cache
def _read(area: str) -> dict[str, str]:
    text = resources.files("cardoon.sqlite").joinpath("sql", f"{area}.sql").read_text("utf-8")
    statements = {}
    for section in text.split(_MARK)[1:]:
        name, _, body = section.partition("\n")
        statements[name.strip()] = body.strip()
    return statements
