"""StampingVisitor: goes through a canvas and says which stamps each of its parts gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from cardoon.calling import OPTION_NAMES
from cardoon.exceptions import InvalidTaskError
from cardoon.stamps import STAMPED_HEADERS, name_list


class StampingVisitor(ABC):
    """What `signature.stamp(visitor)` asks, part by part. A method returns the stamps to add.

    Each is told, by keyword, the stamps that were given and those of the canvas around the part. What it
    returns is a dict: all of it is stamps, unless a key `stamped_headers` names those that are; then the
    others are options of the call.
    """

    @abstractmethod
    def on_signature(self, sig: Any, /, **headers: Any) -> Mapping[str, Any] | None:
        """A single call, links included."""

    def on_group_start(self, group: Any, /, **headers: Any) -> Mapping[str, Any] | None:  # noqa: ARG002
        """A group, before its members, which get these stamps, too."""
        return {}

    def on_group_end(self, group: Any, /, **headers: Any) -> None:  # noqa: B027  # may be left out
        """A group, after its members."""

    def on_chain_start(self, chain: Any, /, **headers: Any) -> Mapping[str, Any] | None:  # noqa: ARG002
        """A chain, before its parts, which get these stamps, too."""
        return {}

    def on_chain_end(self, chain: Any, /, **headers: Any) -> None:  # noqa: B027  # may be left out
        """A chain, after its parts."""

    def on_chord_header_start(self, sig: Any, /, **header: Any) -> Mapping[str, Any] | None:
        """A chord, before the members of its header. Asks `on_group_start` for the header."""
        return self.on_group_start(sig.header, **header)

    def on_chord_header_end(self, sig: Any, /, **header: Any) -> None:
        """A chord, after the members of its header. Tells `on_group_end`."""
        self.on_group_end(sig.header, **header)

    def on_chord_body(self, sig: Any, /, **header: Any) -> Mapping[str, Any] | None:  # noqa: ARG002
        """A chord, before its body, which gets these stamps, too."""
        return {}

    def on_callback(self, callback: Any, /, **header: Any) -> Mapping[str, Any] | None:  # noqa: ARG002
        """A link, before it is visited as the signature that it is."""
        return {}

    def on_errback(self, errback: Any, /, **header: Any) -> Mapping[str, Any] | None:  # noqa: ARG002
        """An errback, before it is visited as the signature that it is."""
        return {}


def collect_stamps(
    given: Mapping[str, Any],
    told: Mapping[str, Any] | None,
    own: Mapping[str, Any] | None = None,
    *,
    append: bool,
) -> dict[str, Any]:
    """The options that a part gets: what is `given` to it, what a visitor has `told`, what it has.

    Where two have a stamp of one name the first of them wins; with `append` it becomes the list of all.
    """
    found: dict[str, Any] = dict(given)
    found[STAMPED_HEADERS] = _names(given)
    if told:
        _merge(found, told, _names(told), append=append)
    if own and (names := name_list(own.get(STAMPED_HEADERS), method="stamp")):
        ours = {name: own[name] for name in names if name in own}
        _merge(found, ours, names, append=append)
    for name in found[STAMPED_HEADERS]:
        if name in _RESERVED:
            raise InvalidTaskError(
                f"stamp: {name!r} is an option of apply_async; give the stamp another name"
            )
    return found


_RESERVED = OPTION_NAMES | {STAMPED_HEADERS, "immutable"}


def _names(headers: Mapping[str, Any]) -> list[str]:
    if not isinstance(headers, Mapping):
        raise InvalidTaskError(f"stamp: a visitor returned {headers!r} instead of a dict of stamps")
    if STAMPED_HEADERS in headers:
        return name_list(headers[STAMPED_HEADERS], method="stamp")
    return list(headers)


def _merge(
    found: dict[str, Any], more: Mapping[str, Any], names: list[str], *, append: bool
) -> None:
    for name, value in more.items():
        if name == STAMPED_HEADERS:
            continue
        if name not in found:
            found[name] = value
        elif append and name in names:
            found[name] = [*_as_list(found[name]), *_as_list(value)]
    found[STAMPED_HEADERS] = list(dict.fromkeys([*found[STAMPED_HEADERS], *names]))


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
