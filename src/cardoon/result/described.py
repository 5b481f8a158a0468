"""What results hold, and exceptions as they describe them: names and text one way, an allow-list the other."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

from cardoon import exceptions
from cardoon.exceptions import Refusal, RefusedError, RemoteError
from cardoon.message.serializers import decode_body
from cardoon.sender import Report

_REBUILT: Mapping[str, type[BaseException]] = {
    kind.__name__: kind
    for kind in (
        exceptions.ChordError,
        exceptions.Ignore,
        exceptions.MaxRetriesExceededError,
        exceptions.NotRegistered,
        exceptions.InvalidTaskError,
        exceptions.Reject,
        exceptions.SoftTimeLimitExceeded,
        exceptions.TaskDeniedError,
        exceptions.TaskRevokedError,
        exceptions.Terminated,
        exceptions.TimeLimitExceeded,
        exceptions.WorkerLostError,
        exceptions.EncodeError,
    )
}
"""Our own exceptions that a result may name; any other one of `cardoon` becomes a `RemoteError`."""


def read_content(report: Report, *, max_bytes: int) -> Mapping[str, Any]:
    """What a result holds; `RefusedError` for what whoever signed it has not written as results are written."""
    content = decode_body(report.codec, report.body, max_bytes=max_bytes)
    if not isinstance(content, dict):
        raise RefusedError(
            Refusal.UNDECODABLE, f"its body is a {type(content).__name__}, no object"
        )
    return content


def describe_exception(error: BaseException) -> dict[str, Any]:
    """What a failed task says of its exception: names and text, never an object."""
    kind = type(error)
    return {"type": kind.__name__, "module": str(kind.__module__), "message": _message_of(error)}


def _message_of(error: BaseException) -> str:
    if type(error) is KeyError and len(error.args) == 1 and isinstance(error.args[0], str):
        return error.args[0]  # `str` would add quotes, and so would the one that is built from it
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # `__str__` is user code
        return f"{type(error).__name__}, which cannot be shown: its __str__ raises"


def rebuild_exception(described: object) -> BaseException:
    """The exception that a result describes.

    Built-in exceptions and a few of our own are rebuilt from their message; for every other type there
    is `RemoteError`, since a result must not be able to choose what is constructed here.
    """
    if not isinstance(described, Mapping):
        return RemoteError("UnknownError", "the result does not describe its exception")
    name = str(described.get("type", "UnknownError"))
    module = str(described.get("module", ""))
    message = str(described.get("message", ""))
    kind: type[BaseException] | None = None
    if module == "builtins":
        found = getattr(builtins, name, None)
        kind = found if isinstance(found, type) and issubclass(found, Exception) else None
        kind = None if kind in {StopIteration, StopAsyncIteration} else kind
    elif module == exceptions.__name__:
        kind = _REBUILT.get(name)
    if kind is None:
        return RemoteError(name, message, module)
    try:
        return kind(message)
    except TypeError:  # built-ins with several required arguments, such as UnicodeDecodeError
        return RemoteError(name, message, module)
