"""Bodies: arguments and results as bytes and back.

A codec is named by a media type that stands in the signed claims. Decoding runs behind the gate and
still trusts nobody: whatever the bytes, it ends in a value or in `RefusedError`, and takes no more
memory than a small multiple of the bound it is given.

JSON as Celery users know it, with these rules:

- Keys of objects are text. Integers, floats, booleans and None as keys become text, as in Python's
  `json`; two keys that become the same text are refused by the receiver.
- Tuples arrive as lists.
- The types of `tags` arrive as what they were. Their marker, the key `__type__`, is reserved.
- NaN and the infinities are no JSON, neither are lone surrogates, and both are refused.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from typing import Any, Never

from cardoon.exceptions import EncodeError, Refusal, RefusedError
from cardoon.message import tags

JSON = "application/json"
JSON_ZLIB = "application/json+zlib"
CODECS = frozenset({JSON, JSON_ZLIB})


def encode_body(value: Any, codec: str) -> bytes:
    """Encode a value; `EncodeError` for one that the codec cannot carry."""
    if codec not in CODECS:
        raise EncodeError(f"codec: unknown {codec!r}; use one of {', '.join(sorted(CODECS))}")
    body = _encode_json(value)
    return zlib.compress(body) if codec == JSON_ZLIB else body


def decode_body(codec: str, body: bytes, *, max_bytes: int) -> Any:
    """Decode a body of at most `max_bytes`, which is counted behind the decompression.

    `RefusedError` with BOMB for a larger one, with UNDECODABLE for anything that is not exactly
    JSON in UTF-8, and with CODEC_NOT_ACCEPTED for another codec.
    """
    if codec not in CODECS:
        raise RefusedError(Refusal.CODEC_NOT_ACCEPTED, codec)
    return _decode_json(_inflate(body, max_bytes) if codec == JSON_ZLIB else body, max_bytes)


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
    tagged: list[object] = []

    def tag(untagged: object) -> dict[str, Any]:
        tagged.append(None)
        return tags.tag_value(untagged)

    try:
        text = _PLAIN_ENCODER.encode(value)
    except _TagNeededError:
        text = _make_encoder(tag).encode(value)
    if _MARKER in text:
        # A key stands behind a brace or a comma, and a quote within text behind a backslash: so
        # these are all keys `__type__` there are, and more than our own come from the value.
        found = text.count("{" + _MARKER) + text.count("," + _MARKER)
        if found != len(tagged):
            raise EncodeError(f"json: the key {tags.TYPE!r} is reserved; rename it in the value")
    return text


_MARKER = f'"{tags.TYPE}":'


def _inflate(body: bytes, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise RefusedError(Refusal.UNDECODABLE, "not zlib") from error
    if len(content) > max_bytes:
        raise RefusedError(Refusal.BOMB, f"more than {max_bytes} bytes when decompressed")
    if not inflater.eof or inflater.unused_data:
        raise RefusedError(Refusal.UNDECODABLE, "zlib: cut off, or more behind the end")
    return content


def _decode_json(body: bytes, max_bytes: int) -> Any:
    if len(body) > max_bytes:
        raise RefusedError(Refusal.BOMB, f"a body of {len(body)} bytes; at most {max_bytes}")
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


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("one key twice")
    return members


def _make_tagged(pairs: list[tuple[str, Any]]) -> Any:
    members = _make_object(pairs)
    return tags.untag_value(members) if tags.TYPE in members else members


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
_PLAIN_DECODER = _make_decoder(_make_object)
_TAGGED_DECODER = _make_decoder(_make_tagged)
