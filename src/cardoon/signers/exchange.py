"""What is said to a process that signs: one request, one answer, again and again. docs/signers.md.

    request  = length(4)  version(1) = 1  algorithm(4)  certificate(32)  content
    answer   = length(4)  status(1)  rest

Numbers are big endian, `length` counts what follows it. `algorithm` is COSE's, signed. `certificate`
is the SHA-256 of the certificate as DER, `content` the Sig_structure (RFC 9052, 4.4) to sign. `rest` is
the signature in COSE's form where `status` is 0, and else what to tell people, in UTF-8.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from cardoon.exceptions import MessageError
from cardoon.message.envelope import MAX_ENVELOPE, MAX_SIGNATURE

VERSION = 1
LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">Bi32s")
MAX_CONTENT = MAX_ENVELOPE + 1024
"""Bytes: claims are part of an envelope, and header and domain are short."""
MAX_REQUEST = _HEAD.size + MAX_CONTENT
MAX_ANSWER = 1 + MAX_SIGNATURE
_MAX_TOLD = 300
"""Characters of what an answer says to people."""


class Status(enum.IntEnum):
    """What became of a request."""

    SIGNED = 0
    NOT_HELD = 1
    """The key of this certificate is not here."""
    REFUSED = 2
    """The content is not what is signed here."""
    FAILED = 3
    """Try again: the key could not be used."""


class Ask(NamedTuple):
    """A request."""

    algorithm: int
    certificate: bytes
    content: bytes


class Answer(NamedTuple):
    """What was answered."""

    status: Status
    signature: bytes
    told: str


def write_request(ask: Ask) -> bytes:
    """The request, with its length."""
    head = _HEAD.pack(VERSION, ask.algorithm, ask.certificate)
    return LENGTH.pack(len(head) + len(ask.content)) + head + ask.content


def read_request(frame: bytes) -> Ask:
    """A request, from what followed its length; `MessageError` for anything else."""
    if not _HEAD.size < len(frame) <= MAX_REQUEST:
        raise MessageError(f"signer: a request of {len(frame)} bytes")
    version, algorithm, certificate = _HEAD.unpack_from(frame)
    if version != VERSION:
        raise MessageError(f"signer: version {version}; {VERSION} is spoken here")
    return Ask(algorithm, certificate, frame[_HEAD.size :])


def write_answer(status: Status, rest: bytes | str) -> bytes:
    """The answer, with its length."""
    told = rest if isinstance(rest, bytes) else rest[:_MAX_TOLD].encode(errors="replace")
    frame = bytes([status]) + told[: MAX_ANSWER - 1]
    return LENGTH.pack(len(frame)) + frame


def read_answer(frame: bytes) -> Answer:
    """An answer, from what followed its length; `MessageError` for anything else."""
    if not 1 <= len(frame) <= MAX_ANSWER or frame[0] > max(Status):
        raise MessageError("signer: an answer that is none")
    status, rest = Status(frame[0]), frame[1:]
    if status is Status.SIGNED:
        return Answer(status, rest, "")
    told = rest.decode(errors="replace")[:_MAX_TOLD]
    return Answer(status, b"", "".join(one if one.isprintable() else "?" for one in told))
