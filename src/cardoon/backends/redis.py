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
    from cardoon.redis.posting import Records
    from cardoon.redis.store import SharesStore, Store, open_store
    from cardoon.redis.subscription import News, Subscription, Subscriptions
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


class RedisBackend(Records):
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
            (values,) = self._store.ask_many([self._look_for(some)])
            found.update((result.task_id, result) for result in self._unpack(some, values))
        return found

    def wait(self, task_ids: Collection[str], *, timeout: float | None) -> Iterator[SealedResult]:
        """Yield each final result as it arrives; see the contract for collections that grow."""
        deadline = None if timeout is None else _REAL_TIME.monotonic() + timeout
        pending = dict.fromkeys(task_ids)
        may_grow = not isinstance(task_ids, (list, tuple, set, frozenset))
        tells_all = may_grow or len(pending) > _FEW
        names: list[str | None] = [None] if tells_all else [*pending]
        channels = [self._store.key("done", name) for name in names]
        subscription = self._subscriptions.subscribe(channels, is_brief=not tells_all)
        found: list[SealedResult] = []
        looked_for: Sequence[str] = ()
        try:
            while pending:
                if not subscription.listens:
                    found, looked_for = self._begin(
                        subscription, list(pending), tells_all=tells_all
                    )
                for result in (*found, *self.load(looked_for).values()):
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
                found, looked_for = self._hear(told, pending, tells_all=tells_all)
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

    def _begin(
        self, subscription: Subscription, names: Sequence[str], *, tells_all: bool
    ) -> tuple[list[SealedResult], Sequence[str]]:
        """Begin to listen; what is there by then, and what is still to be looked for."""
        answer = subscription.listen(() if tells_all else self._look_for(names))
        if answer is None:
            return [], names
        return self._unpack(names, answer), []

    def _hear(
        self, told: Sequence[News] | None, pending: dict[str, None], *, tells_all: bool
    ) -> tuple[list[SealedResult], Sequence[str]]:
        """What a subscription brought, and what is to be looked for; it is begun anew where that is not known."""
        if told is None:
            return [], []
        if not told:
            return [], _rotate(pending)
        with understood(self._store.place):
            if tells_all:
                names = {name.decode() for one in told for name in one.text.split(b"\n")}
                return [], [name for name in names if name in pending]
        skipped = len(self._store.key("done", ""))
        whole = {one.channel[skipped:]: one.text for one in told}
        found = self._unpack([*whole], [text or None for text in whole.values()])
        return found, [name for name, text in whole.items() if not text and name in pending]

    def _look_for(self, names: Sequence[str]) -> tuple[str, ...]:
        return ("MGET", *(self._store.key("result", name) for name in names))

    def _unpack(self, names: Sequence[str], values: Sequence[bytes | None]) -> list[SealedResult]:
        """Those that are there."""
        with understood(self._store.place):
            pairs = zip(names, values, strict=True)
            results = [unpack_result(name, value) for name, value in pairs if value is not None]
        return [result for result in results if not self._is_expired(result)]

    def _is_expired(self, result: SealedResult) -> bool:
        # The server forgets what has expired, by its own clock; only an injected one is asked here.
        now = self._store.injected_now
        return now is not None and result.expires_at is not None and result.expires_at <= now


def _rotate(pending: dict[str, None]) -> list[str]:
    """Some of those that are waited for, so that one look after the other goes through all."""
    some = list(islice(pending, _MOST_AT_ONCE))
    for name in some:
        pending[name] = pending.pop(name)
    return some


def _transport_of(beside: object) -> Mapping[str, Any]:
    return beside.store.transport if isinstance(beside, SharesStore) else {}
