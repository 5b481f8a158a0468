"""Bodies: arguments and results as bytes and back.

A codec is named by a media type that stands in the signed claims. Decoding runs behind the gate and
still trusts nobody: whatever the bytes, it ends in a value or in `RefusedError`, and takes no more
memory than a multiple of the bound it is given (pickles excepted, which is why they are). Serializers
other than JSON have modules of their own, which are imported when they are first used.

JSON as Celery users know it, with these rules:

- Keys of objects are text. Integers, floats, booleans and None as keys become text, as in Python's
  `json`; two keys that become the same text are refused by the receiver.
- Tuples arrive as lists.
- The types of `tags` arrive as what they were. Their marker, the key `__type__`, is reserved.
- Enums, dataclasses and pydantic models are written as plain values (`plain`).
- NaN and the infinities are no JSON, neither are lone surrogates, and both are refused.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Never

from cardoon.contents import (
    JSON,
    MSGPACK,
    PICKLE,
    YAML,
    ZLIB,
    all_codecs,
    join_codec,
    split_codec,
)
from cardoon.exceptions import EncodeError, ImproperlyConfigured, Refusal, RefusedError
from cardoon.message import tags
from cardoon.message.compression import compress, decompress
from cardoon.message.plain import plain_value
from cardoon.message.registered import find_registered

__all__ = ["CODECS", "JSON", "JSON_ZLIB", "check_serializer", "decode_body", "encode_body"]

JSON_ZLIB = join_codec(JSON, ZLIB)
CODECS = all_codecs([JSON])
"""Those of JSON, which everybody reads and writes."""

_EXTRAS: Mapping[str, tuple[str, str]] = {MSGPACK: ("msgpack", "msgpack"), YAML: ("yaml", "PyYAML")}
"""What those serializers need that are not in every installation: extra and package."""

Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes], Any]


def encode_body(value: Any, codec: str) -> bytes:
    """Encode a value; `EncodeError` for one that the codec cannot carry, or an unknown codec."""
    if codec == JSON:
        return _encode_json(value)
    media_type, compression = split_codec(codec)
    body = _find(media_type)[0](value)
    return body if compression is None else compress(compression, body)


def decode_body(codec: str, body: bytes, *, max_bytes: int, unpickle: bool = False) -> Any:
    """Decode a body of at most `max_bytes`, which is counted behind the decompression.

    `RefusedError` with BOMB for a larger one, with UNDECODABLE for anything that is not exactly
    what the codec says, and with CODEC_NOT_ACCEPTED for a codec that is not known here. Pickles are
    known only where `unpickle` says so: for the arguments of the task that this process is to run.
    """
    decode: Decoder = _decode_json
    if codec != JSON:
        media_type, compression = split_codec(codec)
        if media_type == PICKLE and not unpickle:
            raise RefusedError(Refusal.CODEC_NOT_ACCEPTED, codec)
        try:
            decode = _find(media_type)[1]
        except (EncodeError, ImproperlyConfigured) as error:
            raise RefusedError(Refusal.CODEC_NOT_ACCEPTED, f"{codec}: {error}") from error
        if compression is not None:
            body = decompress(compression, body, max_bytes=max_bytes)
    if len(body) > max_bytes:
        raise RefusedError(Refusal.BOMB, f"a body of {len(body)} bytes; at most {max_bytes}")
    return decode(body)


def check_serializer(media_type: str) -> None:
    """`ImproperlyConfigured` if what the serializer needs is not installed."""
    if media_type in _EXTRAS:
        _load(media_type)


def _find(media_type: str) -> tuple[Encoder, Decoder]:
    """How bodies of a media type are written and read; `EncodeError` for an unknown one."""
    found = find_registered(media_type) or _load(media_type)
    if found is None:
        raise EncodeError(
            f"codec: unknown {media_type!r}; register it with cardoon.serialization.register"
        )
    return found


@functools.lru_cache(maxsize=16)
def _load(media_type: str) -> tuple[Encoder, Decoder] | None:
    """A serializer of our own, whose module is imported when it is first needed."""
    try:
        match media_type:
            case "application/json":
                return _encode_json, _decode_json
            case "application/x-msgpack":
                from cardoon.message import msgpacked  # noqa: PLC0415  # as drivers are

                return msgpacked.encode, msgpacked.decode
            case "application/x-yaml":
                from cardoon.message import yamled  # noqa: PLC0415

                return yamled.encode, yamled.decode
            case "application/x-python-serialize":
                from cardoon.message import pickled  # noqa: PLC0415

                return pickled.encode, pickled.decode
            case _:
                return None
    except ImportError as error:
        extra, package = _EXTRAS[media_type]
        raise ImproperlyConfigured(
            f"serializer {extra!r} needs the package {package}; pip install 'cardoon[{extra}]'"
        ) from error


class _TagNeededError(Exception):
    """Some value is not plain JSON."""


def _stop_for_tags(_: object) -> Never:
    raise _TagNeededError


def _make_encoder(default: Any) -> json.JSONEncoder:
    return json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=default
    )


_PLAIN_ENCODER = _make_encoder(_stop_for_tags)


def _encode_json(value: Any) -> bytes:
    try:
        return _dump(value).encode()
    except EncodeError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodeError(f"json cannot carry this value: {error}") from error


def _dump(value: Any) -> str:
    tagged = 0
    try:
        text = _PLAIN_ENCODER.encode(value)
    except _TagNeededError:
        text, tagged = _dump_tagged(value)
    if _MARKER in text:
        # A key stands behind a brace or a comma, and a quote within text behind a backslash: so
        # these are all keys `__type__` there are, and more than our own come from the value.
        found = text.count("{" + _MARKER) + text.count("," + _MARKER)
        if found != tagged:
            raise EncodeError(f"json: the key {tags.TYPE!r} is reserved; rename it in the value")
    return text


def _dump_tagged(value: Any) -> tuple[str, int]:
    """With tags where they are needed, and how many of them."""
    tagged: list[object] = []

    def write(unknown: object) -> Any:
        found = tags.find_tag(unknown)
        if found is None:
            return plain_value(unknown)
        tagged.append(None)
        return found

    return _make_encoder(write).encode(value), len(tagged)


_MARKER = f'"{tags.TYPE}":'


def _decode_json(body: bytes) -> Any:
    decoder = _TAGGED_DECODER if _MARKER_KEY in body else _PLAIN_DECODER
    try:
        text = body.decode()
        if "\\u" in text:
            _refuse_lone_surrogates(text)
        return decoder.decode(text)
    except _NOT_JSON as error:
        # The error's own words may quote the body, which must not get into logs.
        raise RefusedError(Refusal.UNDECODABLE, f"not JSON: {type(error).__name__}") from error


_NOT_JSON = (RecursionError, *tags.NOT_TAGGED)


def _refuse_lone_surrogates(text: str) -> None:
    """Escapes can spell half a character, which later fails wherever it is printed or encoded."""
    unescaped = _SURROGATE_PAIR.sub("", text.replace("\\\\", ""))
    if _SURROGATE.search(unescaped):
        raise ValueError("half of a surrogate pair")


_SURROGATE_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is no JSON")


def _make_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number too large for a float")
    return number


def _make_decoder(object_pairs_hook: Any) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=object_pairs_hook,
        parse_constant=_refuse_constant,
        parse_float=_make_float,
    )


_MARKER_KEY = f'"{tags.TYPE}"'.encode()
_PLAIN_DECODER = _make_decoder(tags.make_object)
_TAGGED_DECODER = _make_decoder(tags.make_tagged)
