"""The names of workers, under Celery's name."""

from __future__ import annotations

from cardoon.queues import Exchange, Queue

__all__ = ["nodename", "nodesplit", "worker_direct"]

_DIRECT_EXCHANGE = Exchange("C.dq")


def worker_direct(hostname: str | Queue) -> Queue:
    """The queue of one worker alone, for `apply_async(queue=worker_direct("w1@host"))`.

    A worker consumes it with `worker_direct = True`. A `Queue` is returned as it is.
    """
    if isinstance(hostname, Queue):
        return hostname
    return Queue(f"{hostname}.dq", _DIRECT_EXCHANGE, hostname)


def nodename(name: str, hostname: str) -> str:
    """A worker's full name."""
    return f"{name}@{hostname}"


def nodesplit(name: str) -> tuple[str | None, str]:
    """A worker's name and its host; None and the whole where there is no `@`."""
    first, mark, host = name.partition("@")
    return (first, host) if mark else (None, name)
