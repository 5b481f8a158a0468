"""Task: a function, and how to call, bound and retry it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from types import MethodType
from typing import (
    Any,
    Generic,
    ParamSpec,
    TypeVar,
)

from cardoon.application import Application
from cardoon.bounds import KeySource, said_by
from cardoon.calling import CallDefaults, check_options, check_text, to_epoch
from cardoon.canvas import Signature, chunks, group, xmap, xstarmap
from cardoon.canvas.steps import ACCUMULATE
from cardoon.config import Settings
from cardoon.context import Request, carrying_out, current_request, note_children
from cardoon.conversion import Conversion, conversion_of
from cardoon.exception_info import ExceptionInfo
from cardoon.exceptions import (
    ImproperlyConfigured,
    InvalidTaskError,
    MaxRetriesExceededError,
    Replaced,
    Retry,
)
from cardoon.message.serializers import encode_body
from cardoon.queues import Queue
from cardoon.result import AsyncResult, EagerResult
from cardoon.retrying import NO_LIMIT, retry_limit
from cardoon.sandbox.profile import Sandbox
from cardoon.stamps import as_options
from cardoon.task_options import CALL_OPTIONS, TASK_OPTIONS, ArgumentCheck, check_task_options

P = ParamSpec("P")
R = TypeVar("R")

_UNSET = object()
_POSITIONAL = frozenset(
    {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
)


class Task(Generic[P, R]):
    """A function that can be called elsewhere.

    Made by `@app.task`. Subclass it (`base=`, `app.register_task`) to share options and hooks.
    The class attributes are the options of the decorator; None means the app's setting.
    """

    name: str = ""
    max_retries: int | None = 3
    """None for no limit. Signed into each message: no worker can exceed it."""
    default_retry_delay: float = 180.0
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = {}
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600.0
    retry_jitter: bool = True
    throws: tuple[type[BaseException], ...] = ()
    """Exceptions that are expected: logged without a traceback."""
    ignore_result: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    track_started: bool | None = None
    acks_late: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    max_crashes: int | None = None
    rate_limit: str | float | None = None
    """Starts per second, or "10/m", "100/h", for each worker."""
    unique: bool | float | None = None
    """True: no second call while one is stored. Seconds: nor within so many after its sending."""
    unique_key: str | KeySource | None = None
    """Arguments that make two calls the same; by default all. Or a callable that makes text of them."""
    concurrency_limit: int | None = None
    """How many may run at a time, over all workers."""
    limit_key: str | KeySource | None = None
    """As `unique_key`: those with equal ones share the two limits; by default all of the task."""
    cluster_rate_limit: str | float | None = None
    """As `rate_limit`, over all workers."""
    sandbox: Sandbox | None = None
    """What it may reach where it runs, with `-P isolated`; a dict of the same fields will do."""
    time_limit: float | None = None
    soft_time_limit: float | None = None
    serializer: str | None = None
    compression: str | None = None
    priority: int | None = None
    queue: str | Queue | None = None
    exchange: str | None = None
    routing_key: str | None = None
    expires: float | datetime | None = None
    typing: bool = True
    """Whether arguments are checked against the signature at the call, and converted by its hints."""
    trail: bool = True
    """Whether its result names the tasks that it has called (`result.children`)."""
    pydantic: bool = False
    """Models as in Celery: the result stays what `model_dump` made of it."""
    pydantic_strict: bool = False
    pydantic_context: Mapping[str, Any] | None = None
    pydantic_dump_kwargs: Mapping[str, Any] | None = None
    abstract: bool = False

    _application: Application | None = None
    _argument_check: ArgumentCheck | None = None
    _defaults: tuple[Settings, CallDefaults] | None = None
    _overlaid: Mapping[str, Any] = {}
    """What the instance had before settings changed it: `_UNSET` where it had nothing of its own."""

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The body. Given by the decorator, or by a subclass."""
        raise NotImplementedError(f"task {self.name!r} has no body; define run()")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the body here, in the caller's process, without a message."""
        request = current_request()
        if request is not None and request.task == self.name and not request.entered:
            request.entered = True
            return self.run(*args, **kwargs)
        direct = Request(task=self.name, args=args, kwargs=kwargs, entered=True)
        direct.hostname = None if request is None else request.hostname
        with carrying_out(direct):
            return self.run(*args, **kwargs)

    # Calling it elsewhere

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send a message that calls the task; the result comes later.

        Durable when it returns. Raises `InvalidTaskError` for arguments that do not fit, `EncodeError`
        for those that cannot travel, `OperationalError` where the broker does not confirm in time.
        """
        return self.app.send(self, args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """`delay` with options: see `cardoon.calling.CallOptions`."""
        return self.app.send(self, args or (), kwargs or {}, **options)

    def send_many(self, calls: Iterable[Any], **options: Any) -> list[AsyncResult[R]]:
        """Send many calls at once: signed as batches, stored in one transaction, all or none.

        Each call is a tuple or list of positional arguments, or a dict of keyword arguments.
        """
        return self.app.send_calls(self, calls, **options)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """`delay` for coroutines: does not block the event loop."""
        return await self.app.asend(self, args, kwargs)

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """`apply_async` for coroutines."""
        return await self.app.asend(self, args or (), kwargs or {}, **options)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Run the task here and now, with retries and hooks, and return how it ended."""
        return self.app.run_eagerly(self, args or (), kwargs or {}, **options)

    def AsyncResult(self, task_id: str) -> AsyncResult[R]:  # noqa: N802  # Celery's name
        """The handle on a result of this task."""
        convert = None if self.conversion is None else self.conversion.result
        return AsyncResult(task_id, source=self.app, convert=convert)

    def signature(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **options: Any,
    ) -> Signature:
        """A call to make later."""
        return self.app.signature(
            self.name, args=args, kwargs=kwargs, immutable=immutable, options=options
        )

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """`signature(args, kwargs)`."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """`signature(args, kwargs, immutable=True)`."""
        return self.signature(args, kwargs, immutable=True)

    def map(self, it: Iterable[Any]) -> xmap:
        """`[task(item) for item in it]` in one message."""
        return xmap(self.s(), it)

    def starmap(self, it: Iterable[Any]) -> xstarmap:
        """`[task(*item) for item in it]` in one message."""
        return xstarmap(self.s(), it)

    def chunks(self, it: Iterable[Any], n: int) -> chunks:
        """The items in parts of `n`, each part one message."""
        return chunks(self.s(), it, n)

    # From inside the running task

    @property
    def request(self) -> Request:
        """The call that is being carried out; an empty one outside of any."""
        return current_request() or Request(task=self.name)

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None
    ) -> None:
        """Store a state with `meta` for whoever follows the task; signed like a result."""
        request = self.request
        wanted = task_id or request.id
        if not wanted or not state:
            raise InvalidTaskError("update_state: needs a state, and a running task or a task_id")
        check_text("state", state, 64)
        if request.is_eager:
            return
        codec = request.answer_codec
        self.app.sender.update_state(wanted, state, codec, encode_body({"result": meta}, codec))

    def add_trail(self, result: Any) -> Any:
        """Have the running task's result name another one as its child; returns that."""
        if self.trail:
            note_children([result])
        return result

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,  # noqa: FBT001, FBT002  # Celery's signature
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Raise `Retry`: the task ends here and runs again later, as the same message.

        Changed arguments or options make a new message, signed by the worker, with the same id. Raises
        `exc`, or `MaxRetriesExceededError` without one, when no retry is left: neither more than
        `max_retries`, nor more than the sender signed.
        """
        request = self.request
        if exc is None:
            exc = sys.exc_info()[1] if isinstance(sys.exc_info()[1], Exception) else None
        if request.called_directly:
            raise exc or Retry("called directly, so there is no message to retry")
        limit = retry_limit(
            self.max_retries if max_retries is None else max_retries, request.max_retries
        )
        if request.retries >= limit:
            request.exhausted = True
            raise exc or MaxRetriesExceededError(
                f"{self.name}[{request.id}] has used its {limit} retries"
            )
        retry = Retry(exc=exc, when=self._retry_time(eta, countdown), is_eager=request.is_eager)
        if args is not None or kwargs is not None or options:
            check_options(options, method="retry")
            retry.sig = self.signature(
                request.args if args is None else args,
                request.kwargs if kwargs is None else kwargs,
                **options,
            )
        if throw:
            raise retry
        request.pending_retry = retry
        return retry

    def replace(self, sig: Signature) -> Any:
        """Put a canvas in the task's place: `raise self.replace(sig)` ends the task here.

        What waits for the task waits for the canvas, and the result under its id is the canvas's. A
        group's is the list of results. The worker signs it, as itself. Run eagerly, it returns the result.
        """
        whole = sig | self.app.signature(ACCUMULATE) if isinstance(sig, group) else sig
        return self.on_replace(whole)

    def on_replace(self, sig: Signature) -> Any:
        """Called by `replace` with what takes the task's place, to stamp it, say; return `super()`'s."""
        request = self.request
        if request.called_directly or request.is_eager:
            return sig.clone(**as_options(request.stamps)).apply().get()
        raise Replaced(sig)

    def add_to_chord(self, sig: Signature) -> Any:
        """Refused: the members of a chord are signed by who sent it; `replace` yourself with a group."""
        raise InvalidTaskError(
            f"{self.name}.add_to_chord({sig!r}): who sent a chord has signed who its members are; use "
            "self.replace(group(...)), whose results take the place of this task's"
        )

    # Hooks for subclasses; what those behind the body raise is logged and changes nothing

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called before the body, in the process that runs it; what it raises counts as the body's."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called after a body that returned."""

    def on_retry(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo
    ) -> None:
        """Called when the task will run again."""

    def on_failure(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo
    ) -> None:
        """Called after a body that raised."""

    def after_return(
        self,
        status: str,
        retval: Any,
        task_id: str,
        args: Any,
        kwargs: Any,
        einfo: ExceptionInfo | None,
    ) -> None:
        """Called last, however it ended."""

    # What the app needs

    @property
    def app(self) -> Application:
        """The app that the task belongs to."""
        if self._application is None:
            raise ImproperlyConfigured(
                f"task {self.name!r} belongs to no app; use app.register_task"
            )
        return self._application

    def given_options(self) -> dict[str, Any]:
        """The options that a subclass or the decorator sets, as they were given."""
        return {
            name: getattr(self, name)
            for name in TASK_OPTIONS
            if name != "bind" and getattr(self, name) != getattr(Task, name)
        }

    def bind(self, application: Application) -> None:
        """Make the task part of an app."""
        self._application = application
        self._defaults = None
        if (bounds := said_by(self)) is not None:
            self._arguments().check_names(bounds)

    def overlay(self, attributes: Mapping[str, Any]) -> None:
        """Lay attributes over the task's own, in place of those that were laid over it before."""
        for name, value in self._overlaid.items():
            if value is _UNSET:
                delattr(self, name)
            else:
                setattr(self, name, value)
        self._overlaid = {name: self.__dict__.get(name, _UNSET) for name in attributes}
        for name, value in attributes.items():
            setattr(self, name, value)
        self._defaults = self._argument_check = None

    @property
    def call_defaults(self) -> CallDefaults:
        """What a call is sent with where the caller says nothing else; computed once per settings."""
        settings = self.app.settings
        if self._defaults is None or self._defaults[0] is not settings:
            self._defaults = (settings, self._make_defaults())
        return self._defaults[1]

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """`InvalidTaskError` for arguments that the body does not take."""
        if self.typing:
            self._arguments()(args, kwargs)

    def name_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments of a call by name, defaults included; `InvalidTaskError` if they do not fit."""
        return self._arguments().names(args, kwargs)

    @cached_property
    def conversion(self) -> Conversion | None:
        """What turns plain arguments into those that the annotations name; None if nothing is to be."""
        return conversion_of(self)

    @property
    def takes_failure(self) -> bool:
        """Whether, as an errback, it takes request, exception and traceback, and not only an id."""
        try:
            parameters = inspect.signature(self.run).parameters.values()
        except (TypeError, ValueError):
            return False
        return (
            any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters)
            or sum(one.kind in _POSITIONAL for one in parameters) > 1
        )

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"

    def _make_defaults(self) -> CallDefaults:
        own = {name: getattr(self, name) for name in CALL_OPTIONS}
        said = {name: value for name, value in own.items() if value is not None}
        said["max_retries"] = self._most_retries()
        return self.app.router.defaults(self.name, said, self)

    def _arguments(self) -> ArgumentCheck:
        if self._argument_check is None:
            self._argument_check = ArgumentCheck(self.name, self.run)
        return self._argument_check

    def _most_retries(self) -> int:
        """What is signed: as many as the task may ask for, by itself or through `autoretry_for`."""
        limit = self.retry_kwargs.get("max_retries", self.max_retries)
        return NO_LIMIT if limit is None else int(limit)

    def _retry_time(self, eta: datetime | None, countdown: float | None) -> float:
        if eta is not None:
            moment = check_options({"eta": eta}, method="retry").eta or eta
            return max(0.0, to_epoch(moment, self.app.settings))
        delay = check_options({"countdown": countdown}, method="retry").countdown
        return self.app.clock.now() + (self.default_retry_delay if delay is None else delay)


def make_task(
    function: Callable[..., Any],
    *,
    name: str,
    base: type[Task[..., Any]],
    options: Mapping[str, Any],
) -> Task[..., Any]:
    """A task from a function. `InvalidTaskError` for an unknown option or a wrong value."""
    checked = check_task_options(name, options)
    task = base()
    task.name = name
    task.run = MethodType(function, task) if checked.pop("bind", False) else function  # type: ignore[method-assign]
    task.__doc__ = function.__doc__
    task.__module__ = function.__module__
    for option, value in checked.items():
        setattr(task, option, value)
    task.__wrapped__ = function  # type: ignore[attr-defined]  # what inspect and documentation tools follow
    return task
