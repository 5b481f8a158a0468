"""Arguments from what a task waited for: the fixed rule, applied in the process that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cardoon.canvas.steps import arrange, count_form
from cardoon.context import Request
from cardoon.exceptions import ChordError, Refusal, RefusedError
from cardoon.message.protocol import Take
from cardoon.message.serializers import decode_body
from cardoon.result import rebuild_exception
from cardoon.task import Task


def compose(
    task: Task[..., Any],
    embed: Mapping[str, Any],
    told: Mapping[str, Any],
    data: bytes,
    *,
    most: int,
) -> list[Any]:
    """What comes before a task's own arguments.

    `told` and `data` are `describe_inputs`', verified by the worker; `embed` was signed with the body.
    `ChordError` where one of several failed, `RefusedError` where a body cannot be read.
    """
    contents = list(_contents(told, data, most))
    failed = told.get("failed")
    wanted = embed.get("compose")
    if failed is not None:
        if Take(told["take"]) is Take.FAILURE:
            return [] if wanted is None else _failure(task, failed, contents[0])
        error = rebuild_exception(contents[0].get("error"))
        raise ChordError(f"Dependency {failed['id']} raised {error!r}")
    if wanted is None:
        return []
    form = wanted.get("form") if isinstance(wanted, dict) else False
    try:
        count = count_form(form)
    except (ValueError, RecursionError):
        count = -1
    if count != len(contents):
        raise RefusedError(Refusal.UNDECODABLE, "the form of its results")
    return [arrange(form, iter([content.get("result") for content in contents]))]


def _contents(told: Mapping[str, Any], data: bytes, most: int) -> Iterator[Mapping[str, Any]]:
    start = 0
    for size, codec in told["parts"]:
        content = decode_body(told["codecs"][codec], data[start : start + size], max_bytes=most)
        if not isinstance(content, Mapping):
            raise RefusedError(Refusal.UNDECODABLE, "a result that is no result")
        yield content
        start += size


def _failure(
    task: Task[..., Any], failed: Mapping[str, Any], content: Mapping[str, Any]
) -> list[Any]:
    """What an errback is given: the id, or if it takes more than one, request, error and traceback."""
    if not task.takes_failure:
        return [failed["id"]]
    request = Request(id=failed["id"], task=failed["task"], retries=failed["retries"])
    return [request, rebuild_exception(content.get("error")), content.get("traceback")]
