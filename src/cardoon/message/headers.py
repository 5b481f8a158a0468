"""The signed headers of a message: the JSON object of label 20."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.protocol import MAX_NAME

ORIGIN = "origin"
"""On whose behalf a worker sends a message (`security.origins`)."""
INNER = "inner"
"""The task that a map runs."""
ASKED = "asked"
"""Of a message that takes another's place: the task that was asked for, if it is another than its own."""
TICK = "tick"
"""Of a task that a beat sends: when it was due. There may be copies of it, which mean no harm."""
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


def asked_task(task: str, headers: bytes) -> str:
    """The task that was asked for in a message whose place one of `task` takes, by its signer's word.

    The same, if its headers do not say otherwise. `RefusedError` for a name that no task has.
    """
    asked = parse_headers(headers).get(ASKED, task)
    if not isinstance(asked, str) or not 0 < len(asked.encode(errors="replace")) <= MAX_NAME:
        raise RefusedError(Refusal.BAD_CLAIMS, "the task that it stands for has no name")
    if not asked.isprintable():
        raise RefusedError(
            Refusal.BAD_CLAIMS, "the task that it stands for has an unprintable name"
        )
    return asked


def with_asked(headers: bytes, asked: str | None) -> bytes:
    """Headers that name the task that was asked for, or none; `RefusedError` if they are no headers."""
    told = parse_headers(headers)
    told.pop(ASKED, None)
    if asked is not None:
        told[ASKED] = asked
    return json.dumps(told, separators=(",", ":")).encode() if told else b""


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
