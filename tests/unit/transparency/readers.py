"""Verifies a log by what RFC 6962 and C2SP say, and shares no code with what writes it."""

from __future__ import annotations

import base64
import hashlib
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def root_of(leaves):
    """MTH of RFC 6962, 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def notes_of(path):
    """Each note as (lines of the body, body, key id, signature)."""
    found = []
    for text in path.with_name(path.name + ".checkpoints").read_text().split("\n\n\n"):
        if text:
            body, signed = text.split("\n\n")
            name, blob = signed.removeprefix("— ").rsplit(" ", 1)
            raw = base64.b64decode(blob)
            assert name == body.split("\n")[0]
            found.append((body.split("\n"), body + "\n", raw[:4], raw[4:]))
    return found


def verify(path):
    """Raise unless every checkpoint is signed by the key that the one before allows, over these lines."""
    lines, key, heir = lines_of(path), b"", b""
    for number, line in enumerate(lines):
        record = json.loads(line)
        before = hashlib.sha256(b"\0" + lines[number - 1]).hexdigest()[:32] if number else ""
        assert (record["seq"], record["prev"]) == (number, before)
    sizes = []
    for body, text, key_id, signature in notes_of(path):
        told = dict(line.split(" ", 1) for line in body[4:])
        if "key" in told:
            stated = base64.b64decode(told["key"])
            assert stated in {key, heir} or not key
            key = stated
        assert key_id == hashlib.sha256(body[0].encode() + b"\n\x01" + key).digest()[:4]
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text.encode())
        assert base64.b64decode(body[2]) == root_of(lines[: int(body[1])])
        heir = base64.b64decode(told["next"]) if "next" in told else heir
        sizes.append(int(body[1]))
    assert sizes == sorted(sizes)
    return sizes
