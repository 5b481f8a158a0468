"""Kinds: the types of events, Celery's and ours, and what each of them says."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

COMMON = ("hostname", "utcoffset", "pid", "clock", "timestamp", "local_received", "signer")
"""What every received event has. The last two are the receiver's own words: when it came, by this
host's clock, and who signed it, so that whatever a worker calls itself, it speaks for nobody else."""

_CALL = ("uuid", "name", "args", "kwargs", "retries", "eta", "expires", "root_id", "parent_id")
_SOFTWARE = ("freq", "sw_ident", "sw_ver", "sw_sys")
_LOAD = ("active", "processed", "loadavg")

TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "task-sent": (*_CALL, "queue", "exchange", "routing_key"),
        "task-received": _CALL,
        "task-started": ("uuid",),
        "task-succeeded": ("uuid", "result", "runtime"),
        "task-failed": ("uuid", "exception", "traceback"),
        "task-rejected": ("uuid", "requeue"),
        "task-revoked": ("uuid", "terminated", "signum", "expired"),
        "task-retried": ("uuid", "exception", "traceback"),
        "worker-online": _SOFTWARE,
        "worker-heartbeat": (*_SOFTWARE, *_LOAD),
        "worker-offline": _SOFTWARE,
        "task-ignored": ("uuid",),
        "task-violation": ("uuid", "name", "rule", "by", "count"),
        "message-refused": ("queue", "reason"),
    }
)
"""Celery's types with Celery's fields; then ours: a task that raised
`Ignore`, what a sandbox refused a task, and a message that a
worker refused. Applications may send others."""

LOST = "events-lost"
"""What a receiver says by itself, to its own handlers: that events are missing (`count`, and `reason`:
`gap`, `dropped` or `late`) of `hostname`. It never travels."""

HIDDEN = "<hidden>"
"""What stands for arguments, results, exceptions and tracebacks: events are signed, and not sealed. Who
may read them finds them in the result."""


def group_from(type: str) -> str:
    """The group of a type: what stands before the first `-`."""
    return type.partition("-")[0]
