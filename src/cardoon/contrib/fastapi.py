"""FastAPI: a lifespan that connects, dependencies, and a route that shows results.

    app = FastAPI(lifespan=lifespan(queue))
    app.include_router(result_router(authorize=may_see), prefix="/results")

Routes send with `await task.adelay(...)`, which does not block the event loop. docs/fastapi.md says more.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions within functions.

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

from cardoon.app import Cardoon
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError, OperationalError
from cardoon.result import AsyncResult
from cardoon.result.shown import check_authorize, is_allowed, show_result

try:
    from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request, Response
    from fastapi.concurrency import run_in_threadpool
    from fastapi.requests import HTTPConnection
    from fastapi.responses import JSONResponse
    from pydantic import BaseModel, Field
except ModuleNotFoundError as error:
    raise ImportError(f"cardoon.contrib.fastapi: {error}; pip install cardoon[fastapi]") from error

T = TypeVar("T")

logger = logging.getLogger(__name__)

RETRY_AFTER = 5
"""Seconds after which a client may try again, where the broker did not answer."""
MAX_WAIT = 30.0
"""Seconds for which `?wait=` may keep a request, unless the router says otherwise."""
_NO_STORE = {"Cache-Control": "no-store"}
_STATE = "cardoon"

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[Any]]
Authorize: TypeAlias = Callable[..., bool] | Callable[..., Awaitable[bool]]
"""A dependency that answers whether whoever sent the request may see the result of `task_id`."""


class TaskFailure(BaseModel):
    """How a task failed."""

    type: str = Field(description="The name of the exception.")
    message: str
    traceback: str | None = Field(None, description="Null unless the service shows it.")


class TaskStatus(BaseModel, Generic[T]):
    """Where a task stands."""

    id: str
    state: str = Field(
        description="PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, REJECTED, or the task's own."
    )
    ready: bool = Field(description="Whether the task has ended.")
    result: T | None = Field(None, description="What the task returned, once it has succeeded.")
    error: TaskFailure | None = Field(None, description="Why it failed, or is to run again.")
    progress: Any = Field(None, description="What the task says of a state of its own.")


def lifespan(cardoon: Cardoon, inner: Lifespan | None = None) -> Lifespan:
    """Connect before the first request, and let go after the last: `FastAPI(lifespan=lifespan(queue))`.

    A wrong setting, a missing key or a broker that is not there stops the start with the error that says
    so. `inner` is a lifespan of your own, entered when the connection is there; what it yields is the
    request's state as ever. An app with `task_always_eager` connects to nothing.
    """

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, cardoon.close)
            if not cardoon.is_eager:
                await asyncio.to_thread(lambda: cardoon.sender)
            setattr(app.state, _STATE, cardoon)
            yield await stack.enter_async_context(inner(app)) if inner is not None else None

    return run


def get_cardoon(connection: HTTPConnection) -> Cardoon:
    """The app that `lifespan` has connected; a dependency."""
    found = getattr(connection.app.state, _STATE, None)
    if isinstance(found, Cardoon):
        return found
    raise ImproperlyConfigured(
        "FastAPI: no Cardoon app is connected; use FastAPI(lifespan=lifespan(queue)), and in tests "
        "`with TestClient(app)`, which runs it"
    )


CardoonApp: TypeAlias = Annotated[Cardoon, Depends(get_cardoon)]
"""A parameter of a route: the app that `lifespan` has connected."""


def result_dependency(
    *, authorize: Authorize, cardoon: Cardoon | None = None
) -> Callable[..., AsyncResult[Any]]:
    """A dependency: the result of the path's `task_id`, for those who may see it; 404 for all others.

    `authorize` is a dependency itself: it may ask for `request: Request`, `task_id: str` and whatever else
    dependencies ask for, may be a coroutine function, and may raise an `HTTPException` of its own. Without
    `cardoon` it is the app that `lifespan` has connected.
    """
    check_authorize(authorize)
    of_request = get_cardoon if cardoon is None else lambda: cardoon

    def find(
        app: Annotated[Cardoon, Depends(of_request)],
        task_id: Annotated[str, Path(description="The id that the task was sent with.")],
    ) -> AsyncResult[Any]:
        try:
            return app.AsyncResult(task_id)
        except InvalidTaskError:
            raise _no_such_task() from None

    # Found first: `authorize` sees no id that could not be one.
    def allow(
        result: Annotated[AsyncResult[Any], Depends(find)],
        answer: Annotated[Any, Depends(authorize)],
    ) -> AsyncResult[Any]:
        if not is_allowed(answer):
            raise _no_such_task()
        return result

    return allow


def result_router(
    *,
    authorize: Authorize,
    cardoon: Cardoon | None = None,
    result_type: Any = Any,
    max_wait: float = MAX_WAIT,
    traceback: bool = False,
) -> APIRouter:
    """A route that shows where a task stands: `GET /{task_id}`, and with `?wait=SECONDS` a long poll.

    `app.include_router(result_router(authorize=may_see), prefix="/results")`. See `result_dependency` for
    `authorize`. `result_type` is what the tasks return, for the OpenAPI document; a result that is not of
    it is an error. A long poll answers when the task has ended or the seconds are over, `max_wait` at
    most, and keeps no thread. `traceback` shows tracebacks.
    """
    router = APIRouter()
    find = result_dependency(authorize=authorize, cardoon=cardoon)

    @router.get(
        "/{task_id}",
        response_model=TaskStatus if result_type is Any else TaskStatus[result_type],
        responses={404: {"description": "No such task, or not yours."}},
    )
    async def read_task_status(
        response: Response,
        result: Annotated[AsyncResult[Any], Depends(find)],
        wait: Annotated[
            float, Query(ge=0, le=max_wait, description="Seconds to wait for the task's end.")
        ] = 0.0,
    ) -> Any:
        """Where a task stands."""
        response.headers.update(_NO_STORE)
        if wait:
            await _wait_until_ready(result, wait)
        return await run_in_threadpool(show_result, result, traceback=traceback)

    return router


async def unavailable(request: Request, error: Exception) -> JSONResponse:
    """Answer 503 where the broker or the result backend does not.

    `FastAPI(exception_handlers={OperationalError: unavailable})`.
    """
    if not isinstance(error, OperationalError):
        raise error
    logger.warning("%s %r: 503: %s", request.method, request.url.path, error)
    headers: Mapping[str, str] = {**_NO_STORE, "Retry-After": str(RETRY_AFTER)}
    detail = "the task queue does not answer; try again"
    return JSONResponse({"detail": detail}, status_code=503, headers=headers)


async def _wait_until_ready(result: AsyncResult[Any], seconds: float) -> None:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            await result.wait_async()
    except TimeoutError:
        if not limit.expired():
            raise


def _no_such_task() -> HTTPException:
    return HTTPException(404, "no such task", headers=_NO_STORE)
