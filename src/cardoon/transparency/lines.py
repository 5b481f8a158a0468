"""The lines of a log, as leaves of its tree: read without holding more than a part of one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from cardoon.transparency.tree import Frontier

MAX_LINE_BYTES = 65_536
"""So much of a line is held; a record has less, and what is longer is nobody's record."""
PREV_CHARACTERS = 32
"""Of the hash of the line before, in hexadecimal: enough to say which line was changed."""
BEGIN = "audit.begin"
"""The record with which a file begins that goes on with a tree."""
_encoder = json.JSONEncoder(
    ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False
)


class Line(NamedTuple):
    """A line, and where it ends."""

    leaf: bytes
    """Its hash; of a torn one, the hash that it has with a newline."""
    text: bytes
    """At most `MAX_LINE_BYTES` of it."""
    end: int
    """The offset behind it."""
    is_whole: bool
    """Whether it ends with a newline."""

    def read(self) -> dict[str, Any]:
        """The record; empty for what is none."""
        try:
            record = json.loads(self.text)
        except (ValueError, RecursionError):
            return {}
        return record if isinstance(record, dict) else {}


def encode_record(entry: dict[str, object]) -> bytes:
    """A record as a line: keys sorted, ASCII only, no spaces."""
    try:
        return _encoder.encode(entry).encode("ascii") + b"\n"
    except ValueError:  # NaN and its like are no JSON
        plain = {
            name: str(value) if isinstance(value, float) else value for name, value in entry.items()
        }
        return _encoder.encode(plain).encode("ascii") + b"\n"


def read_lines(stream: IO[bytes], offset: int = 0) -> Iterator[Line]:
    """The lines of a file from an offset on."""
    stream.seek(offset)
    while text := stream.readline(MAX_LINE_BYTES):
        offset += len(text)
        digest = hashlib.sha256(b"\x00" + text)
        part = text
        while not part.endswith(b"\n"):
            part = stream.readline(MAX_LINE_BYTES)
            if not part:
                digest.update(b"\n")
                yield Line(digest.digest(), text, offset, is_whole=False)
                return
            offset += len(part)
            digest.update(part)
        yield Line(digest.digest(), text, offset, is_whole=True)


def shorten(leaf: bytes) -> str:
    """What a record says of the line before it."""
    return leaf[: PREV_CHARACTERS // 2].hex()


def describe_tree(tree: Frontier) -> str:
    """A frontier as the first record of a file holds it."""
    return "".join(node.hex() for node in tree.nodes)


def find_tree(line: Line) -> tuple[Frontier, str]:
    """The tree that a file goes on with, and the hash before, by its first line; the empty one if it says nothing."""
    record = line.read()
    if record.get("event") != BEGIN:
        return Frontier(), ""
    try:
        told, size = str(record["tree"]), int(record["seq"])
        nodes = [bytes.fromhex(told[at : at + 64]) for at in range(0, len(told), 64)]
        return Frontier(size, nodes), str(record["prev"])
    except (KeyError, ValueError, TypeError):
        return Frontier(), ""
