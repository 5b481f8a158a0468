"""The signed headers of a message: the JSON object of label 20."""

from __future__ import annotations

import json
from typing import Any

from cardoon.exceptions import Refusal, RefusedError

_decode = json.JSONDecoder().decode  # `json.loads` would guess at encodings, and take others


def parse_headers(headers: bytes) -> dict[str, Any]:
    """What they say; `RefusedError` if a trusted signer wrote something else."""
    if not headers:
        return {}
    try:
        told = _decode(headers.decode())
    except (ValueError, RecursionError) as error:
        raise RefusedError(Refusal.BAD_CLAIMS, "label 20 is not JSON") from error
    if not isinstance(told, dict):
        raise RefusedError(Refusal.BAD_CLAIMS, "label 20 is not a JSON object")
    return told
