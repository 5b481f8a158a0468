"""From the steps of a canvas to calls, which are sent together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from cardoon.calling import CallDefaults, CallOptions, check_options
from cardoon.canvas.steps import Step
from cardoon.config import Settings
from cardoon.context import MAX_CHILDREN
from cardoon.exceptions import InvalidTaskError
from cardoon.message.protocol import Take
from cardoon.publishing import announce_publish
from cardoon.sender import Call
from cardoon.signals import before_task_publish
from cardoon.task import Task


class CallMaker(Protocol):
    """What makes single calls: the app."""

    @property
    def settings(self) -> Settings:
        """The frozen settings of this moment."""
        ...

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks that are known here."""
        ...

    def defaults_of(self, name: str) -> CallDefaults:
        """What calls of a task are sent with, be it known here or not."""
        ...

    def make_call(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: CallOptions,
        defaults: CallDefaults,
        *,
        embed: Mapping[str, Any],
        told: Mapping[str, Any],
    ) -> Call:
        """One call; `embed` goes into its body, `told` into its signed headers."""
        ...


def make_calls(maker: CallMaker, steps: Sequence[Step]) -> list[Call]:
    """A call for each step. `InvalidTaskError` for arguments or options that do not fit."""
    return [_make_call(maker, step) for step in steps]


def _make_call(maker: CallMaker, step: Step) -> Call:
    task = maker.tasks.get(step.task)
    defaults = maker.defaults_of(step.task)
    if task is not None and step.take is not Take.FAILURE:
        # What it will be given first is not known yet, but that it takes so many is.
        task.check_arguments([None, *step.args] if step.composes else step.args, step.kwargs)
    options = check_options({**step.options, "task_id": step.id})
    if defaults.per_call is not None:  # now: what it decides may count from the end of others
        options, defaults = defaults.per_call(step.args, step.kwargs, options)
    told: dict[str, Any] = {"links": True} if step.is_awaited else {}
    if step.is_body:
        told["body"] = True
    embed: dict[str, Any] = {}
    if step.follows:
        embed["follows"] = step.follows[:MAX_CHILDREN]
    delay = 0.0
    if step.after:
        options, defaults, after = _behind(options, defaults)
        delay = after.get("delay", 0.0)
        if after:
            told["after"] = after
        if step.composes:
            embed["compose"] = {"form": step.form}
    call = maker.make_call(
        step.task, step.args, step.kwargs, options, defaults, embed=embed, told=told
    )
    if call.unique is not None and (step.after or step.is_awaited):
        # Nobody could say what is to wait for a call that is not sent, or that was sent before.
        raise InvalidTaskError(
            f"{step.task}: unique is for a call that stands alone, and others wait for this one, or "
            "it for them; send it by itself, or with .set(unique=False)"
        )
    call = call._replace(
        group=step.group,
        after=step.after,
        take=step.take,
        delay=delay,
        root=call.root or step.root,
        parent=step.parent or call.parent,
    )
    if before_task_publish.receivers:
        return announce_publish(
            call,
            step.args,
            step.kwargs,
            settings=maker.settings,
            policy=options.retry_policy,
            embed=embed,
        )
    return call


def _behind(
    options: CallOptions, defaults: CallDefaults
) -> tuple[CallOptions, CallDefaults, dict[str, float]]:
    """Seconds count from the end of what a step waits for, which nobody knows yet."""
    after = {}
    if options.countdown is not None:
        after["delay"] = max(0.0, options.countdown)
    expires = defaults.expires if options.expires is None else options.expires
    if expires is not None and not isinstance(expires, datetime):
        after["expires"] = expires
        options = dataclasses.replace(options, expires=None)
        defaults = defaults._replace(expires=None)
    return dataclasses.replace(options, countdown=None), defaults, after
