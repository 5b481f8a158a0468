"""The signed headers of a message: the JSON object of label 20."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cardoon.exceptions import Refusal, RefusedError

ORIGIN = "origin"
"""On whose behalf a worker sends a message (`security.origins`)."""
INNER = "inner"
"""The task that a map runs."""
MAPS = frozenset({"cardoon.map", "cardoon.starmap"})
"""Tasks that run another one, which their first argument names."""

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


def inner_task(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """The task that a map with these arguments runs; None if they name none."""
    inner = args[0] if args else kwargs.get("task")
    name = inner.get("task") if isinstance(inner, Mapping) else None
    return name if isinstance(name, str) else None


def check_inner(told: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise `RefusedError` where a map would run another task than its headers name, if they name one."""
    if INNER in told and told[INNER] != inner_task(args, kwargs):
        raise RefusedError(
            Refusal.DENIED, "it maps another task than its headers name, by which it was judged"
        )
