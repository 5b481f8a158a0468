"""Calls: how an app makes them, one by one, many at once, here and elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cardoon.awaiting import ResultQueue, SendQueue
from cardoon.calling import (
    MAX_ID_BYTES,
    MAX_NAME_BYTES,
    NO_OPTIONS,
    CallDefaults,
    CallOptions,
    check_options,
    check_text,
    make_call,
    result_codec,
)
from cardoon.canvas import Signature
from cardoon.canvas.signatures import send_all
from cardoon.canvas.steps import Step
from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.context import Request, current_request, note_children
from cardoon.diverting import DIVERSION
from cardoon.eager import run_eagerly
from cardoon.exceptions import InvalidTaskError
from cardoon.ids import make_id
from cardoon.publishing import (
    announce_publish,
    announce_published,
    announce_unpublished,
    telling_of_failure,
)
from cardoon.registry import Registry
from cardoon.result import AsyncResult as _AsyncResult
from cardoon.result import EagerResult
from cardoon.retrying import publish_delays, publish_until
from cardoon.routing import AMQP, Router
from cardoon.sender import Call, Duplicate, Handle, Receipt, Report, Sender
from cardoon.signals import after_task_publish, before_task_publish, task_not_published
from cardoon.task import Task as _Task
from cardoon.workflow import make_calls

_PUBLISH_OPTIONS = ("timeout", "retry", "retry_policy")
"""Options of a send and not of a task: those of a canvas's first task count for the whole."""


class Calls:
    """The half of an app that calls tasks. The other half has settings, tasks and a way to the broker."""

    tasks: Registry
    clock: Clock
    main: str | None
    _sends: SendQueue
    _results: ResultQueue
    _router: Router | None = None

    @property
    def settings(self) -> Settings:
        """The frozen settings of this moment."""
        raise NotImplementedError

    @property
    def sender(self) -> Sender:
        """The way to the broker."""
        raise NotImplementedError

    def send(
        self, task: _Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> _AsyncResult[Any]:
        """Call a task; see `Task.apply_async`."""
        task.check_arguments(args, kwargs)
        if self.settings.task_always_eager:
            return self.run_eagerly(task, args, kwargs, **options)
        checked = check_options(options)
        if checked.link or checked.link_error:
            return self._send_linked(task.name, args, kwargs, options)
        if task.pydantic:
            args, kwargs = _dumped(task, args, kwargs)
        call = self.make_call(task.name, args, kwargs, checked, task.call_defaults)
        return self._publish([call], checked, task)[0]

    def send_steps(self, steps: Sequence[Step]) -> Sequence[Receipt | None]:
        """Send a canvas: all its steps or none."""
        told = {name: steps[0].options.get(name) for name in _PUBLISH_OPTIONS} if steps else {}
        calls = make_calls(self, steps)
        with telling_of_failure(calls):
            receipts = self._dispatch(calls, check_options(told))
        _announce_sent(calls, receipts)
        return receipts

    def send_calls(
        self, task: _Task[..., Any], calls: Iterable[Any], **options: Any
    ) -> list[_AsyncResult[Any]]:
        """Call a task many times in one transaction; see `Task.send_many`."""
        pairs = [_split_call(task.name, call) for call in calls]
        for args, kwargs in pairs:
            task.check_arguments(args, kwargs)
        if self.settings.task_always_eager:
            return [self.run_eagerly(task, args, kwargs, **options) for args, kwargs in pairs]
        checked = check_options(options)
        if checked.task_id is not None:
            raise InvalidTaskError("send_many: one task_id cannot name many calls")
        defaults = task.call_defaults
        if task.pydantic:
            pairs = [_dumped(task, args, kwargs) for args, kwargs in pairs]
        return self._publish(
            [self.make_call(task.name, args, kwargs, checked, defaults) for args, kwargs in pairs],
            checked,
            task,
        )

    async def asend(
        self, task: _Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> _AsyncResult[Any]:
        """Call a task from a coroutine; concurrent calls are stored together."""
        task.check_arguments(args, kwargs)
        if self.settings.task_always_eager:
            # A task that is a coroutine needs a loop of its own, which one thread cannot have twice.
            return await asyncio.to_thread(self.run_eagerly, task, args, kwargs, **options)
        checked = check_options(options)
        if checked.link or checked.link_error:
            return await asyncio.to_thread(self.send, task, args, kwargs, **options)
        if task.pydantic:
            args, kwargs = _dumped(task, args, kwargs)
        call = self.make_call(task.name, args, kwargs, checked, task.call_defaults)
        if DIVERSION.get() is not None:
            raise InvalidTaskError(
                f"{task.name}: a coroutine cannot send within a block that diverts what is sent, such as "
                "atomic_send; use delay or apply_async there, or send behind it"
            )
        with telling_of_failure([call]):
            if checked.timeout is not None or checked.retry is not None or checked.retry_policy:
                [receipt] = await asyncio.to_thread(self._sign_and_store, [call], checked)
            else:
                receipt = await self._sends.send(call, within=self.settings.task_publish_timeout)
        # In the context that `before_task_publish` had.
        return self._results_of([call], [receipt], checked, task)[0]

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> _AsyncResult[Any]:
        """Call a task by name. It need not be known here; then its arguments are not checked."""
        if name in self.tasks:
            return self.send(self.tasks[name], args or (), kwargs or {}, **options)
        check_text("task name", name, MAX_NAME_BYTES)
        checked = check_options(options)
        if checked.link or checked.link_error:
            return self._send_linked(name, args or (), kwargs, options)
        call = self.make_call(name, args or (), kwargs or {}, checked, self.defaults_of(name))
        return self._publish([call], checked)[0]

    def send_many(self, signatures: Iterable[Signature]) -> list[Any]:
        """Send many signatures and canvases, all or none; return their results' handles."""
        return send_all(self, list(signatures))

    def apply_task(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> EagerResult[Any]:
        """Run a task by name, here and now."""
        return self.run_eagerly(self.tasks[name], args, kwargs, **options)

    def run_eagerly(
        self, task: _Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> EagerResult[Any]:
        """Run one call here and now, with its retries; see `Task.apply`."""
        throw = options.pop("throw", self.settings.task_eager_propagates)
        checked = check_options(options)
        around = current_request()
        request = Request(
            task=task.name,
            id=checked.task_id or self.new_id(),
            args=tuple(args),
            kwargs=dict(kwargs),
            retries=checked.retries,
            max_retries=checked.max_retries,
            headers=dict(checked.headers or {}),
            stamps=checked.stamps or {},
            hostname=None if around is None else around.hostname,
            is_eager=True,
            called_directly=False,
        )
        result: EagerResult[Any] = run_eagerly(task, request, source=self)
        for callback in checked.link if result.successful() else ():
            Signature.from_dict(callback).bound_to(self).apply((result.result,))
        for errback in () if result.successful() else checked.link_error:
            call = Signature.from_dict(errback).bound_to(self)
            several = call.task in self.tasks and self.tasks[call.task].takes_failure
            failure = (request, result.result, result.traceback) if several else (result.id,)
            call.apply(failure)
        if throw:
            result.get()
        return result

    def signature(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Signature:
        """A call to make later, by name."""
        return Signature(name, args, kwargs, options, immutable=immutable, caller=self)

    def AsyncResult(self, task_id: str) -> _AsyncResult[Any]:  # noqa: N802  # Celery's name
        """The handle on the result of a task that was sent elsewhere or before."""
        check_text("task_id", task_id, MAX_ID_BYTES)
        return _AsyncResult(task_id, source=self)

    @property
    def max_result_bytes(self) -> int:
        """How large a decoded result may be."""
        return self.settings.message_max_bytes

    @property
    def result_codec(self) -> str:
        """How what is kept beside results is written."""
        return result_codec(self.settings)

    async def wait_for(self, handle: Handle) -> Report:
        """A final result, for a coroutine."""
        return await self._results.wait_for(handle)

    @property
    def is_eager(self) -> bool:
        """Whether calls run here and now."""
        return self.settings.task_always_eager

    @property
    def router(self) -> Router:
        """What decides where messages go; the same object until a setting changes."""
        settings, made = self.settings, self._router
        if made is None or made.settings is not settings:
            made = self._router = Router(settings)
        return made

    @property
    def amqp(self) -> AMQP:
        """Queues and the router, under Celery's names: `app.amqp.queues`, `app.amqp.router`."""
        return AMQP(self.router)

    def defaults_of(self, name: str) -> CallDefaults:
        """What calls of a task are sent with, be it known here or not."""
        task = self.tasks.get(name)
        return self.router.defaults_of_unknown(name) if task is None else task.call_defaults

    def new_id(self) -> str:
        """A fresh task id."""
        return make_id(self.clock)

    def _send_linked(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> _AsyncResult[Any]:
        call = self.signature(name, args, kwargs, options=options)
        found: _AsyncResult[Any] = call.apply_async()
        return found

    def make_call(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: CallOptions,
        defaults: CallDefaults,
        *,
        embed: Mapping[str, Any] | None = None,
        told: Mapping[str, Any] | None = None,
    ) -> Call:
        """One call, ready to be signed; inside of a task it says which one is its parent.

        A canvas, which gives `embed`, has more to say of its calls and announces them itself.
        """
        if defaults.per_call is not None:
            options, defaults = defaults.per_call(args, kwargs, options)
        queue = None if options is NO_OPTIONS else self.router.find(options, defaults)
        call = make_call(
            name,
            (args, kwargs),
            options,
            defaults=defaults,
            settings=self.settings,
            clock=self.clock,
            new_id=self.new_id,
            queue=queue,
            embed=embed,
            told=told,
        )
        running = current_request()
        if running is not None and running.id is not None and call.parent is None:
            call = call._replace(root=call.root or running.root_id, parent=running.id)
        if before_task_publish.receivers and embed is None:
            return announce_publish(
                call, args, kwargs, settings=self.settings, policy=options.retry_policy
            )
        return call

    def _publish(
        self, calls: Sequence[Call], options: CallOptions, task: _Task[..., Any] | None = None
    ) -> list[_AsyncResult[Any]]:
        with telling_of_failure(calls):
            receipts = self._dispatch(calls, options)
        return self._results_of(calls, receipts, options, task)

    def _results_of(
        self,
        calls: Sequence[Call],
        receipts: Sequence[Receipt | None],
        options: CallOptions,
        task: _Task[..., Any] | None,
    ) -> list[_AsyncResult[Any]]:
        """The handles on what was sent, which is announced."""
        _announce_sent(calls, receipts)
        conversion = None if task is None else task.conversion
        convert = None if conversion is None else conversion.result
        results: list[_AsyncResult[Any]] = []
        for call, receipt in zip(calls, receipts, strict=True):
            results.append(_AsyncResult(call.id, source=self, convert=convert))
            results[-1].take(receipt)
        if options.add_to_parent:
            note_children(results)
        return results

    def _dispatch(self, calls: Sequence[Call], options: CallOptions) -> Sequence[Receipt | None]:
        diversion = DIVERSION.get()
        if diversion is not None and calls:
            return diversion.take(self, calls, lambda: self._sign_and_store(calls, options))
        return self._sign_and_store(calls, options)

    def _sign_and_store(self, calls: Sequence[Call], options: CallOptions) -> Sequence[Receipt]:
        settings = self.settings
        timeout = options.timeout or settings.task_publish_timeout
        again = settings.task_publish_retry if options.retry is None else options.retry
        policy = options.retry_policy or settings.task_publish_retry_policy
        return publish_until(
            lambda left: self.sender.send(calls, timeout=left),
            timeout=timeout,
            delays=publish_delays(policy) if again else iter(()),
            clock=self.clock,
        )


def _dumped(
    task: _Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments as the task's options of pydantic want them written."""
    if task.conversion is None:
        return args, kwargs
    return task.conversion.dump_arguments(args, kwargs)


def _announce_sent(calls: Sequence[Call], receipts: Sequence[Receipt | None]) -> None:
    """Tell the receivers of `after_task_publish`, if any, of those calls that were stored."""
    if after_task_publish.receivers:
        sent = zip(calls, receipts, strict=True)
        announce_published([call for call, receipt in sent if not isinstance(receipt, Duplicate)])
    if task_not_published.receivers:
        sent = zip(calls, receipts, strict=True)
        again = [call for call, receipt in sent if isinstance(receipt, Duplicate)]
        announce_unpublished(again, None)


def _split_call(name: str, call: object) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(call, (tuple, list)):
        return call, {}
    if isinstance(call, dict):
        return (), call
    raise InvalidTaskError(
        f"{name}.send_many: {call!r} is neither a tuple of positional arguments nor a dict of "
        "keyword arguments; for one argument write (value,)"
    )
