"""Flask: tasks within the app context, settings from `app.config`, a page that shows results.

    queue = FlaskCardoon(app)            # or FlaskCardoon() and queue.init_app(app)

The recipe of Flask's own documentation works as well, with `from cardoon import Celery, Task,
shared_task`. docs/flask.md has both.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec, TypeAlias, TypeVar

from cardoon.app import Cardoon
from cardoon.exceptions import (
    ImproperlyConfigured,
    InvalidTaskError,
    OperationalError,
    TimeoutError,  # noqa: A004  # Celery's name
)
from cardoon.result.shown import check_authorize, is_allowed, show_result
from cardoon.task import Task as _Task

try:
    from flask import Blueprint, Flask, Request, Response, current_app, request
except ModuleNotFoundError as error:
    raise ImportError(f"cardoon.contrib.flask: {error}; pip install cardoon[flask]") from error

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

RETRY_AFTER = 5
"""Seconds after which a client may try again, where the broker did not answer."""
_NO_STORE = {"Cache-Control": "no-store"}

Authorize: TypeAlias = Callable[[Request, str], bool] | Callable[[Request, str], Awaitable[bool]]
"""Whether whoever sent the request may see the result of the task with the id."""


class FlaskTask(_Task[P, R]):
    """A task whose body runs within an app context of its own, torn down when it has ended."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the body within an app context; one that is a coroutine, to its end."""
        if inspect.iscoroutinefunction(self.run):
            return self._run_async(*args, **kwargs)  # type: ignore[return-value]  # `R` is awaitable
        with self._flask.app_context():
            return super().__call__(*args, **kwargs)

    async def _run_async(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        with self._flask.app_context():
            return await super().__call__(*args, **kwargs)  # type: ignore[misc]  # as above

    @property
    def _flask(self) -> Flask:
        found = self.app
        if isinstance(found, FlaskCardoon):
            return found.flask
        raise ImproperlyConfigured(
            f"task {self.name!r}: a FlaskTask belongs to a FlaskCardoon, not to {found!r}"
        )


class FlaskCardoon(Cardoon):
    """A `Cardoon` app that belongs to a Flask application.

    Settings come from `app.config["CARDOON"]`, or from `app.config["CELERY"]`, and from `CARDOON_<NAME>`
    in `app.config`; they win over keyword arguments. Tasks run within an app context. Found as
    `app.extensions["cardoon"]` and `app.extensions["celery"]`, where `-A` looks, too.
    """

    Task: type[_Task[..., Any]] = FlaskTask

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        """Takes what `Cardoon` takes, and the Flask application if there is one yet."""
        super().__init__(**options)
        if not issubclass(self.Task, FlaskTask):
            raise ImproperlyConfigured(
                f"task_cls: {self.Task!r} is not a subclass of FlaskTask, so its tasks would have no app "
                "context"
            )
        self._flask: Flask | None = None
        self._own = dict(self.conf.explicit)
        self._named = self.main
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Take settings from the Flask application, and run tasks within its context.

        Called again with another one, as tests do that make their application anew, it belongs to that one,
        and nothing of the settings of the one before is left.
        """
        if "cardoon" in app.extensions:
            raise ImproperlyConfigured(
                f"init_app: the Flask application {app.name!r} has a Cardoon app already"
            )
        settings = read_config(app.config)
        self.conf.reset({**self._own, **settings})
        self.main = self._named or app.name
        self._flask = app
        app.extensions["cardoon"] = self
        app.extensions.setdefault("celery", self)
        self.set_default()

    @property
    def flask(self) -> Flask:
        """The Flask application."""
        if self._flask is None:
            raise ImproperlyConfigured(
                "FlaskCardoon: init_app(app) has not been called; let -A name the module that makes the "
                "Flask application, or its factory: -A shop:create_app()"
            )
        return self._flask


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a Flask application's config; `ImproperlyConfigured` where it says one twice.

    Names may be in capitals, as `app.config.from_prefixed_env()` leaves them.
    """
    whole = [name for name in ("CARDOON", "CELERY") if config.get(name)]
    if len(whole) > 1:
        raise ImproperlyConfigured("app.config: has CARDOON and CELERY; keep one of them")
    found: dict[str, Any] = {}
    for name in whole:
        if not isinstance(config[name], Mapping):
            raise ImproperlyConfigured(f"app.config: {name}={config[name]!r} is not a dict")
        found = {str(key).lower(): value for key, value in config[name].items()}
    for key, value in config.items():
        if key.startswith("CARDOON_"):
            setting = key.removeprefix("CARDOON_").lower()
            if setting in found:
                raise ImproperlyConfigured(
                    f"app.config: {setting} is set in {whole[0]!r} and by {key!r}; keep one of them"
                )
            found[setting] = value
    return found


def result_blueprint(
    *,
    authorize: Authorize,
    name: str = "results",
    max_wait: float = 0.0,
    traceback: bool = False,
) -> Blueprint:
    """A page that shows where a task stands, as JSON: `GET /<task_id>`.

    `app.register_blueprint(result_blueprint(authorize=may_see), url_prefix="/results")`. Only those for
    whom `authorize(request, task_id)` returns True see anything; others get what they get for an id that
    cannot be one, 404. It may also `abort(401)`. With `max_wait`, `?wait=SECONDS` answers when the task
    has ended or the seconds are over; each such request keeps a thread. `traceback` shows tracebacks.
    """
    check_authorize(authorize)
    blueprint = Blueprint(name, __name__)

    @blueprint.get("/<task_id>")
    def show(task_id: str) -> Response:
        """Where the task stands."""
        try:
            result = _application().AsyncResult(task_id)
        except InvalidTaskError:
            return _answer({"detail": "no such task"}, 404)
        if not is_allowed(current_app.ensure_sync(authorize)(request, task_id)):
            return _answer({"detail": "no such task"}, 404)
        wait = _parse_wait(request.args.get("wait", "0"), max_wait)
        if wait is None:
            return _answer({"detail": f"wait: seconds from 0 to {max_wait:g}"}, 400)
        if wait:
            _wait_until_ready(result, wait)
        return _answer(show_result(result, traceback=traceback), 200)

    return blueprint


def unavailable(error: OperationalError) -> Response:
    """Answer 503 where the broker or the result backend does not.

    `app.register_error_handler(OperationalError, unavailable)`.
    """
    logger.warning("%s %r: 503: %s", request.method, request.path, error)
    answer = _answer({"detail": "the task queue does not answer; try again"}, 503)
    answer.headers["Retry-After"] = str(RETRY_AFTER)
    return answer


def _application() -> Cardoon:
    for name in ("cardoon", "celery"):
        found = current_app.extensions.get(name)
        if isinstance(found, Cardoon):
            return found
    raise ImproperlyConfigured(
        f"the Flask application {current_app.name!r} has no Cardoon app; call FlaskCardoon(app)"
    )


def _answer(body: Mapping[str, Any], status: int) -> Response:
    text = current_app.json.dumps(body)
    return Response(f"{text}\n", status, _NO_STORE, mimetype="application/json")


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
