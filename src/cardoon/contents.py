"""Contents: what `accept_content` and the serializer settings may name, and what a name stands for.

A name says two things: how a body is written, and whether the message is signed. Only `json` stands for
messages without a signature; `auth` is signed JSON, and every other serializer is signed as well.

Names and media types only: how bodies are written and read is the business of `message`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cardoon.exceptions import ImproperlyConfigured

JSON = "application/json"
MSGPACK = "application/x-msgpack"
YAML = "application/x-yaml"
PICKLE = "application/x-python-serialize"
MAX_MEDIA_TYPE = 56
"""Bytes of a serializer's media type: what a claim holds (64), less the longest name of a compression."""

ZLIB, BZIP2, LZMA = "zlib", "bzip2", "lzma"
COMPRESSIONS: Mapping[str, str] = {
    **dict.fromkeys(("zlib", "gzip", "application/x-gzip"), ZLIB),
    **dict.fromkeys(("bzip2", "bzip", "application/x-bz2"), BZIP2),
    **dict.fromkeys(("lzma", "xz", "application/x-lzma"), LZMA),
}
"""The names that Celery's users know compressions by, and ours."""
_SUFFIXES = ("", *(f"+{name}" for name in (ZLIB, BZIP2, LZMA)))


class Content(NamedTuple):
    """One form of messages."""

    name: str
    media_type: str
    """How the body is written."""
    is_signed: bool = True


class Accepted(NamedTuple):
    """The codecs of messages that are taken."""

    signed: frozenset[str]
    plain: frozenset[str]
    """Of messages without a signature."""


_BUILT_IN: Mapping[str, Content] = {
    "auth": Content("auth", JSON),
    "json": Content("json", JSON, is_signed=False),
    "msgpack": Content("msgpack", MSGPACK),
    "yaml": Content("yaml", YAML),
    "pickle": Content("pickle", PICKLE),
}
_ALIASES: Mapping[str, str] = {
    "application/data": "auth",
    "application/vnd.cardoon+cose": "auth",
    "x-yaml": "yaml",
    **{one.media_type: one.name for one in _BUILT_IN.values() if one.name != "auth"},
}

# Changed by `cardoon.serialization.register` alone. One for the process, as kombu's is: settings,
# which name its members, are read in modules that know of no app yet.
_registered: dict[str, Content] = {}


def find_content(name: str, *, setting: str = "accept_content") -> Content:
    """What a name or media type stands for; `ImproperlyConfigured` if nothing."""
    found = _BUILT_IN.get(_ALIASES.get(name, name)) or _registered.get(name)
    if found is None:
        found = next((one for one in _registered.values() if one.media_type == name), None)
    if found is None:
        raise ImproperlyConfigured(f"{setting}: unknown content {name!r}{suggest_content(name)}")
    return found


def suggest_content(name: str) -> str:
    """The remedy for an unknown name."""
    known = [*_BUILT_IN, *_registered]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; use {', '.join(known)}"
    return f"{hint} (others are made known by cardoon.serialization.register)"


def accept(names: Iterable[str]) -> Accepted:
    """The codecs that a list such as `accept_content` takes."""
    contents = [find_content(name) for name in names]
    return Accepted(
        all_codecs(one.media_type for one in contents if one.is_signed),
        all_codecs(one.media_type for one in contents if not one.is_signed),
    )


def all_codecs(media_types: Iterable[str]) -> frozenset[str]:
    """These serializers, compressed in every way that there is, and not compressed."""
    return frozenset(kind + suffix for kind in media_types for suffix in _SUFFIXES)


def join_codec(media_type: str, compression: str | None) -> str:
    """The codec of a body as the claims name it: a media type, and how it is compressed."""
    return media_type if compression is None else f"{media_type}+{compression}"


def split_codec(codec: str) -> tuple[str, str | None]:
    """A codec's media type and compression."""
    media_type, _, compression = codec.rpartition("+")
    if media_type and compression in (ZLIB, BZIP2, LZMA):
        return media_type, compression
    return codec, None


def is_pickle(codec: str) -> bool:
    """Whether to read it is to run what it says."""
    return split_codec(codec)[0] == PICKLE


def is_built_in(media_type: str) -> bool:
    """Whether a serializer is Cardoon's own, so that the worker itself can write it."""
    return media_type in _ALIASES


def add_content(name: str, media_type: str) -> None:
    """Make a serializer known by name and media type. `ImproperlyConfigured` for one that is taken."""
    for told, value in (("name", name), ("content_type", media_type)):
        if value in _BUILT_IN or value in _ALIASES:
            raise ImproperlyConfigured(
                f"serializer {name!r}: {told}={value!r} is Cardoon's own; choose another"
            )
    if "/" in name or not name.isprintable() or not 0 < len(name.encode()) <= MAX_MEDIA_TYPE:
        raise ImproperlyConfigured(
            f"serializer: name={name!r} is not a word of 1 to {MAX_MEDIA_TYPE} bytes without slash"
        )
    is_type = media_type.isascii() and media_type.isprintable() and "/" in media_type.strip("/")
    if not is_type or "," in media_type or len(media_type) > MAX_MEDIA_TYPE:
        raise ImproperlyConfigured(
            f"serializer {name!r}: content_type={media_type!r} is not a media type of at most "
            f"{MAX_MEDIA_TYPE} bytes, such as application/x-{name}"
        )
    if split_codec(media_type)[1] is not None:
        raise ImproperlyConfigured(
            f"serializer {name!r}: content_type={media_type!r} ends like a compressed one; choose another"
        )
    for other in _registered.values():
        if other.media_type == media_type and other.name != name:
            raise ImproperlyConfigured(
                f"serializer {name!r}: content_type={media_type!r} is already that of {other.name!r}"
            )
    _registered[name] = Content(name, media_type)


def remove_content(name: str) -> str:
    """Forget a serializer; return its media type. `ImproperlyConfigured` if it is not known."""
    found = _registered.pop(name, None)
    if found is None:
        raise ImproperlyConfigured(f"serializer {name!r} is not registered")
    return found.media_type


def registered_contents() -> dict[str, str]:
    """The serializers that were made known: their names and media types."""
    return {one.name: one.media_type for one in _registered.values()}
