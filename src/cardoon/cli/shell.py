"""`cardoon shell`: Python with the app and its tasks at hand."""

from __future__ import annotations

import code
import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from cardoon import canvas
from cardoon.app import Cardoon
from cardoon.cli.access import find_app
from cardoon.cli.main import Invocation
from cardoon.exceptions import ImproperlyConfigured
from cardoon.result import AsyncResult, GroupResult

_CANVAS = ("chain", "chord", "chunks", "group", "signature", "xmap", "xstarmap")
_PACKAGES = {"ipython": "IPython", "bpython": "bpython"}


@click.command(
    epilog="Example: `cardoon -A tasks shell`, and in it `add.delay(2, 3).get(timeout=10)`."
)
@click.option("-I", "--ipython", "kind", flag_value="ipython", help="IPython.")
@click.option("-B", "--bpython", "kind", flag_value="bpython", help="bpython.")
@click.option("--python", "kind", flag_value="python", help="Python's own.")
@click.option("-T", "--without-tasks", is_flag=True, help="Leave the tasks out.")
@click.option("--eventlet", is_flag=True, hidden=True)
@click.option("--gevent", is_flag=True, hidden=True)
@click.pass_obj
def shell(
    invocation: Invocation,
    kind: str | None,
    without_tasks: bool,  # noqa: FBT001  # click passes flags so
    eventlet: bool,  # noqa: FBT001
    gevent: bool,  # noqa: FBT001
) -> None:
    """Start Python with the app and its tasks at hand; IPython or bpython, if one of them is installed.

    There are `app` (and `celery`, the same), each task by the last part of its name, `chain`, `group`,
    `chord`, `chunks`, `signature`, `xmap`, `xstarmap`, `Task`, `AsyncResult` and `GroupResult`. A script on
    standard input is run as it is typed. Whoever has a shell may do what the app's identity may do.
    """
    for name, given in (("eventlet", eventlet), ("gevent", gevent)):
        if given:
            raise click.UsageError(f"--{name}: nothing is patched here; use --python, and threads")
    start = _find(kind)
    with find_app(invocation) as app:
        app.set_default()
        start(names_of(app, with_tasks=not without_tasks))


def names_of(app: Cardoon, *, with_tasks: bool) -> dict[str, Any]:
    """What is at hand. A task does not hide a name that every shell has."""
    names: dict[str, Any] = {}
    if with_tasks:
        for name, task in sorted(app.tasks.items()):
            short = name.rpartition(".")[2]
            if not name.startswith(("cardoon.", "celery.")) and short.isidentifier():
                names.setdefault(short, task)
    return {
        **names,
        "app": app,
        "celery": app,
        "Task": app.Task,
        "AsyncResult": AsyncResult,
        "GroupResult": GroupResult,
        **{name: getattr(canvas, name) for name in _CANVAS},
    }


def _find(kind: str | None) -> Callable[[Mapping[str, Any]], None]:
    if kind is None:
        installed = (name for name, package in _PACKAGES.items() if _is_installed(package))
        kind = next(installed, "python") if sys.stdin.isatty() else "python"
    package = _PACKAGES.get(kind)
    if package is not None and not _is_installed(package):
        raise ImproperlyConfigured(
            f"shell: {package} is not installed here; `pip install {kind}`, or use --python"
        )
    return {"ipython": _run_ipython, "bpython": _run_bpython, "python": _run_python}[kind]


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _run_ipython(names: Mapping[str, Any]) -> None:
    importlib.import_module("IPython").start_ipython(argv=[], user_ns=dict(names))


def _run_bpython(names: Mapping[str, Any]) -> None:
    importlib.import_module("bpython").embed(locals_=dict(names))


def _run_python(names: Mapping[str, Any]) -> None:
    found = dict(names)
    if not sys.stdin.isatty():
        sys.ps1 = sys.ps2 = ""  # a script on standard input is not talked to
        code.interact(banner="", local=found, exitmsg="")
        return
    with contextlib.suppress(ImportError):  # a Python that was built without it
        readline = importlib.import_module("readline")
        completer = importlib.import_module("rlcompleter").Completer(found)
        readline.set_completer(completer.complete)
        readline.parse_and_bind("tab: complete")
    at_hand = ", ".join(sorted(name for name in found if not name.startswith("_")))
    code.interact(
        banner=f"Python {sys.version.split()[0]}, with {at_hand}", local=found, exitmsg=""
    )
