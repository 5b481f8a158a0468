"""Serializers that users have registered: code of theirs that writes and reads bodies.

Used in clients and in the processes that run tasks. The worker's own process, which imports no code of
users, knows their names and media types only (`contents`) and passes their bodies on as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from cardoon.exceptions import CardoonError, EncodeError, Refusal, RefusedError

TEXT = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
"""Content encodings whose decoders are given text; all others are given bytes."""


class Registered(NamedTuple):
    """A user's serializer."""

    name: str
    encoder: Callable[[Any], str | bytes] | None
    decoder: Callable[[Any], Any] | None
    is_text: bool


# As `contents._registered`, whose entries these belong to.
_serializers: dict[str, Registered] = {}


def keep(media_type: str, serializer: Registered) -> None:
    """Use it for this media type."""
    _serializers[media_type] = serializer


def drop(media_type: str) -> None:
    """Use it no more."""
    _serializers.pop(media_type, None)


def find_registered(
    media_type: str,
) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]] | None:
    """How bodies of a media type are written and read; None if nobody has registered it here."""
    found = _serializers.get(media_type)
    if found is None:
        return None
    return lambda value: _encode(found, value), lambda body: _decode(found, body)


def _encode(serializer: Registered, value: Any) -> bytes:
    if serializer.encoder is None:
        raise EncodeError(f"serializer {serializer.name!r} was registered without an encoder")
    try:
        written = serializer.encoder(value)
        body = written.encode() if isinstance(written, str) else bytes(memoryview(written))
    except CardoonError:
        raise
    except Exception as error:  # user code
        raise EncodeError(
            f"serializer {serializer.name!r} cannot carry this value: {error}"
        ) from error
    return body


def _decode(serializer: Registered, body: bytes) -> Any:
    if serializer.decoder is None:
        detail = f"serializer {serializer.name!r} was registered without a decoder"
        raise RefusedError(Refusal.CODEC_NOT_ACCEPTED, detail)
    try:
        return serializer.decoder(body.decode() if serializer.is_text else body)
    except Exception as error:  # user code; its words may quote the body
        detail = f"not {serializer.name}: {type(error).__name__}"
        raise RefusedError(Refusal.UNDECODABLE, detail) from error
