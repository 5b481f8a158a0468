"""Nodes of `cardoon multi`: which workers a command line names, and the options of each. Starts nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cardoon.exceptions import ImproperlyConfigured

MAX_NODES = 1000
"""Named by a number; each is a process with processes of its own."""

PREFIX = "celery"
"""Of nodes that are named by a number, as with Celery's `multi`."""

_RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", re.ASCII)
_NAME = re.compile(r"[\w.-]{1,200}(?:@[\w.-]{0,250})?")
_MARK = re.compile(r"%(.)")


class Option(NamedTuple):
    """An option of the worker's."""

    name: str
    """Its longest name, by which all its names are one."""
    takes_value: bool


class Node(NamedTuple):
    """One worker."""

    name: str
    """`short@host`."""
    options: tuple[tuple[str, str | None], ...]
    """With their values; None for a flag. Placeholders are replaced."""

    def value(self, option: str) -> str | None:
        """The value of an option that it has."""
        return dict(self.options).get(option)

    def expand(self, text: str) -> str:
        """A text with its placeholders replaced: %n %N %p %h %d %i %I, and %% for a percent sign."""
        short, _, host = self.name.partition("@")
        marks = {
            "n": short,
            "N": short,
            "p": self.name,
            "h": host,
            "d": host.partition(".")[2],
            "i": "0",  # the number of a process; here all of a worker write one log
            "I": "",
            "%": "%",
        }
        return _MARK.sub(lambda found: marks.get(found[1], found[0]), text)


class Words(NamedTuple):
    """A command line, taken apart."""

    names: tuple[str, ...]
    general: Mapping[str, str | None]
    """Options of all nodes."""
    special: tuple[tuple[str, str, str | None], ...]
    """Options of some: which, the option, its value; in the order in which they were given."""
    rest: tuple[str, ...]
    """What stands behind `--`."""


def parse_words(words: Sequence[str], options: Mapping[str, Option]) -> Words:
    """Take a command line apart; `ImproperlyConfigured` for an option that no worker has."""
    names: list[str] = []
    general: dict[str, str | None] = {}
    special: list[tuple[str, str, str | None]] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            names.append(word)
            continue
        given, which, value = _split(word)
        option = options.get(given)
        if option is None:
            raise ImproperlyConfigured(f"multi: {_unknown(given, options)}")
        if not option.takes_value:
            if value is not None:
                raise ImproperlyConfigured(
                    f"multi: {given} takes no value, and {value!r} was given"
                )
        elif value is None:
            if not left:
                raise ImproperlyConfigured(f"multi: {word} needs a value")
            value = left.pop(0)
        if which is None:
            general[option.name] = value
        else:
            special.append((which, option.name, value))
    return Words(tuple(names), general, tuple(special), tuple(left))


def _split(word: str) -> tuple[str, str | None, str | None]:
    """An option's name, the nodes that it is for, and its value, as far as the word has them."""
    if word.startswith("--"):
        head, mark, value = word.partition("=")
        name, colon, which = head.partition(":")
        return name, which if colon else None, value if mark else None
    name, behind = word[:2], word[2:]
    if behind.startswith(":"):
        which, mark, value = behind[1:].partition("=")
        return name, which, value if mark else None
    return name, None, behind.removeprefix("=") or None


def _unknown(given: str, options: Iterable[str]) -> str:
    close = difflib.get_close_matches(given, options, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"no option {given!r} of `cardoon worker`{hint}; `cardoon worker --help` shows them"


def name_nodes(
    names: Sequence[str], *, host: str, prefix: str = "", range_prefix: str = PREFIX
) -> list[str]:
    """The full names of nodes: of those that are named, or of as many as one number says."""
    if len(names) == 1 and names[0].isdecimal():
        count = int(names[0])
        if not 0 < count <= MAX_NODES:
            raise ImproperlyConfigured(
                f"multi: {names[0]} nodes; give a number from 1 to {MAX_NODES}"
            )
        return [f"{range_prefix}{number}@{host}" for number in range(1, count + 1)]
    made = []
    for name in names:
        if not _NAME.fullmatch(name):
            raise ImproperlyConfigured(
                f"multi: {name!r} is no name of a node; write letters, digits, '_', '.' or '-', and "
                "perhaps @HOST"
            )
        short, _, own = name.partition("@")
        made.append(f"{short}@{own or host}" if "@" in name else f"{prefix}{short}@{host}")
    twice = next((name for name in made if made.count(name) > 1), None)
    if twice is not None:
        raise ImproperlyConfigured(f"multi: two nodes are called {twice!r}; give each its own name")
    return made


def make_nodes(
    words: Words,
    names: Sequence[str],
    *,
    defaults: Mapping[str, str],
) -> list[Node]:
    """The nodes with their options; `ImproperlyConfigured` where an option is for a node that is not there."""
    own: dict[str, dict[str, str | None]] = {name: {} for name in names}
    for which, option, value in words.special:
        for name in _find(which, names):
            own[name][option] = value
    nodes = []
    for name in names:
        bare = Node(name, ())
        options = {**defaults, **words.general, **own[name]}
        told = {
            option: None if value is None else bare.expand(value)
            for option, value in options.items()
        }
        nodes.append(Node(name, tuple(told.items())))
    return nodes


def _find(which: str, names: Sequence[str]) -> list[str]:
    """The nodes that a part of an option means: `2`, `1-3`, `web`, `web@host`, and several with commas."""
    found = []
    for part in which.split(","):
        called = [name for name in names if part and part in {name, name.partition("@")[0]}]
        numbers = _RANGE.fullmatch(part)
        if called:
            found += called
        elif numbers is not None:
            first = int(numbers[1])
            last = int(numbers[2] or first)
            if not 1 <= first <= last <= len(names):
                raise ImproperlyConfigured(
                    f"multi: an option is for node {part}, and there are {len(names)}, from 1 on"
                )
            found += names[first - 1 : last]
        else:
            raise ImproperlyConfigured(
                f"multi: an option is for node {part!r}, which is not there; there are: {', '.join(names)}"
            )
    return found
