"""What an answer is held against: the digest of a message, bound to the name of the task that it asks for.

Who waits for a result knows one digest of 32 bytes. A result says which task it is of and, in label 21, the
SHA-256 of the claims that it answers; both together make that digest, so neither is its signer's word.
"""

from __future__ import annotations

import hashlib

from cardoon.message.protocol import Kind

_LABEL = b"cardoon/1/request\x00"
_WITH_NAME = frozenset({Kind.TASK, Kind.RESULT})


def bind_name(kind: Kind, task: str, digest: bytes) -> bytes:
    """The request digest of a message of this kind and name, or of what it answers, or whose place it takes.

    `digest` is the SHA-256 of its claims, or what an answer says in label 21. It stands for itself but of tasks and
    their results.
    """
    if kind not in _WITH_NAME:
        return digest
    # Nothing is ambiguous: the name stands between a label and what always has 32 bytes.
    return hashlib.sha256(_LABEL + task.encode() + digest).digest()
