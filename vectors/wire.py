"""Bytes: CBOR in its one encoding, claims, frames, trees. No signature is looked at here."""

from __future__ import annotations

import hashlib
import io
from typing import Any, NamedTuple

import cbor2


class Bad(Exception):  # noqa: N818  # what it says is a reason, and not what went wrong here
    """Something is refused, for this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def encode(value: Any) -> bytes:
    """The one encoding of a value; `Bad` for a value that the profile does not have."""
    if value is None or isinstance(value, bool | int | bytes | str):
        return cbor2.dumps(value)
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(encode, value))
    if isinstance(value, dict):
        if any(isinstance(key, bool) or not isinstance(key, int | bytes | str) for key in value):
            raise Bad("malformed")
        entries = sorted((encode(key), encode(one)) for key, one in value.items())
        return head(5, len(value)) + b"".join(key + one for key, one in entries)
    raise Bad("malformed")


def request_digest(kind: int, task: str, digest: bytes) -> bytes:
    """What an answer is held against: of a task and its result with the name of the task."""
    if kind not in {1, 2}:
        return digest
    return hashlib.sha256(b"cardoon/1/request\x00" + task.encode() + digest).digest()


def head(major: int, argument: int) -> bytes:
    """The head of an item: that of an integer, with another major type."""
    number = cbor2.dumps(argument)
    return bytes((number[0] | major << 5,)) + number[1:]


def decode(encoded: bytes) -> Any:
    """The value of exactly these bytes, if they are its one encoding."""
    value = plain(load_all(encoded), 8)
    if encode(value) != encoded:
        raise Bad("malformed")
    return value


def load_all(encoded: bytes) -> Any:
    """What cbor2 reads, if it reads all of it."""
    stream = io.BytesIO(encoded)
    try:
        value = cbor2.load(stream)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise Bad("malformed") from error
    if stream.tell() != len(encoded):
        raise Bad("malformed")
    return value


def plain(value: Any, depth: int) -> Any:
    """What cbor2 read, in the types of JSON and bytes; `Bad` for other types and too many levels."""
    if value is None or isinstance(value, bool | int | bytes | str):
        if isinstance(value, int) and not -(2**64) <= value < 2**64:
            raise Bad("malformed")
        return value
    if depth == 0:
        raise Bad("malformed")
    if hasattr(value, "items"):
        return {plain(key, 0): plain(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, depth - 1) for each in value]
    raise Bad("malformed")


UINT, BYTES, TEXT = int, bytes, str
SECONDS, COUNT = 253_402_300_799, 2**31 - 1
RULES: dict[int, tuple[type, int, int]] = {
    1: (UINT, 1, 11),
    2: (TEXT, 1, 256),
    3: (TEXT, 1, 128),
    5: (UINT, 0, SECONDS),
    6: (UINT, 0, SECONDS),
    7: (BYTES, 16, 16),
    8: (UINT, 0, 8191),
    9: (BYTES, 32, 32),
    10: (TEXT, 1, 64),
    11: (UINT, 0, 2**63 - 1),
    12: (TEXT, 1, 128),
    13: (TEXT, 1, 128),
    15: (UINT, 0, SECONDS * 1000 + 999),
    16: (UINT, 0, SECONDS * 1000 + 999),
    17: (UINT, 0, COUNT),
    18: (UINT, 0, COUNT),
    19: (TEXT, 1, 128),
    20: (BYTES, 1, 32 * 1024),
    21: (BYTES, 32, 32),
}
"""Type, and least and most: of a number, or of bytes."""
ALWAYS = frozenset((1, 3, 5, 6, 7, 8, 9, 10, 11))
REQUIRED = {1: (2, 4, 17), 2: (2, 21), 3: (), 4: (2, 4), 5: (21,), 8: (2,)}
"""What each kind must say besides. Other kinds are not spoken in version 1."""


def read_claims(encoded: bytes) -> dict[int, Any]:
    """Claims that keep every rule; `Bad` otherwise."""
    try:
        claims = decode(encoded)
    except Bad as error:
        raise Bad("bad-claims") from error
    if not isinstance(claims, dict) or not all(map(_fits, claims, claims.values())):
        raise Bad("bad-claims")
    if not claims.keys() >= ALWAYS or not _is_consistent(claims):
        raise Bad("bad-claims")
    return claims


def _fits(label: Any, value: Any) -> bool:
    """Whether a claim is of its type and within its bounds."""
    if isinstance(label, bool) or not isinstance(label, int):
        return False
    match label, value:
        case 4, [*names]:
            return 1 <= len(names) <= 64 and all(_fits_rule(name, (TEXT, 1, 320)) for name in names)
        case 14, [name, position, size]:
            numbers = all(_fits_rule(one, (UINT, 0, COUNT)) for one in (position, size))
            return numbers and _fits_rule(name, (TEXT, 1, 128))
        case 22, [take, size, digest]:
            numbers = _fits_rule(take, (UINT, 0, 2)) and _fits_rule(size, (UINT, 0, 100_000))
            return numbers and _fits_rule(digest, (BYTES, 32, 32))
        case 23, [suite, recipients, reply]:
            return (
                _fits_rule(suite, (UINT, 1, 1))
                and type(recipients) is type(reply) is bytes
                and len(recipients) in {16, 32}
                and len(reply) in {0, 32}
            )
        case _:
            return label in RULES and _fits_rule(value, RULES[label])


def _fits_rule(value: Any, rule: tuple[type, int, int]) -> bool:
    kind, least, most = rule
    if type(value) is not kind:
        return False
    if isinstance(value, str):
        return value.isprintable() and least <= len(value.encode()) <= most
    return least <= (value if isinstance(value, int) else len(value)) <= most


def _is_consistent(claims: dict[int, Any]) -> bool:
    """Whether a message says what one of its kind must, and nothing that contradicts itself."""
    kind = claims[1]
    if kind not in REQUIRED or any(label not in claims for label in REQUIRED[kind]):
        return False
    take, size, _ = claims.get(22, (0, 1, b""))
    group = claims.get(14, ("", 0, 1))
    return (
        claims[6] >= claims[5]
        and claims.get(17, 0) <= claims.get(18, COUNT)
        and group[1] < group[2]
        and (19 not in claims or kind == 1)
        and (22 not in claims or (kind == 1 and size > 0 and (size == 1 or take == 1)))
        and (23 not in claims or kind == 1 or (kind == 2 and not claims[23][2]))
        and claims[6] - claims[5] <= _longest(claims)
    )


def _longest(claims: dict[int, Any]) -> int:
    """Seconds for which a message of its kind may be valid."""
    match claims[1]:
        case 3:
            return 86_400
        case 4 if claims[2] in {"revoke", "revoke_by_stamped_headers"}:
            return SECONDS
        case 4 | 5:
            return 300
        case _:
            return SECONDS


class Frame(NamedTuple):
    """A frame that came apart. `protected` is empty where it is not signed."""

    protected: bytes
    chain: list[bytes]
    proof: list[Any] | None
    claims: bytes
    signature: bytes
    body: bytes


def read_frame(frame: bytes) -> Frame:
    """Take a frame apart; `Bad` unless its bytes are the one encoding of what is in it."""
    stream = io.BytesIO(frame)
    try:
        first = cbor2.load(stream)
        body = cbor2.load(stream)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise Bad("malformed") from error
    if not isinstance(body, bytes):
        raise Bad("malformed")
    if isinstance(first, bytes):
        if frame != encode(first) + encode(body):
            raise Bad("malformed")
        return Frame(b"", [], None, first, b"", body)
    return _read_signed(frame, first, body)


def _read_signed(frame: bytes, first: Any, body: bytes) -> Frame:
    if not isinstance(first, cbor2.CBORTag) or first.tag != 18:
        raise Bad("malformed")
    match plain(first.value, 4):
        case [bytes(protected), dict(unprotected), bytes(claims), bytes(signature)]:
            envelope = b"\xd2" + encode([protected, unprotected, claims, signature])
        case _:
            raise Bad("malformed")
    if frame != envelope + encode(body) or len(protected) > 128 or len(signature) > 1024:
        raise Bad("malformed")
    if len(envelope) > 64 * 1024:
        raise Bad("too-large")
    chain = _read_chain(unprotected.pop(33, []))
    proof = unprotected.pop(396, None)
    match proof:
        case None | [int(), int(), bytes()] if not unprotected:
            return Frame(protected, chain, proof, claims, signature, body)
        case _:
            raise Bad("malformed")


def _read_chain(found: Any) -> list[bytes]:
    if isinstance(found, bytes):
        return [found]  # one certificate stands for itself (RFC 9360, 2)
    if not isinstance(found, list) or not all(isinstance(one, bytes) for one in found):
        raise Bad("malformed")
    if len(found) == 1 or len(found) > 8:
        raise Bad("malformed")
    return found


def context_of(domain: str, size: int = 0) -> bytes:
    """What is signed besides: the domain, and the size of a batch."""
    if size:
        return b"cardoon/1/batch\x00" + size.to_bytes(4, "big") + domain.encode()
    return b"cardoon/1\x00" + domain.encode()


def sig_structure(protected: bytes, context: bytes, payload: bytes) -> bytes:
    """What is signed (RFC 9052, 4.4)."""
    return cbor2.dumps(["Signature1", protected, context, payload])


def tree_hash(leaves: list[bytes]) -> bytes:
    """The root of a tree (RFC 6962, 2.1)."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


def audit_path(number: int, leaves: list[bytes]) -> bytes:
    """The path of one leaf (RFC 6962, 2.1.1)."""
    if len(leaves) == 1:
        return b""
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if number < split:
        return audit_path(number, leaves[:split]) + tree_hash(leaves[split:])
    return audit_path(number - split, leaves[split:]) + tree_hash(leaves[:split])


def root_of(leaf: bytes, size: int, position: int, path: bytes) -> bytes:
    """The root that a path leads to, by the definition of the path; `Bad` unless they fit."""
    if not 0 <= position < size <= 256 or len(path) % 32:
        raise Bad("malformed")
    hashes = [path[at : at + 32] for at in range(0, len(path), 32)]
    node = _climb(leaf, size, position, hashes)
    if hashes:
        raise Bad("malformed")
    return node


def _climb(leaf: bytes, size: int, position: int, hashes: list[bytes]) -> bytes:
    if size == 1:
        return hashlib.sha256(b"\x00" + leaf).digest()
    split = 1 << ((size - 1).bit_length() - 1)
    is_left = position < split
    below = (split, position) if is_left else (size - split, position - split)
    node = _climb(leaf, *below, hashes)
    if not hashes:
        raise Bad("malformed")
    neighbour = hashes.pop(0)
    pair = node + neighbour if is_left else neighbour + node
    return hashlib.sha256(b"\x01" + pair).digest()
