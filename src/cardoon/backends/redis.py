"""The Redis driver of the ResultBackend contract; Valkey is one to it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from cardoon.backend import SealedResult
from cardoon.clock import Clock, SystemClock
from cardoon.endpoints import PLAIN_ACCESS, Access
from cardoon.exceptions import ImproperlyConfigured

try:
    from cardoon.redis.failures import understood
    from cardoon.redis.packing import pack_results, unpack_result
    from cardoon.redis.store import SharesStore, Store, open_store
    from cardoon.redis.subscription import Subscriptions
except ModuleNotFoundError as error:
    if error.name != "hiredis":
        raise
    raise ImproperlyConfigured(
        "result_backend: redis needs the redis library; pip install 'cardoon[redis]'"
    ) from error

_LOOK_AGAIN_SECONDS = 1.0
"""Hints may be lost, so whoever waits looks at the store this often."""

_FEW = 16
"""Tasks whose ends are told on a channel each; for more there is one that tells all ends."""

_MOST_AT_ONCE = 500
"""Results that are loaded together, and tasks that one look without a hint goes through."""

_REAL_TIME = SystemClock()


def connect(
    url: str,
    *,
    clock: Clock,
    beside: object,
    timeout: float,
    access: Access = PLAIN_ACCESS,
    transport: Mapping[str, Any] | None = None,
) -> RedisBackend:
    """The result backend on the servers that a URL means, which may be a broker's.

    It has the store of the broker `beside` it where both mean the same servers and database.
    `transport` is `result_backend_transport_options`; raises `ImproperlyConfigured`.
    """
    store = open_store(
        url,
        setting="result_backend",
        clock=clock,
        timeout=timeout,
        access=access,
        transport=transport or _transport_of(beside),
    )
    if isinstance(beside, SharesStore) and beside.store.means_the_same_as(store):
        store = beside.store
    return RedisBackend(store)


class RedisBackend:
    """Results in a store, which may be the broker's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._subscriptions = Subscriptions(store)

    def store(self, results: Sequence[SealedResult]) -> None:
        """Keep results. The first final one of a task stays."""
        if results:
            self._store.run("store", pack_results(results), durably=True)

    def load(self, task_ids: Sequence[str]) -> Mapping[str, SealedResult]:
        """The stored results of those tasks that have one."""
        found: dict[str, SealedResult] = {}
        for start in range(0, len(task_ids), _MOST_AT_ONCE):
            some = task_ids[start : start + _MOST_AT_ONCE]
            keys = (self._store.key("result", task_id) for task_id in some)
            (values,) = self._store.ask_many([("MGET", *keys)])
            for task_id, value in zip(some, values, strict=True):
                if value is not None:
                    with understood(self._store.place):
                        result = unpack_result(task_id, value)
                    if not self._is_expired(result):
                        found[task_id] = result
        return found

    def wait(self, task_ids: Collection[str], *, timeout: float | None) -> Iterator[SealedResult]:
        """Yield each final result as it arrives; see the contract for collections that grow."""
        deadline = None if timeout is None else _REAL_TIME.monotonic() + timeout
        pending = dict.fromkeys(task_ids)
        may_grow = not isinstance(task_ids, (list, tuple, set, frozenset))
        tells_all = may_grow or len(pending) > _FEW
        names: list[str | None] = [None] if tells_all else [*pending]
        subscription = self._subscriptions.subscribe([self._store.key("done", n) for n in names])
        looked_for: Sequence[str] = list(pending)
        try:
            while pending:
                if subscription.listen():
                    looked_for = list(pending)
                for result in self.load(looked_for).values():
                    if result.final and result.task_id in pending:
                        del pending[result.task_id]
                        yield result
                pause = _LOOK_AGAIN_SECONDS
                if deadline is not None:
                    pause = min(pause, deadline - _REAL_TIME.monotonic())
                if not pending or pause <= 0:
                    return
                told = subscription.wait(pause)
                if may_grow and told:
                    pending = dict.fromkeys(task_ids)
                looked_for = _choose(pending, told, tells_all=tells_all)
        finally:
            subscription.end()

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete the results of those tasks."""
        for start in range(0, len(task_ids), _MOST_AT_ONCE):
            some = task_ids[start : start + _MOST_AT_ONCE]
            self._store.ask_many([("DEL", *(self._store.key("result", name) for name in some))])

    def close(self) -> None:
        """Let go of every connection; safe twice."""
        self._subscriptions.close()
        self._store.close()

    def _is_expired(self, result: SealedResult) -> bool:
        # The server forgets what has expired, by its own clock; only an injected one is asked here.
        now = self._store.injected_now
        return now is not None and result.expires_at is not None and result.expires_at <= now


def _choose(
    pending: dict[str, None], told: Sequence[bytes] | None, *, tells_all: bool
) -> Sequence[str]:
    """Which results to look for, after what a subscription told; None if that is not known."""
    if told == []:
        return _rotate(pending)
    if told is None or not tells_all:
        return list(pending)
    news = {name.decode() for message in told for name in message.split(b"\n")}
    return [name for name in news if name in pending]


def _rotate(pending: dict[str, None]) -> list[str]:
    """Some of those that are waited for, so that one look after the other goes through all."""
    some = list(islice(pending, _MOST_AT_ONCE))
    for name in some:
        pending[name] = pending.pop(name)
    return some


def _transport_of(beside: object) -> Mapping[str, Any]:
    return beside.store.transport if isinstance(beside, SharesStore) else {}
