"""Arguments from what a task waited for: the fixed rule, applied in the process that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cardoon.canvas.steps import arrange, count_form
from cardoon.context import Request
from cardoon.exceptions import CardoonError, ChordError, Refusal, RefusedError, RemoteError
from cardoon.message.protocol import Take
from cardoon.message.serializers import decode_body
from cardoon.result import rebuild_exception
from cardoon.task import Task


class DependencyError(CardoonError):
    """One of several that a task waits for did not succeed; with its traceback, as text."""

    def __init__(self, error: ChordError, traceback: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.traceback = traceback


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
    `DependencyError` where one of several failed, `RefusedError` where a body cannot be read.
    """
    contents = list(_contents(told, data, most))
    failed = told.get("failed")
    wanted = embed.get("compose")
    if failed is not None:
        if Take(told["take"]) is Take.FAILURE:
            return [] if wanted is None else _failure(task, failed, contents[0])
        raise _dependency_error(failed["id"], contents[0])
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


def _dependency_error(task_id: str, content: Mapping[str, Any]) -> DependencyError:
    error = rebuild_exception(content.get("error"))
    shown = repr(error)
    if isinstance(error, RemoteError):
        shown = f"{error.type_name}({error.message!r})"
    failed = ChordError(f"Dependency {task_id} raised {shown}")
    found = content.get("traceback")
    before = ""
    if isinstance(found, str) and found:
        before = f"{found[-MAX_TRACEBACK_CHARACTERS:].rstrip()}\n\n{_CAUSE}\n\n"
    return DependencyError(failed, f"{before}{ChordError.__module__}.ChordError: {failed}\n")


MAX_TRACEBACK_CHARACTERS = 32_768
"""Of what failed; a task process may have told more than ours would."""
_CAUSE = "The exception above is that of the task that this one waited for:"


def _failure(
    task: Task[..., Any], failed: Mapping[str, Any], content: Mapping[str, Any]
) -> list[Any]:
    """What an errback is given: the id, or if it takes more than one, request, error and traceback."""
    if not task.takes_failure:
        return [failed["id"]]
    request = Request(id=failed["id"], task=failed["task"], retries=failed["retries"])
    return [request, rebuild_exception(content.get("error")), content.get("traceback")]
