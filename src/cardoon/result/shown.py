"""What a page may be told of a result: plain JSON, and nothing that nobody asked for.

The views of every web framework show the same. It asks nobody whether the reader may know: that is the
view's to do before.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
from collections.abc import Mapping
from typing import Any, TypedDict

from cardoon import states
from cardoon.exceptions import ImproperlyConfigured, RemoteError
from cardoon.result.described import describe_exception
from cardoon.result.single import AsyncResult


class ShownError(TypedDict):
    """How a task failed."""

    type: str
    message: str
    traceback: str | None
    """None unless the view was made to show it."""


class ShownResult(TypedDict):
    """Where a task stands. Every key is always there."""

    id: str
    state: str
    ready: bool
    result: Any
    """What it returned; None before, and for a failure."""
    error: ShownError | None
    """Of a failure; or why it is to run again."""
    progress: Any
    """The `meta` of a state of the task's own: `update_state(state="PROGRESS", meta=...)`."""


def check_authorize(authorize: object) -> None:
    """Refuse to make a view that anybody may read."""
    if not callable(authorize):
        raise ImproperlyConfigured(
            f"result view: authorize={authorize!r} is not a function; results are shown to nobody "
            "unless a function of (request, task_id) answers True"
        )


def is_allowed(answer: object) -> bool:
    """What `authorize` has answered. Anything but True and False is a mistake, and fails closed."""
    if not isinstance(answer, bool):
        raise TypeError(f"result view: authorize answered {answer!r}; it must be True or False")
    return answer


def show_result(result: AsyncResult[Any], *, traceback: bool = False) -> ShownResult:
    """Where the task stands now, from one look at the result backend.

    An id that nobody has sent is PENDING, like one that has not run yet. Raises `OperationalError`
    where the result backend does not answer.
    """
    seen = result if result.is_known() else _look(result)
    if seen is None:
        return _shown(result.id, states.PENDING)
    state, value = seen.state, seen.result
    shown = _shown(result.id, state)
    if isinstance(value, BaseException):
        shown["error"] = _show_error(value, seen.traceback if traceback else None)
    elif state == states.SUCCESS:
        shown["result"] = plain(value)
    elif state not in states.ALL_STATES:
        shown["progress"] = plain(value)
    return shown


def plain(value: Any) -> Any:
    """The value in JSON's own types, as browsers read them.

    Times as ISO 8601, durations in seconds, bytes as base64; NaN and the infinities, which JSON lacks,
    are null; what else there is becomes text.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case bytes() | bytearray():
            return base64.b64encode(value).decode("ascii")
        case _:
            return str(value)


def _look(result: AsyncResult[Any]) -> AsyncResult[Any] | None:
    """The task as it is at this moment: its state and what belongs to it must not be of two moments."""
    seen: AsyncResult[Any] = AsyncResult(result.id, source=result.source, request=result.request)
    report = seen.source.sender.load([seen.handle]).get(seen.id)
    if report is None:
        return None
    seen.accept(report)
    return seen


def _shown(task_id: str, state: str) -> ShownResult:
    return {
        "id": task_id,
        "state": state,
        "ready": state in states.READY_STATES,
        "result": None,
        "error": None,
        "progress": None,
    }


def _show_error(error: BaseException, traceback: str | None) -> ShownError:
    if isinstance(error, RemoteError):
        return {"type": error.type_name, "message": error.message, "traceback": traceback}
    told = describe_exception(error)
    return {"type": told["type"], "message": told["message"], "traceback": traceback}
