"""What a baseline covers: roots, what of them is left out, and files that may grow."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cardoon.exceptions import ImproperlyConfigured

ALL, CONTENT = "all", "content"
"""Attributes that are compared. `content` leaves out what differs from host to host though files are alike."""
_LISTS = ("roots", "exclude", "growing")


@dataclass(frozen=True, slots=True)
class Rules:
    """What is looked at. Patterns are globs of whole paths: `*` stays within a folder, `**` does not."""

    roots: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    """What is left out; of a folder, all that is in it."""
    growing: tuple[str, ...] = ()
    """Files that may become longer, as logs do, and keep what they had."""
    attributes: str = ALL

    def __post_init__(self) -> None:
        if not self.roots:
            raise ImproperlyConfigured("rules: no roots; name at least one file or folder")
        for path in self.roots:
            if os.path.normpath(path) != path or not os.path.isabs(path):  # noqa: PTH117 - text stays text
                raise ImproperlyConfigured(f"rules: root {path!r}; name it by its absolute path")
        for pattern in (*self.exclude, *self.growing):
            if not pattern.startswith(("/", "**/")):
                raise ImproperlyConfigured(
                    f"rules: pattern {pattern!r} fits no path; begin it with / or **/"
                )
        if self.attributes not in {ALL, CONTENT}:
            raise ImproperlyConfigured(
                f"rules: attributes = {self.attributes!r}; use {ALL!r} or {CONTENT!r}"
            )

    def to_mapping(self) -> dict[str, Any]:
        """As the head of a baseline has them."""
        return asdict(self)

    def digest(self) -> str:
        """SHA-256, by which two sets of rules are told apart."""
        written = json.dumps(self.to_mapping(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(written.encode()).hexdigest()

    def outermost_roots(self) -> list[str]:
        """The roots in the order of a walk, without those that lie in another."""
        found: list[str] = []
        for path in sorted(set(self.roots), key=sort_key):
            if not found or not (path + "/").startswith(found[-1].rstrip("/") + "/"):
                found.append(path)
        return found


def sort_key(path: str) -> str:
    """Orders paths by their parts, as a walk comes by them: what is in a folder follows it."""
    return path.replace("/", "\0")


def parse_rules(content: Mapping[str, Any], *, where: str) -> Rules:
    """Rules from a mapping; `ImproperlyConfigured` for what is unknown or no list of text."""
    known = {*_LISTS, "attributes"}
    for name in content:
        if name not in known:
            raise ImproperlyConfigured(
                f"{where}: unknown key {name!r}; use {', '.join(sorted(known))}"
            )
    lists: dict[str, tuple[str, ...]] = {}
    for name in _LISTS:
        value = content.get(name, ())
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            raise ImproperlyConfigured(f"{where}: {name} is not a list of strings")
        lists[name] = tuple(value)
    attributes = content.get("attributes", ALL)
    if not isinstance(attributes, str):
        raise ImproperlyConfigured(f"{where}: attributes is not text")
    return Rules(**lists, attributes=attributes)


def read_rules(path: str) -> Rules:
    """Rules from a TOML file."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a name that was typed
            content = tomllib.load(file)
    except OSError as error:
        raise ImproperlyConfigured(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{path}: no TOML: {error}") from error
    return parse_rules(content, where=path)


def make_matcher(patterns: tuple[str, ...]) -> Callable[[str], object] | None:
    """A function that says whether a path fits one of the patterns; None for no patterns."""
    if not patterns:
        return None
    return re.compile("|".join(map(_translate, patterns)), re.DOTALL).fullmatch


def _translate(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    meant = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(meant.get(part, re.escape(part)) for part in parts)
