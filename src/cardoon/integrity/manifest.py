"""How a baseline is written: a head, a line for each file in the order of a walk, and a count.

Each line is JSON. The lines of two equal files are equal bytes, so that most of a check reads none of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from cardoon.exceptions import ImproperlyConfigured, SecurityError
from cardoon.integrity.rules import Rules, parse_rules

FORMAT = 1
MAX_LINE = 256 * 1024
"""Bytes; extended attributes are the longest part of one."""
ANY_HOST = "*"
"""In place of a host's name: for files that are alike on many, as those of an image."""
UNREADABLE = "!"
"""Begins the content of a file that could not be read, before the reason."""
_DIGEST = re.compile(r"[0-9a-f]{64}|!.*", re.DOTALL)


class Entry(NamedTuple):
    """One file. Numbers that do not matter to its kind are 0."""

    path: str
    kind: str
    """`f`ile, `g`rowing file, `d`irectory, `m`ount point, `l`ink, `p`ipe, `s`ocket, `b`lock or `c`haracter device,
    or `-`: a root that is not there."""
    mode: int
    owner: int
    group: int
    links: int
    size: int
    modified: int
    """Nanoseconds, as is `status_changed`."""
    status_changed: int
    inode: int
    content: str
    """SHA-256 of a file; where a link leads; the number of a device."""
    extended: Mapping[str, str]
    """Extended attributes, such as access lists and capabilities, as hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a baseline is: which one, of which host, made when, by which rules."""

    serial: int
    host: str
    created: str
    rules: Rules

    def __post_init__(self) -> None:
        if not 1 <= self.serial < 2**53:
            raise SecurityError(f"baseline: serial {self.serial}; it begins with 1 and goes up")

    def to_line(self) -> bytes:
        """The first line of the file."""
        told = {
            "cardoon-baseline": FORMAT,
            "serial": self.serial,
            "host": self.host,
            "created": self.created,
            "rules_digest": self.rules.digest(),
            "rules": self.rules.to_mapping(),
        }
        return json.dumps(told, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read the first line; `SecurityError` unless it is a head."""
        match _load(line):
            case {
                "cardoon-baseline": int() as version,
                "serial": int() as serial,
                "host": str() as host,
                "created": str() as created,
                "rules": dict() as rules,
            }:
                if version != FORMAT:
                    raise SecurityError(f"baseline: format {version}; this version reads {FORMAT}")
                try:
                    return cls(serial, host, created, parse_rules(rules, where="baseline"))
                except ImproperlyConfigured as error:
                    raise SecurityError(str(error)) from error
            case _:
                raise SecurityError("baseline: the first line is no head; is it the right file?")


def foot(count: int) -> bytes:
    """The last line, without which a file that was cut off would read as a shorter one."""
    return json.dumps({"entries": count}).encode() + b"\n"


def is_foot(line: bytes, count: int) -> bool:
    """Whether this is the last line of a file with so many entries."""
    return line == foot(count)


def parse_entry(line: bytes) -> Entry:
    """Read a line; `SecurityError` unless it is one of a file."""
    match _load(line):
        case [
            str() as path,
            str() as kind,
            int() as mode,
            int() as owner,
            int() as group,
            int() as links,
            int() as size,
            int() as modified,
            int() as changed,
            int() as inode,
            str() as content,
            dict() as extended,
        ] if kind not in "fg" or _DIGEST.fullmatch(content):
            return Entry(
                path,
                kind,
                mode,
                owner,
                group,
                links,
                size,
                modified,
                changed,
                inode,
                content,
                extended,
            )
        case _:
            raise SecurityError("baseline: a line that describes no file; make it anew")


def _load(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SecurityError("baseline: a line that is no JSON; is it the right file?") from error
