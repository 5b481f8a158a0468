"""How a file declares and calls tasks and uses its app: options and attributes that are not here."""

from __future__ import annotations

import ast

from cardoon.calling import check_options
from cardoon.exceptions import InvalidTaskError
from cardoon.habits import NOT_HERE
from cardoon.task_options import check_task_options
from cardoon.upgrading.source import Kind, Source, dotted, literal

_DECORATORS = frozenset({"task", "shared_task"})
_OWN = frozenset({"name", "base", "bind"})
_APPS = frozenset({"Celery", "Cardoon"})
_ARGUMENTS = frozenset({"args", "kwargs", "name"})
_CALLS = frozenset({"apply_async", "send_task"})


def report_usage(source: Source) -> None:
    """Report what needs a decision."""
    apps = {"current_app", *_app_names(source)}
    for node in source.nodes:
        match node:
            case (
                ast.FunctionDef(decorator_list=decorators)
                | ast.AsyncFunctionDef(decorator_list=decorators)
            ):
                for one in decorators:
                    _report_decorator(source, one)
            case ast.Call():
                _report_call(source, node)
            case ast.Attribute(attr=name) if name in NOT_HERE and dotted(node.value) in apps:
                source.note(node, Kind.DECIDE, f"app.{name}: {NOT_HERE[name]}")
            case _:
                pass


def _app_names(source: Source) -> set[str]:
    """What the file's own apps are called."""
    found: set[str] = set()
    for node in source.nodes:
        match node:
            case ast.Assign(targets=targets, value=ast.Call(func=func)):
                if dotted(func).rpartition(".")[2] in _APPS:
                    found |= {name for name in map(dotted, targets) if name}
            case _:
                pass
    return found


def _report_decorator(source: Source, node: ast.expr) -> None:
    if not isinstance(node, ast.Call) or dotted(node.func).rpartition(".")[2] not in _DECORATORS:
        return
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in _OWN:
            continue
        is_plain, value = literal(keyword.value)
        try:
            check_task_options("", {keyword.arg: value})
        except InvalidTaskError as error:
            said = str(error).removeprefix("task '': ")
            if is_plain or "unknown option" in said:
                source.note(keyword, Kind.DECIDE, f"task option: {said}")
        if keyword.arg == "acks_late" and is_plain and value is False:
            said = "acks_late=False: the task is lost with the worker that runs it, as in Celery"
            source.note(keyword, Kind.NOTE, said)


def _report_call(source: Source, node: ast.Call) -> None:
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in _CALLS:
        return
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in _ARGUMENTS:
            continue
        is_plain, value = literal(keyword.value)
        try:
            check_options({keyword.arg: value if is_plain else None}, method=node.func.attr)
        except InvalidTaskError as error:
            source.note(keyword, Kind.DECIDE, str(error))
