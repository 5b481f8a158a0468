"""Claims as bytes: one CBOR map with small integer labels.

Reading is total: each label has one type and one bound, and an unknown one is refused, so that a
receiver of today cannot overlook a restriction of tomorrow. Whatever encodes is read back equal,
and whatever is read encodes to the same bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

from cardoon.exceptions import EncodeError, MessageError
from cardoon.message import cbor, protocol
from cardoon.message.protocol import (
    Claims,
    Compose,
    Encryption,
    GroupMember,
    Kind,
    Label,
    Suite,
    Take,
)

_LABELS = [bytes((label,)) for label in range(24)]
"""A label below 24 is its own encoding."""
_KIND, _TASK, _ID, _AUDIENCE, _ISSUED_AT, _VALID_UNTIL, _SESSION, _SEQUENCE = _LABELS[1:9]
_DIGEST, _CODEC, _LENGTH, _ROOT, _PARENT, _GROUP, _ETA, _EXPIRES = _LABELS[9:17]
_RETRIES, _MAX_RETRIES, _REPLY, _HEADERS, _REQUEST, _COMPOSE, _ENCRYPTION = _LABELS[17:24]


def encode_claims(claims: Claims) -> bytes:
    """Encode claims; `EncodeError` for any that `parse_claims` would refuse.

    Byte for byte what `cbor.encode` makes of the same map, several times faster. What many messages
    have in common is encoded once: names and, within a batch, the times and the session.
    """
    problem = protocol.find_problem(claims)
    if problem:
        raise EncodeError(f"claims: {problem}")
    entries = [_count_entry(_KIND, claims.kind, protocol.MAX_COUNT)]
    if claims.task:
        entries.append(_name_entry(_TASK, claims.task, protocol.MAX_NAME))
    entries.append(_text_entry(_ID, claims.id, protocol.MAX_ID))
    if claims.audience:
        entries.append(_audience_entry(claims.audience))
    entries += (
        _validity_entries(claims.issued_at, claims.valid_until, claims.session),
        _uint_entry(_SEQUENCE, claims.sequence, protocol.MAX_SEQUENCE - 1),
        _fixed_entry(_DIGEST, claims.digest, protocol.DIGEST_BYTES),
        _name_entry(_CODEC, claims.codec, protocol.MAX_CODEC),
        _count_entry(_LENGTH, claims.length, protocol.MAX_LENGTH),
    )
    if claims[_CIRCUMSTANCES] != _NO_CIRCUMSTANCES:
        _append_circumstances(entries, claims)
    _append_retries(entries, claims)
    if claims.reply is not None:
        entries.append(_name_entry(_REPLY, claims.reply, protocol.MAX_REPLY))
    if claims.headers:
        entries.append(_headers_entry(claims.headers))
    if claims.request is not None:
        entries.append(_fixed_entry(_REQUEST, claims.request, protocol.DIGEST_BYTES))
    if claims.compose is not None:
        entries.append(_compose_entry(claims.compose))
    if claims.encryption is not None:
        entries.append(_encryption_entry(claims.encryption))
    # What `_validity_entries` returns is three entries.
    return cbor.head(cbor.MAP, len(entries) + 2) + b"".join(entries)


def parse_claims(encoded: bytes) -> Claims:
    """Read claims; `MessageError` unless every label is known, well-typed and within bounds."""
    try:
        fields = _read_fields(encoded)
    except (IndexError, UnicodeDecodeError) as error:
        raise MessageError("claims: cut off, or text that is not UTF-8") from error
    kind = _KINDS.get(fields[Label.KIND])
    if kind is None:
        raise MessageError(f"claims: unknown kind {fields[Label.KIND]}")
    # Fields stand in the order of their labels.
    claims = Claims._make((kind, *fields[2:24]))
    problem = protocol.find_problem(claims)
    if problem:
        raise MessageError(f"claims: {problem}")
    return claims


_CIRCUMSTANCES = slice(Claims._fields.index("root"), Claims._fields.index("expires") + 1)
_NO_CIRCUMSTANCES: tuple[object, ...] = (None,) * len(Claims._fields[_CIRCUMSTANCES])
"""What most messages do not say: whose they are, and when they are due or too late."""


def _append_retries(entries: list[bytes], claims: Claims) -> None:
    if claims.retries is not None:
        entries.append(_count_entry(_RETRIES, claims.retries, protocol.MAX_COUNT))
    if claims.max_retries is not None:
        entries.append(_count_entry(_MAX_RETRIES, claims.max_retries, protocol.MAX_COUNT))


def _append_circumstances(entries: list[bytes], claims: Claims) -> None:
    if claims.root is not None:
        entries.append(_text_entry(_ROOT, claims.root, protocol.MAX_ID))
    if claims.parent is not None:
        entries.append(_text_entry(_PARENT, claims.parent, protocol.MAX_ID))
    if claims.group is not None:
        entries.append(_group_entry(claims.group))
    if claims.eta is not None:
        entries.append(_uint_entry(_ETA, claims.eta, protocol.MAX_MILLISECONDS))
    if claims.expires is not None:
        entries.append(_uint_entry(_EXPIRES, claims.expires, protocol.MAX_MILLISECONDS))


def _uint_entry(label: bytes, number: int, limit: int) -> bytes:
    if not 0 <= number <= limit:
        raise EncodeError(f"claims: {_name(label)} is {number}; it must be from 0 to {limit}")
    return label + cbor.head(cbor.UINT, number)


_count_entry = functools.lru_cache(maxsize=1024)(_uint_entry)
"""For numbers that many messages share."""


def _text_entry(label: bytes, text: str, limit: int) -> bytes:
    # What is printable is Unicode, too: half a surrogate pair is not.
    encoded = text.encode() if text.isprintable() else b""
    if not 0 < len(encoded) <= limit:
        raise EncodeError(f"claims: {_name(label)} must be 1 to {limit} printable bytes: {text!r}")
    return label + cbor.head(cbor.TEXT, len(encoded)) + encoded


_name_entry = functools.lru_cache(maxsize=1024)(_text_entry)
"""For texts of which there are few."""


def _fixed_entry(label: bytes, content: bytes, size: int) -> bytes:
    if len(content) != size:
        raise EncodeError(f"claims: {_name(label)} has {len(content)} bytes; it must have {size}")
    return label + _FIXED_HEADS[size] + content


_FIXED_HEADS = {
    size: cbor.head(cbor.BYTES, size) for size in (protocol.SESSION_BYTES, protocol.DIGEST_BYTES)
}


def _headers_entry(headers: bytes) -> bytes:
    if len(headers) > protocol.MAX_HEADERS:
        raise EncodeError(
            f"claims: {len(headers)} bytes of headers; at most {protocol.MAX_HEADERS}"
        )
    return _HEADERS + cbor.byte_string(headers)


@functools.lru_cache(maxsize=64)
def _validity_entries(issued_at: int, valid_until: int, session: bytes) -> bytes:
    return b"".join(
        (
            _uint_entry(_ISSUED_AT, issued_at, protocol.MAX_SECONDS),
            _uint_entry(_VALID_UNTIL, valid_until, protocol.MAX_SECONDS),
            _fixed_entry(_SESSION, session, protocol.SESSION_BYTES),
        )
    )


@functools.lru_cache(maxsize=1024)
def _audience_entry(audience: tuple[str, ...]) -> bytes:
    if len(audience) > protocol.MAX_AUDIENCE:
        raise EncodeError(
            f"claims: an audience of {len(audience)}; at most {protocol.MAX_AUDIENCE}"
        )
    names = (_text_entry(b"", name, protocol.MAX_AUDIENCE_NAME) for name in audience)
    return _AUDIENCE + cbor.head(cbor.ARRAY, len(audience)) + b"".join(names)


def _group_entry(group: GroupMember) -> bytes:
    return b"".join(
        (
            _GROUP + cbor.head(cbor.ARRAY, 3),
            _name_entry(b"", group.id, protocol.MAX_ID),
            _uint_entry(b"", group.position, protocol.MAX_COUNT),
            _uint_entry(b"", group.size, protocol.MAX_COUNT),
        )
    )


def _compose_entry(compose: Compose) -> bytes:
    return b"".join(
        (
            _COMPOSE + cbor.head(cbor.ARRAY, 3),
            _uint_entry(b"", compose.take, max(Take)),
            _uint_entry(b"", compose.size, protocol.MAX_PREDECESSORS),
            _fixed_entry(b"", compose.digest, protocol.DIGEST_BYTES),
        )
    )


@functools.lru_cache(maxsize=1024)
def _encryption_entry(encryption: Encryption) -> bytes:
    key_ids = b"".join(encryption.recipients)
    is_one_size = {len(one) for one in encryption.recipients} == {protocol.KEY_ID_BYTES}
    if not is_one_size or not _are_recipients(key_ids) or not _is_reply(encryption.reply):
        raise EncodeError(
            f"claims: encryption for {len(encryption.recipients)} keys; it must be for 1 to "
            f"{protocol.MAX_RECIPIENTS}, with ids of {protocol.KEY_ID_BYTES} bytes"
        )
    return b"".join(
        (
            _ENCRYPTION + cbor.head(cbor.ARRAY, 3),
            _uint_entry(b"", encryption.suite, max(Suite)),
            cbor.byte_string(key_ids),
            cbor.byte_string(encryption.reply),
        )
    )


def _are_recipients(key_ids: bytes) -> bool:
    count, rest = divmod(len(key_ids), protocol.KEY_ID_BYTES)
    return not rest and 1 <= count <= protocol.MAX_RECIPIENTS


def _is_reply(public_key: bytes) -> bool:
    return len(public_key) in {0, protocol.PUBLIC_KEY_BYTES}


def _name(label: bytes) -> str:
    return Label(label[0]).name if label else "an element"


def _read_fields(encoded: bytes) -> list[Any]:  # noqa: C901 - unrolled, for speed
    """Read the map into a list that is indexed by label.

    Runs for every message, so short heads are read here, without a call. A string that ends behind
    the end is found by the next index or by the last comparison.
    """
    fields = _NOTHING_SAID.copy()
    count, at = cbor.read_head(encoded, 0, cbor.MAP)
    previous = seen = 0
    for _ in range(count):
        label = encoded[at]
        shape = _SHAPES.get(label)
        if label <= previous or shape is None:
            raise MessageError(f"claims: label {label} is unknown, or not above {previous}")
        previous = label
        seen |= 1 << label
        major, least, most = shape
        argument = encoded[at + 1] - major
        if 0 <= argument < 24:
            at += 2
        elif argument == 24 and encoded[at + 2] >= 24:
            argument = encoded[at + 2]
            at += 3
        else:
            argument, at = cbor.read_head(encoded, at + 1, major >> 5)
        if argument < least or argument > most:
            raise MessageError(f"claims: {argument} for label {label}; from {least} to {most}")
        if major == _UINT:
            fields[label] = argument
        elif major == _BYTES:
            fields[label] = encoded[at : at + argument]
            at += argument
        elif major == _TEXT:
            fields[label] = _printable(encoded[at : at + argument].decode())
            at += argument
        else:
            fields[label], at = _READERS[label](encoded, at, argument)
    if at != len(encoded):
        raise MessageError(f"claims: {len(encoded)} bytes, but the map has {at}")
    if seen & _IN_EVERY_MESSAGE != _IN_EVERY_MESSAGE:
        raise MessageError("claims: a label that every message has is missing")
    return fields


def _printable(text: str) -> str:
    if not text or not text.isprintable():
        raise MessageError("claims: text that is empty, or not fit for a log or a terminal")
    return text


def _read_audience(encoded: bytes, at: int, count: int) -> tuple[tuple[str, ...], int]:
    names = []
    for _ in range(count):
        name, at = cbor.read_text(encoded, at, protocol.MAX_AUDIENCE_NAME)
        names.append(_printable(name))
    return tuple(names), at


def _read_group(encoded: bytes, at: int, _: int) -> tuple[GroupMember, int]:
    name, at = cbor.read_text(encoded, at, protocol.MAX_ID)
    position, at = cbor.read_uint(encoded, at, protocol.MAX_COUNT)
    size, at = cbor.read_uint(encoded, at, protocol.MAX_COUNT)
    return GroupMember(_printable(name), position, size), at


def _read_compose(encoded: bytes, at: int, _: int) -> tuple[Compose, int]:
    take, at = cbor.read_uint(encoded, at, max(Take))
    count, at = cbor.read_uint(encoded, at, protocol.MAX_PREDECESSORS)
    digest, at = cbor.read_bytes(encoded, at, protocol.DIGEST_BYTES)
    if len(digest) != protocol.DIGEST_BYTES:
        raise MessageError(f"claims: {len(digest)} bytes of digest for label {Label.COMPOSE}")
    return Compose(Take(take), count, digest), at


def _read_encryption(encoded: bytes, at: int, _: int) -> tuple[Encryption, int]:
    # The last label there is, so whatever is behind it is part of it, or wrong.
    return _parse_encryption(encoded[at:]), len(encoded)


@functools.lru_cache(maxsize=1024)
def _parse_encryption(members: bytes) -> Encryption:
    """What all messages of a session have in common: the three members of the array."""
    suite, at = cbor.read_uint(members, 0, max(Suite))
    if suite < min(Suite):
        raise MessageError(f"claims: encryption by the unknown suite {suite}")
    most = protocol.KEY_ID_BYTES * protocol.MAX_RECIPIENTS
    key_ids, at = cbor.read_bytes(members, at, most)
    reply, at = cbor.read_bytes(members, at, protocol.PUBLIC_KEY_BYTES)
    if at != len(members):
        raise MessageError(f"claims: {len(members) - at} bytes behind the encryption")
    if not _are_recipients(key_ids) or not _is_reply(reply):
        raise MessageError(f"claims: key ids of {len(key_ids)} bytes, a reply key of {len(reply)}")
    size = protocol.KEY_ID_BYTES
    recipients = tuple(key_ids[start : start + size] for start in range(0, len(key_ids), size))
    return Encryption(Suite(suite), recipients, reply)


_KINDS = {kind.value: kind for kind in Kind}
_READERS: dict[int, Callable[[bytes, int, int], tuple[Any, int]]] = {
    Label.AUDIENCE: _read_audience,
    Label.GROUP: _read_group,
    Label.COMPOSE: _read_compose,
    Label.ENCRYPTION: _read_encryption,
}

# Major types as they stand in the upper bits of a head.
_UINT, _BYTES, _TEXT, _ARRAY = (
    major << 5 for major in (cbor.UINT, cbor.BYTES, cbor.TEXT, cbor.ARRAY)
)
_Shape: TypeAlias = tuple[int, int, int]
_ID_SHAPE = (_TEXT, 1, protocol.MAX_ID)
_DIGEST_SHAPE = (_BYTES, protocol.DIGEST_BYTES, protocol.DIGEST_BYTES)
_SHAPES: dict[int, _Shape] = {
    Label.KIND: (_UINT, 0, protocol.MAX_COUNT),
    Label.TASK: (_TEXT, 1, protocol.MAX_NAME),
    Label.ID: _ID_SHAPE,
    Label.AUDIENCE: (_ARRAY, 1, protocol.MAX_AUDIENCE),
    Label.ISSUED_AT: (_UINT, 0, protocol.MAX_SECONDS),
    Label.VALID_UNTIL: (_UINT, 0, protocol.MAX_SECONDS),
    Label.SESSION: (_BYTES, protocol.SESSION_BYTES, protocol.SESSION_BYTES),
    Label.SEQUENCE: (_UINT, 0, protocol.MAX_SEQUENCE - 1),
    Label.DIGEST: _DIGEST_SHAPE,
    Label.CODEC: (_TEXT, 1, protocol.MAX_CODEC),
    Label.LENGTH: (_UINT, 0, protocol.MAX_LENGTH),
    Label.ROOT: _ID_SHAPE,
    Label.PARENT: _ID_SHAPE,
    Label.GROUP: (_ARRAY, 3, 3),
    Label.ETA: (_UINT, 0, protocol.MAX_MILLISECONDS),
    Label.EXPIRES: (_UINT, 0, protocol.MAX_MILLISECONDS),
    Label.RETRIES: (_UINT, 0, protocol.MAX_COUNT),
    Label.MAX_RETRIES: (_UINT, 0, protocol.MAX_COUNT),
    Label.REPLY: (_TEXT, 1, protocol.MAX_REPLY),
    Label.HEADERS: (_BYTES, 1, protocol.MAX_HEADERS),
    Label.REQUEST: _DIGEST_SHAPE,
    Label.COMPOSE: (_ARRAY, 3, 3),
    Label.ENCRYPTION: (_ARRAY, 3, 3),
}
"""Major type, with the least and most of a number, or of the bytes or elements behind the head."""

_IN_EVERY_MESSAGE = sum(
    1 << label
    for label in (
        *(Label.KIND, Label.ID, Label.ISSUED_AT, Label.VALID_UNTIL, Label.SESSION),
        *(Label.SEQUENCE, Label.DIGEST, Label.CODEC, Label.LENGTH),
    )
)
_NOTHING_SAID: list[Any] = [None] * len(_LABELS)
_NOTHING_SAID[Label.TASK] = ""
_NOTHING_SAID[Label.AUDIENCE] = ()
_NOTHING_SAID[Label.HEADERS] = b""
