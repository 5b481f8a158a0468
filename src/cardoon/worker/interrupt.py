"""Raises an exception inside a thread that runs a task."""

from __future__ import annotations

import ctypes

from cardoon.exceptions import SoftShutdown, SoftTimeLimitExceeded, Terminated

REASONS = {
    "soft_time_limit": SoftTimeLimitExceeded,
    "shutdown": SoftShutdown,
    "terminated": Terminated,
}
"""Why a job is interrupted, as CANCEL frames say it, and what the task sees."""


def raise_in_thread(identifier: int, kind: type[BaseException]) -> None:
    """Raise `kind` in a thread at its next bytecode; not while it waits in a system call.

    CPython's own means, in its stable ABI: `PyThreadState_SetAsyncExc`. A task that sits in C code for
    ever is not reached; its hard limit ends the process instead.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(identifier), ctypes.py_object(kind))
