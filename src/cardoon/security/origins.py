"""On whose behalf a message was sent: a signed header, `"origin": [[name, fingerprint], ...]`.

It names who signed the request that the sender was carrying out. A worker's own process writes it, never
the task that sends, and a policy believes it from those roles alone whose rules have an `origin`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.headers import ORIGIN
from cardoon.security.identity import Identity
from cardoon.security.patterns import MAX_LENGTH

MAX_PARTIES = 8
"""On whose behalf one message may be sent: as many as the requests of one process may come from."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")

Parties: TypeAlias = tuple[Identity | None, ...]
"""Signers of requests, each once; None for requests that are not signed. Empty where nobody is known."""


def describe_parties(parties: Parties) -> list[list[str] | None]:
    """Parties as a header says them."""
    return [None if one is None else [one.name, one.fingerprint.hex()] for one in parties]


def read_origin(told: Mapping[str, Any]) -> Parties:
    """Whom a message's headers name; empty if nobody. `RefusedError` for what is no origin."""
    found = told.get(ORIGIN, [])
    if not isinstance(found, list) or len(found) > MAX_PARTIES:
        raise RefusedError(Refusal.BAD_CLAIMS, f"origin is not a list of at most {MAX_PARTIES}")
    return tuple(_read_party(one) for one in found)


def _read_party(found: object) -> Identity | None:
    match found:
        case None:
            return None
        case [str(name), str(digits)] if len(name) <= MAX_LENGTH and name.isprintable():
            if _FINGERPRINT.fullmatch(digits):
                fingerprint = bytes.fromhex(digits)
                return Identity(fingerprint=fingerprint, name=name, not_before=0.0, not_after=0.0)
    raise RefusedError(Refusal.BAD_CLAIMS, "origin names somebody without name and fingerprint")
