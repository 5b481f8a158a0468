"""Queues, exchanges and bindings as values, with kombu's names: where messages go, without a broker.

There are no exchanges in the broker. A client looks the queue up that an exchange and a routing key
lead to, and signs its name into the message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from cardoon.exceptions import ImproperlyConfigured

logger = logging.getLogger(__name__)

EXCHANGE_TYPES = ("direct", "topic", "fanout")
MAX_NAME_BYTES = 256
"""Of a queue, as the claims bound it (docs/protocol.md)."""

_PRIVATE = ">"
"""Between the name of a broadcast queue and that of a worker."""

_DURABLE = "messages are always kept durably"
_NEEDS_NOTHING = "a queue is there as soon as somebody names it, and costs nothing when it is empty"
_PRIORITIES = "every queue has the priorities 0 to 9, 9 first"
_NOTED = {
    "auto_delete": _NEEDS_NOTHING,
    "delivery_mode": _DURABLE,
    "durable": _DURABLE,
    "max_priority": _PRIORITIES,
    "no_declare": _NEEDS_NOTHING,
    "passive": _NEEDS_NOTHING,
    "x-max-priority": _PRIORITIES,
    "x-queue-mode": "the broker decides where messages lie",
    "x-queue-type": "queues have no types",
}
"""Taken, and noted: there is nothing to set."""

_CONNECTION = "declarations belong to no connection"
_BOUND = "queues are not bounded; watch `cardoon queues`"
_NO_EXPIRY = "messages expire by themselves; give tasks expires="
_DEAD = "what cannot be completed is kept; see `cardoon dead`"
_REFUSED = {
    "arguments": "exchanges are names, and have no options",
    "binding_arguments": "there are no headers exchanges; bind by routing key",
    "channel": _CONNECTION,
    "consumer_arguments": "workers are equal; give urgent tasks a priority",
    "exclusive": "a queue is for every worker that names it; see worker_direct",
    "expires": "queues do not expire, since empty ones cost nothing",
    "max_length": _BOUND,
    "max_length_bytes": _BOUND,
    "message_ttl": _NO_EXPIRY,
    "no_ack": "set acks_late=False on the tasks that are to run at most once",
    "on_declared": "queues are not declared one by one",
    "unbind_arguments": "there are no headers exchanges; bind by routing key",
    "x-dead-letter-exchange": _DEAD,
    "x-dead-letter-routing-key": _DEAD,
    "x-expires": "queues do not expire, since empty ones cost nothing",
    "x-max-length": _BOUND,
    "x-max-length-bytes": _BOUND,
    "x-message-ttl": _NO_EXPIRY,
    "x-overflow": _BOUND,
}
"""Refused, with what to do instead."""

_USUAL: Mapping[str, tuple[object, ...]] = {"durable": (True,), "delivery_mode": (2, "persistent")}
"""Values that say what is the case anyway."""


@dataclass(frozen=True, init=False)
class Exchange:
    """A name under which queues are bound: `direct` by the same key, `topic` by a pattern, `fanout`."""

    name: str
    type: str

    def __init__(
        self, name: str = "", type: str = "", channel: object = None, **options: Any
    ) -> None:
        what = f"Exchange {name!r}"
        _set(self, name=_text(what, "name", name), type=_exchange_type(what, type or "direct"))
        _check_options(what, {"channel": channel, **options})

    def as_dict(self) -> dict[str, str]:
        """What `Exchange(**...)` makes this one of; JSON."""
        return {"name": self.name, "type": self.type}


Bindings: TypeAlias = "Sequence[binding | Mapping[str, Any]]"


@dataclass(frozen=True, init=False)
class binding:  # noqa: N801  # kombu's name
    """That an exchange leads to a queue by a routing key; one of several that a queue may have."""

    exchange: Exchange | None
    routing_key: str

    def __init__(
        self,
        exchange: Exchange | str | Mapping[str, Any] | None = None,
        routing_key: str = "",
        arguments: object = None,
        unbind_arguments: object = None,
    ) -> None:
        key = _text("binding", "routing_key", routing_key)
        _set(self, exchange=_exchange("binding", exchange), routing_key=key)
        _check_options(
            "binding", {"binding_arguments": arguments, "unbind_arguments": unbind_arguments}
        )

    def as_dict(self) -> dict[str, Any]:
        """What `binding(**...)` makes this one of; JSON."""
        return {
            "exchange": self.exchange and self.exchange.as_dict(),
            "routing_key": self.routing_key,
        }


@dataclass(frozen=True, init=False)
class Queue:
    """A queue, and how exchanges lead to it. Without an exchange it is bound to the default one.

    What has no meaning here is refused with the remedy, or noted in the log where it changes nothing.
    """

    name: str
    exchange: Exchange | None
    routing_key: str
    bindings: tuple[binding, ...]
    alias: str | None

    _usual_type = "direct"

    def __init__(
        self,
        name: str = "",
        exchange: Exchange | str | Mapping[str, Any] | Iterable[binding] | None = None,
        routing_key: str = "",
        channel: object = None,
        bindings: Bindings | None = None,
        on_declared: Callable[..., Any] | None = None,
        *,
        alias: str | None = None,
        queue_arguments: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        what = f"Queue {name!r}"
        if isinstance(exchange, (list, tuple, set, frozenset)):
            bindings, exchange = [*(bindings or ()), *exchange], None
        found = tuple(_binding(what, one) for one in bindings or ())
        if found and (exchange or routing_key):
            raise ImproperlyConfigured(
                f"{what}: it has bindings, and an exchange or a routing key beside them; make that "
                "one of the bindings"
            )
        _set(
            self,
            name=_text(what, "name", name),
            exchange=_exchange(what, exchange),
            routing_key=_text(what, "routing_key", routing_key),
            bindings=found,
            alias=alias or None,
        )
        _check_options(what, {"channel": channel, "on_declared": on_declared, **options})
        _check_options(what, queue_arguments or {})

    @classmethod
    def from_dict(cls, queue: str, **options: Any) -> Queue:
        """A queue from a dict of options, in the spelling of dicts in `task_queues`."""
        exchange = options.pop("exchange", None)
        kind = options.pop("exchange_type", None)
        key = options.pop("routing_key", None) or options.pop("binding_key", None)
        rest, of_exchange = {}, {}
        for name, value in options.items():
            if name.startswith("exchange_"):
                of_exchange[name.removeprefix("exchange_")] = value
            else:
                rest[name if name == "queue_arguments" else name.removeprefix("queue_")] = value
        if isinstance(exchange, str) and exchange:
            exchange = Exchange(exchange, kind or cls._usual_type, **of_exchange)
        elif kind or of_exchange:
            raise ImproperlyConfigured(
                f"queue {queue!r}: options of an exchange, but no name of one; add exchange="
            )
        return cls(queue, exchange=exchange or None, routing_key=key or "", **rest)

    def as_dict(self) -> dict[str, Any]:
        """What `Queue(**...)` makes this one of; JSON."""
        return {
            "name": self.name,
            "exchange": self.exchange and self.exchange.as_dict(),
            "routing_key": self.routing_key,
            "bindings": [one.as_dict() for one in self.bindings],
            "alias": self.alias,
        }

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, init=False)
class Broadcast(Queue):
    """A queue of which each worker that consumes it gets a copy of every message.

    It has to stand in `task_queues`, the senders' as well. It is bound to a fanout exchange of its name,
    unless it names another one. `unique` and `auto_delete` are always so: each worker has a queue of its
    own behind this one, for as long as it runs.
    """

    _usual_type = "fanout"

    def __init__(
        self,
        name: str | None = None,
        queue: str | None = None,
        unique: bool = False,  # noqa: ARG002, FBT001, FBT002  # as in kombu
        auto_delete: bool = True,  # noqa: ARG002, FBT001, FBT002
        exchange: Exchange | str | Mapping[str, Any] | None = None,
        alias: str | None = None,
        **options: Any,
    ) -> None:
        what = f"Broadcast {name!r}"
        if not name or _PRIVATE in name:
            raise ImproperlyConfigured(f"{what}: give it a name without {_PRIVATE!r}")
        if queue is not None and queue != name:
            raise ImproperlyConfigured(
                f"{what}: queue={queue!r}: each worker has a queue of its own behind it; leave it out"
            )
        if not options.get("bindings") and (exchange is None or isinstance(exchange, str)):
            exchange = Exchange(exchange or name, self._usual_type)
        super().__init__(name, exchange, alias=alias, **options)

    def as_dict(self) -> dict[str, Any]:
        """What stands for it in `task_queues`; JSON."""
        return {**super().as_dict(), "broadcast": True}


def private_queue(broadcast: str, hostname: str) -> str:
    """The queue of one worker behind a broadcast queue, by their names: no two have the same."""
    return f"{broadcast}{_PRIVATE}{hostname}"


class Place(NamedTuple):
    """Where messages are to go, as somebody said it: a queue, or an exchange and a routing key."""

    queue: str | Queue | None = None
    exchange: str | None = None
    routing_key: str | None = None


def parse_queue(value: object) -> str | Queue:
    """The name of a queue, or a `Queue` that has one."""
    name = value.name if isinstance(value, Queue) else value
    if not isinstance(name, str) or not name.isprintable():
        raise ValueError("is neither the name of a queue nor a Queue")
    if not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        raise ValueError(f"is not a queue's name of 1 to {MAX_NAME_BYTES} printable bytes")
    return value if isinstance(value, Queue) else name


def parse_queue_name(value: object) -> str:
    """The name of a queue, given as itself or as a `Queue`."""
    return str(parse_queue(value))


def parse_queues(value: object) -> tuple[Queue, ...]:
    """`task_queues`: a list of queues, names and dicts with a name; or a dict of options by name.

    Raises `ImproperlyConfigured` where two contradict each other.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, Mapping):
        found = [_queue_of(one, name) for name, one in value.items()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        found = [_queue_of(one) for one in value]
    else:
        raise ValueError("is neither a list of queues nor a dict of them by name")  # noqa: TRY004
    _check_together(found)
    return tuple(found)


def broadcast_names(queues: Iterable[Queue]) -> frozenset[str]:
    """The names of those whose messages go to every worker."""
    return frozenset(queue.name for queue in queues if isinstance(queue, Broadcast))


def tell_queues(queues: Iterable[Queue]) -> list[dict[str, Any]]:
    """What `parse_queues` makes these of; JSON."""
    return [queue.as_dict() for queue in queues]


def _queue_of(value: object, name: object = None) -> Queue:
    match value:
        case Queue():
            found = value
        case None if isinstance(name, str):
            found = Queue(name)
        case str() if name is None:
            found = Queue(value)
        case Mapping():
            options = {**({} if name is None else {"name": name}), **value}
            if not isinstance(options.get("name"), str):
                raise ValueError(f"has {value!r}, which names no queue")  # noqa: TRY004  # as all parsers
            kind = Broadcast if options.pop("broadcast", False) is True else Queue
            found = kind.from_dict(options.pop("name"), **options)
        case _:
            raise ValueError(f"has {value!r}, which is neither a Queue nor a name nor a dict")
    if name is not None and found.name != name:
        raise ValueError(f"has {found.name!r} under the name {name!r}")
    parse_queue(found)
    return found


def _check_together(queues: Sequence[Queue]) -> None:
    names: dict[str, Queue] = {}
    kinds: dict[str, str] = {}
    for queue in queues:
        for name in filter(None, (queue.name, queue.alias)):
            if names.setdefault(name, queue) is not queue:
                raise ImproperlyConfigured(f"task_queues: two queues have the name {name!r}")
        for exchange in (queue.exchange, *(one.exchange for one in queue.bindings)):
            if exchange is None or not exchange.name:
                continue
            if kinds.setdefault(exchange.name, exchange.type) != exchange.type:
                raise ImproperlyConfigured(
                    f"task_queues: exchange {exchange.name!r} is {kinds[exchange.name]} for one "
                    f"queue and {exchange.type} for {queue.name!r}"
                )


def _set(made: object, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(made, name, value)


def _text(what: str, option: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ImproperlyConfigured(f"{what}: {option}={value!r} is not text")
    return value


def _exchange_type(what: str, value: object) -> str:
    if value not in EXCHANGE_TYPES:
        raise ImproperlyConfigured(
            f"{what}: type={value!r} is unknown; use {', '.join(EXCHANGE_TYPES)}"
        )
    return str(value)


def _exchange(what: str, value: object) -> Exchange | None:
    match value:
        case None | "":
            return None
        case Exchange():
            return value
        case str():
            return Exchange(value)
        case Mapping():
            return Exchange(**value)
        case _:
            raise ImproperlyConfigured(f"{what}: exchange={value!r} is not an Exchange or its name")


def _binding(what: str, value: object) -> binding:
    match value:
        case binding():
            return value
        case Mapping():
            return binding(**value)
        case _:
            raise ImproperlyConfigured(f"{what}: {value!r} is not a binding(exchange, routing_key)")


def _check_options(what: str, options: Mapping[str, Any]) -> None:
    """Note what changes nothing, and refuse what would be promised in vain."""
    for name, value in options.items():
        if value is None or value == {} or (value is False and name != "durable"):
            continue
        if name in _NOTED:
            if value not in _USUAL.get(name, ()):
                logger.info("%s: %s=%r changes nothing here: %s", what, name, value, _NOTED[name])
        else:
            reason = _REFUSED.get(name, "there is no such option")
            raise ImproperlyConfigured(f"{what}: {name}={value!r}: {reason}")
