"""Stamps: what a sender writes on a task besides its arguments, to find it by later.

As options of a call they lie beside each other, and `stamped_headers` names which ones are stamps; in
a message they are one signed object, `stamps`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cardoon.exceptions import InvalidTaskError

STAMPED_HEADERS = "stamped_headers"
MAX_NAME_BYTES = 256
"""Of a stamp's name, as of a task's."""
MAX_WANTED = 1000
"""Values in one revocation."""
MAX_REVOKED = 10_000
"""Pairs of a name and a value that a worker remembers as revoked; a message has far fewer."""


def parse_stamps(value: object) -> dict[str, Any]:
    """Stamps by name, as JSON can carry them; `ValueError` for what is none."""
    if not isinstance(value, Mapping):
        raise ValueError("is not a dict of stamps by name")  # noqa: TRY004  # as all parsers
    for name in value:
        if not (isinstance(name, str) and name.isprintable() and name):
            raise ValueError(f"has a stamp whose name {name!r} is not printable text")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise ValueError(f"has a stamp whose name is longer than {MAX_NAME_BYTES} bytes")
    return {name: _plain(stamp) for name, stamp in value.items()}


def take_stamps(
    options: Mapping[str, Any], *, method: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options without the stamps among them, and the stamps; `InvalidTaskError` names a wrong one."""
    rest = dict(options)
    names = name_list(rest.pop(STAMPED_HEADERS), method=method)
    stamps = {}
    for name in names:
        if name not in rest:
            raise InvalidTaskError(
                f"{method}: {STAMPED_HEADERS} names {name!r}, which has no value; give {name}=..."
            )
        stamps[name] = rest.pop(name)
    try:
        return rest, parse_stamps(stamps)
    except ValueError as error:
        raise InvalidTaskError(f"{method}: {STAMPED_HEADERS}={names!r} {error}") from None


def name_list(value: object, *, method: str) -> list[str]:
    """The names in `stamped_headers`, each once; one may stand alone."""
    found = [value] if isinstance(value, str) else value
    if found is None:
        return []
    if isinstance(found, (list, tuple, set, frozenset)) and all(isinstance(n, str) for n in found):
        return list(dict.fromkeys(sorted(found) if isinstance(found, (set, frozenset)) else found))
    raise InvalidTaskError(f"{method}: {STAMPED_HEADERS}={value!r} is not a list of names")


def as_options(stamps: Mapping[str, Any]) -> dict[str, Any]:
    """Stamps as options of a call; nothing if there are none."""
    return {**stamps, STAMPED_HEADERS: list(stamps)} if stamps else {}


def merge_options(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with others given on top, which win but for stamps: those that are there stay."""
    if STAMPED_HEADERS not in own:
        return {**own, **given}
    names = name_list(own[STAMPED_HEADERS], method="signature")
    merged = {**own, **{name: value for name, value in given.items() if name not in names}}
    more = name_list(given.get(STAMPED_HEADERS), method="signature")
    merged[STAMPED_HEADERS] = list(dict.fromkeys([*names, *more]))
    return merged


def parse_wanted(headers: object, *, method: str) -> dict[str, list[Any]]:
    """Which stamps are meant, as lists of values by name; `InvalidTaskError` names what is wrong."""
    try:
        return _parse_wanted(headers)
    except (TypeError, ValueError, RecursionError) as error:
        shown = repr(headers)
        shown = shown if len(shown) <= 200 else f"{shown[:200]}..."
        raise InvalidTaskError(f"{method}: headers={shown} {error}") from None


def _parse_wanted(headers: object) -> dict[str, list[Any]]:
    stamps = parse_stamps(headers)
    if not stamps:
        raise ValueError("names no stamp, and so would be about nothing")
    wanted = {
        name: values if isinstance(values, list) else [values] for name, values in stamps.items()
    }
    if not all(wanted.values()):
        raise ValueError("has a stamp without a value")
    if sum(map(len, wanted.values())) > MAX_WANTED:
        raise ValueError(f"has more than {MAX_WANTED} values")
    json.dumps(wanted, allow_nan=False)
    return wanted


def stamp_key(name: str, value: object) -> str:
    """One name and one value as text, the same for what JSON brings back the same."""
    return json.dumps([name, value], sort_keys=True, separators=(",", ":"))


def stamp_keys(stamps: object) -> Iterable[str]:
    """A key for each value of each stamp; a list of values is several."""
    for name, value in stamps.items() if isinstance(stamps, dict) else ():
        for one in value if isinstance(value, list) else [value]:
            yield stamp_key(name, one)


class RevokedStamps:
    """Which stamps are revoked, and until when. Safe from threads: tables are replaced, not changed."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, stamps: Mapping[str, Sequence[Any]], *, until: float) -> None:
        """Remember these; the oldest are forgotten beyond the bound."""
        table = dict(self._until)
        for key in stamp_keys({name: list(values) for name, values in stamps.items()}):
            table[key] = max(until, table.pop(key, until))
        self._until = dict(list(table.items())[-MAX_REVOKED:])

    def forget_expired(self, now: float) -> None:
        """Let go of those whose revocation has run out; seconds since the epoch."""
        if any(until <= now for until in self._until.values()):
            self._until = {key: until for key, until in self._until.items() if until > now}

    def covers(self, stamps: object) -> bool:
        """Whether a message with these stamps, as signed, is revoked."""
        table = self._until
        try:
            return any(key in table for key in stamp_keys(stamps))
        except RecursionError:
            return True  # whether it is revoked cannot be known, so it does not run

    def __bool__(self) -> bool:
        return bool(self._until)


def _plain(value: Any) -> Any:
    """Sets and tuples as lists, in one order."""
    if isinstance(value, (set, frozenset)):
        return sorted(map(_plain, value), key=repr)
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
