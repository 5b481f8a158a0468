"""A page that shows where a task stands."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe

from cardoon.app import Cardoon, app_or_default
from cardoon.exceptions import (
    InvalidTaskError,
    OperationalError,
    TimeoutError,  # noqa: A004  # Celery's name
)
from cardoon.result.shown import check_authorize, is_allowed, show_result

logger = logging.getLogger(__name__)

RETRY_AFTER = 5
"""Seconds after which a client may try again, where the result backend did not answer."""

Authorize: TypeAlias = (
    Callable[[HttpRequest, str], bool] | Callable[[HttpRequest, str], Awaitable[bool]]
)
"""Whether whoever sent the request may see the result of the task with the id."""
View: TypeAlias = Callable[..., HttpResponse]


def result_view(
    *,
    authorize: Authorize,
    app: Cardoon | None = None,
    max_wait: float = 0.0,
    traceback: bool = False,
) -> View:
    """A view that shows where a task stands, as JSON; it takes `task_id` from the URL.

    Only those for whom `authorize(request, task_id)` returns True see anything; others get what they get
    for an id that cannot be one, 404. It may also raise `PermissionDenied`. With `max_wait`,
    `?wait=SECONDS` answers when the task has ended or the seconds are over; each such request keeps a
    thread. `traceback` shows tracebacks. 503 where the result backend does not answer.
    """
    check_authorize(authorize)
    allows: Callable[..., object] = authorize
    if _is_coroutine_function(authorize):
        allows = async_to_sync(cast("Callable[..., Awaitable[bool]]", authorize))  # just checked

    @require_safe
    def show(request: HttpRequest, task_id: str) -> HttpResponse:
        """Where the task stands."""
        try:
            result = app_or_default(app).AsyncResult(task_id)
        except InvalidTaskError:
            return _answer({"detail": "no such task"}, 404)
        if not is_allowed(allows(request, task_id)):
            return _answer({"detail": "no such task"}, 404)
        wait = _parse_wait(request.GET.get("wait", "0"), max_wait)
        if wait is None:
            return _answer({"detail": f"wait: seconds from 0 to {max_wait:g}"}, 400)
        try:
            if wait:
                _wait_until_ready(result, wait)
            return _answer(show_result(result, traceback=traceback), 200)
        except OperationalError as error:
            logger.warning("%s %r: 503: %s", request.method, request.path, error)
            answer = _answer({"detail": "the task queue does not answer; try again"}, 503)
            answer["Retry-After"] = str(RETRY_AFTER)
            return answer

    view: View = show
    return view


def result_urls(
    *,
    authorize: Authorize,
    app: Cardoon | None = None,
    max_wait: float = 0.0,
    traceback: bool = False,
    name: str = "result",
) -> list[URLPattern]:
    """`result_view` as URL patterns: `path("results/", include(result_urls(authorize=may_see)))`.

    `reverse(name, args=[task_id])` is a task's address.
    """
    view = result_view(authorize=authorize, app=app, max_wait=max_wait, traceback=traceback)
    return [path("<str:task_id>", view, name=name)]


def _is_coroutine_function(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object whose call is a coroutine
    )


def _answer(body: Mapping[str, Any], status: int) -> HttpResponse:
    text = json.dumps(body, ensure_ascii=False)
    made = HttpResponse(f"{text}\n", status=status, content_type="application/json")
    made["Cache-Control"] = "no-store"
    return made


def _parse_wait(text: str, most: float) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds <= most else None


def _wait_until_ready(result: Any, seconds: float) -> None:
    try:
        result.get(timeout=seconds, propagate=False)
    except TimeoutError:
        return
