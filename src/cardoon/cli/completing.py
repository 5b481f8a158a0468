"""What shells are told of names that only the app knows. Any failure is silence: the reader is a shell.

The app is imported once for a completion, with what it prints thrown away. Queues are asked of the broker only where
that is a file of this project, since nobody wants to wait for a server between two keys.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from cardoon.app import Cardoon

    _Name = click.ParamType[str]  # generic for type checkers only, in click 8.1
else:
    _Name = click.ParamType


class _Known(_Name):
    """A name that the app knows: of a task, or of a queue, or, in lists, of several with commas."""

    name = "text"

    def __init__(self, *, tasks: bool) -> None:
        self._tasks = tasks

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The app's own tasks; or the queues that the settings declare, and those of the project's file."""
        del param
        return _complete(ctx, incomplete, tasks=self._tasks)


TASK = _Known(tasks=True)
QUEUE = _Known(tasks=False)


def _complete(ctx: click.Context, incomplete: str, *, tasks: bool) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - in no other case

    before, comma, last = ("", "", incomplete) if tasks else incomplete.rpartition(",")
    try:
        with _silence():
            names = _names(ctx, tasks=tasks)
    except BaseException:  # noqa: BLE001 - whatever a project's import does, the shell goes on
        return []
    return [
        CompletionItem(f"{before}{comma}{name}") for name in sorted(names) if name.startswith(last)
    ]


def _names(ctx: click.Context, *, tasks: bool) -> set[str]:
    from cardoon.cli.access import find_app  # noqa: PLC0415 - only when a name is completed
    from cardoon.cli.main import Invocation  # noqa: PLC0415

    given: dict[str, Any] = ctx.find_root().params
    if given.get("workdir"):
        os.chdir(given["workdir"])
    names = {"broker_url": given.get("broker"), "result_backend": given.get("result_backend")}
    settings = {name: value for name, value in names.items() if value}
    target = given.get("app") or ctx.params.get("own_app")
    app = find_app(Invocation(target, settings, quiet=True, config=given.get("config")))
    if tasks:
        return {name for name in app.tasks if not name.startswith(("cardoon.", "celery."))}
    return {row[3] for row in app.amqp.queues.bindings()} | _stored(app)


def _stored(app: Cardoon) -> set[str]:
    from cardoon.broker import Inspectable  # noqa: PLC0415
    from cardoon.clock import SystemClock  # noqa: PLC0415
    from cardoon.deployment import Deployment  # noqa: PLC0415

    deployment = Deployment(app.settings, clock=SystemClock())
    scheme, _, path = deployment.broker_url.partition("://")
    if scheme != "sqlite" or not os.path.exists(path.removeprefix("/")):  # noqa: PTH110 - as URLs are
        return set()
    broker = deployment.open_broker()
    with contextlib.closing(broker):
        return {one.queue for one in broker.depths()} if isinstance(broker, Inspectable) else set()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Throw away what is printed, by subprocesses as well."""
    sys.stdout.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in kept:
            os.dup2(null, number)
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
        os.close(null)
