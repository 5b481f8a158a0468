"""Routing: which queue a message goes to, and with which options, decided by who sends it.

What can be known of a task by its name is decided once for the settings of the moment; a call asks
only what depends on the call. The queue's name is signed, so a broker cannot send a message elsewhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cardoon.bounds import said_by
from cardoon.calling import NO_OPTIONS, OPTION_NAMES, CallDefaults, CallOptions, choose_codec
from cardoon.config import Settings
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError, QueueNotFound
from cardoon.queues import Broadcast, Exchange, Place, Queue, binding, parse_queue_name
from cardoon.routes import Entry, Named, Route, RouteTable, parse_route
from cardoon.symbols import load_symbol

_MOST_UNKNOWN = 1024
"""Names of tasks without code here whose defaults are kept; names may come from anywhere."""
_MOST_SHOWN = 12
_PER_CALL_OPTIONS = frozenset({"countdown", "headers"})
"""Options of routes that are part of a call and not of what its task is sent with."""


class _Bound(NamedTuple):
    """That an exchange leads to a queue."""

    queue: Queue
    exchange: str
    type: str
    key: str


class Queues(Mapping[str, Queue]):
    """The queues of the settings by name; for others that are asked for, what Celery would make.

    `task_queues`, or the default queue alone. With `task_create_missing_queues` any other name stands
    for a queue, too, with an exchange and a routing key of its name; it is not listed.
    """

    def __init__(self, settings: Settings) -> None:
        self.create_missing = settings.task_create_missing_queues
        self.default_name = settings.task_default_queue
        self.default_routing_key = settings.task_default_routing_key
        declared = settings.task_queues or (Queue(self.default_name),)
        self.default_exchange = _default_exchange(settings, declared)
        self._queues = {queue.name: self._complete(queue) for queue in declared}
        self.aliases = {one.alias: one for one in self._queues.values() if one.alias}
        self._bound = [bound for queue in self._queues.values() for bound in _bindings(queue)]

    def __getitem__(self, name: str) -> Queue:
        found = self._queues.get(name) or self.aliases.get(name)
        if found is not None:
            return found
        if self.create_missing:
            return Queue(name, Exchange(name), name)
        close = difflib.get_close_matches(str(name), [*self._queues, *self.aliases], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise QueueNotFound(
            f"queue {name!r} is not in task_queues, which has {_listed(self._queues)}, and "
            f"task_create_missing_queues is off{hint}"
        )

    def __contains__(self, name: object) -> bool:
        return name in self._queues or name in self.aliases

    def __iter__(self) -> Iterator[str]:
        return iter(self._queues)

    def __len__(self) -> int:
        return len(self._queues)

    def get(self, name: str, default: Any = None) -> Any:
        """A queue that is declared, or `default`."""
        found = self._queues.get(name)
        return self.aliases.get(name, default) if found is None else found

    def __repr__(self) -> str:
        return f"<Queues: {_listed(self._queues)}>"

    @property
    def consume_from(self) -> Mapping[str, Queue]:
        """What a worker consumes without `-Q`."""
        return dict(self._queues)

    def bindings(self) -> list[tuple[str, str, str, str]]:
        """Each way to a queue: exchange, its type, routing key, queue."""
        return [(one.exchange, one.type, one.key, one.queue.name) for one in self._bound]

    def find(self, place: Place) -> str:
        """The queue that a place means; `QueueNotFound` or `InvalidTaskError` if it is not just one.

        A `Queue` is that queue, declared or not. A queue's name beside a routing key is the queue, as
        long as its exchange would not send the key elsewhere.
        """
        if isinstance(place.queue, Queue):
            return self._given_name(place.queue)
        if place.queue is not None:
            if place.exchange is None and place.routing_key is None:
                return self._own_name(place.queue)
            found = self[place.queue]
            self._check(found, place)
            return found.name
        if place.exchange is None and place.routing_key is None:
            return self._own_name(self.default_name)
        return self._led_to(place)

    def _given_name(self, queue: Queue) -> str:
        """The name of a `Queue` object; whether it is a broadcast queue is known by the declared ones."""
        if isinstance(queue, Broadcast) and not isinstance(self._queues.get(queue.name), Broadcast):
            raise InvalidTaskError(
                f"queue {queue.name!r} is a Broadcast that is not in task_queues; add it there, for the "
                "workers as well"
            )
        return queue.name

    def _own_name(self, name: str) -> str:
        """The name of the queue that a name or an alias stands for."""
        if name in self or not self.create_missing:
            return self[name].name
        try:
            return parse_queue_name(name)
        except ValueError as error:
            raise InvalidTaskError(f"queue {name!r} {error}") from None

    def _led_to(self, place: Place) -> str:
        """The queue behind an exchange and a routing key."""
        exchange, key = self._way(place)
        if not exchange:  # AMQP's own: every queue by its name
            return self._own_name(key)
        ways = [one for one in self._bound if one.exchange == exchange]
        found = list(dict.fromkeys(one.queue.name for one in ways if _leads(one, key)))
        if len(found) == 1:
            return found[0]
        if found:
            why = (
                "messages to several queues at once" if ways[0].type == "fanout" else "one message"
            )
            raise InvalidTaskError(
                f"exchange {exchange!r} with routing_key {key!r} leads to {_listed(found)}; this "
                f"version does not send {why} there: name one with queue="
            )
        if not ways and self.create_missing and exchange == key:
            return self._own_name(key)  # a queue that nobody declared
        known = [f"{one.exchange}/{one.key}" for one in self._bound]
        raise QueueNotFound(
            f"exchange {exchange!r} with routing_key {key!r} leads to no queue; task_queues binds "
            f"{_listed(known)}: add a binding, or name a queue with queue="
        )

    def _way(self, place: Place) -> tuple[str, str]:
        exchange = self.default_exchange.name if place.exchange is None else place.exchange
        if place.routing_key is not None:
            return exchange, place.routing_key
        return exchange, self.default_routing_key or self.default_name

    def _check(self, queue: Queue, place: Place) -> None:
        """Whether what is said beside a queue leads there, too, as far as it would count in AMQP."""
        if place.routing_key is None or place.exchange == "":
            return
        ways = _bindings(queue)
        if place.exchange is None:
            if all(one.type == "direct" for one in ways):
                return
        else:
            ways = [one for one in ways if one.exchange == place.exchange]
        if not any(_leads(one, place.routing_key) for one in ways):
            shown = _listed(f"{one.exchange}/{one.key}" for one in _bindings(queue))
            exchange = "" if place.exchange is None else f"exchange={place.exchange!r}, "
            raise InvalidTaskError(
                f"queue {queue.name!r} is bound to {shown}, so {exchange}"
                f"routing_key={place.routing_key!r} does not lead there; name one or the other"
            )

    def _complete(self, queue: Queue) -> Queue:
        """A declared queue with the defaults where it says nothing."""
        if queue.bindings:
            ways = [
                binding(one.exchange or self.default_exchange, one.routing_key)
                for one in queue.bindings
            ]
            return type(queue)(queue.name, bindings=ways, alias=queue.alias)
        key = queue.routing_key or self.default_routing_key or queue.name
        exchange = queue.exchange if queue.exchange and queue.exchange.name else None
        return type(queue)(
            queue.name,
            exchange=exchange or self.default_exchange,
            routing_key=key,
            alias=queue.alias,
        )


class Router:
    """Decides by settings, and remembers. Made anew when a setting changes; safe from threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.queues = Queues(settings)
        self._is_open = not settings.task_queues and settings.task_create_missing_queues
        self._unknown: dict[str, CallDefaults] = {}
        self._loaded: dict[Any, Any] = {}

    def route(
        self,
        options: Mapping[str, Any],
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        task_type: Any = None,
    ) -> dict[str, Any]:
        """The options that a call is sent with, `queue` a `Queue`, as Celery's router tells them."""
        given = {key: value for key, value in options.items() if value is not None}
        route = self.lookup(name, args, kwargs or {}, given, task_type)[0]
        place = _merge(_place(given), _place(route))
        found = self.queues.find(place)
        queue = place.queue if isinstance(place.queue, Queue) else self.queues[found]
        return {**_without_place(route), **given, "queue": queue}

    def lookup(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        task: Any = None,
    ) -> tuple[Route, str]:
        """What `task_routes` says of a call, and which entry says so; nothing if none does."""
        for entry in self.settings.task_routes:
            if isinstance(entry, RouteTable):
                if found := entry.find(name):
                    pattern, route = found
                    return route, pattern if isinstance(pattern, str) else pattern.pattern
                continue
            router = self._load(entry)
            said = _ask(router, name, args, kwargs, options, task)
            if said is not None:
                return _checked(said, router, name), _name_of(router)
        return {}, ""

    def defaults(self, name: str, own: Mapping[str, Any], task: Any = None) -> CallDefaults:
        """What calls of a task are sent with. `own` is what the task itself says, which counts more.

        Where that depends on the call, or is an error unless the call says more, `per_call` is set.
        """
        decide = functools.partial(self._decide, name, own, task)
        route: Route = {}
        for entry in self.settings.task_routes:
            if not isinstance(entry, RouteTable):
                return self._merged(own, {}, task)._replace(per_call=decide)
            if found := entry.find(name):
                route = found[1]
                break
        made = self._merged(own, route, task)
        if route.keys() & _PER_CALL_OPTIONS:
            return made._replace(per_call=decide)
        try:
            return made._replace(queue=self.queues.find(made.place))
        except (QueueNotFound, InvalidTaskError):
            return made._replace(per_call=decide)  # which raises, unless the call names a queue

    def defaults_of_unknown(self, name: str) -> CallDefaults:
        """What calls of a task are sent with whose code is not here."""
        found = self._unknown.get(name)
        if found is None:
            if len(self._unknown) >= _MOST_UNKNOWN:
                self._unknown.clear()
            found = self._unknown[name] = self.defaults(name, {})
        return found

    def find(self, options: CallOptions, defaults: CallDefaults) -> str:
        """The queue of a call: the one that its options lead to, or else the task's."""
        if options.exchange is None and options.routing_key is None:
            if options.queue is None:
                return defaults.queue
            if self._is_open and isinstance(options.queue, str):
                return options.queue
        return self.queues.find(_merge(_place_of(options), defaults.place))

    def _decide(
        self,
        name: str,
        own: Mapping[str, Any],
        task: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: CallOptions,
    ) -> tuple[CallOptions, CallDefaults]:
        """`CallDefaults.per_call`."""
        given = {**own, **_given(options)}
        route, _ = self.lookup(name, args, kwargs, given, task)
        made = self._merged(own, route, task)
        if _place_of(options) == _NOWHERE:
            made = made._replace(queue=self.queues.find(made.place))
        changed: dict[str, Any] = {}
        if "headers" in route:
            changed["headers"] = {**route["headers"], **(options.headers or {})}
        if "countdown" in route and options.countdown is None and options.eta is None:
            changed["countdown"] = route["countdown"]
        return dataclasses.replace(options, **changed) if changed else options, made

    def _merged(self, own: Mapping[str, Any], route: Route, task: Any) -> CallDefaults:
        """The task's options, then the route's, then the settings'; the queue is to be found yet."""
        said = {**route, **own}
        settings = self.settings
        return CallDefaults(
            queue="",
            codec=choose_codec(
                said.get("serializer"),
                said.get("compression", settings.task_compression),
                settings,
            ),
            priority=said.get("priority", settings.task_default_priority),
            max_retries=said.get("max_retries"),
            expires=said.get("expires"),
            time_limit=said.get("time_limit"),
            soft_time_limit=said.get("soft_time_limit"),
            ignore_result=said.get("ignore_result", settings.task_ignore_result),
            shadow=said.get("shadow"),
            place=_merge(_place(own), _place(route)),
            bounds=None if task is None else said_by(task),
            name_arguments=None if task is None else task.name_arguments,
        )

    def _load(self, entry: Entry) -> Any:
        """The router that an entry is or names; an instance, where that is a class."""
        if not isinstance(entry, (Named, type)):
            return entry
        if entry not in self._loaded:
            found: Any = entry
            if isinstance(entry, Named):
                found = load_symbol(entry.path, setting="task_routes")
            if not callable(found) and not hasattr(found, "route_for_task"):
                raise ImproperlyConfigured(
                    f"task_routes: {found!r} is neither callable nor has route_for_task"
                )
            self._loaded[entry] = found() if isinstance(found, type) else found
        return self._loaded[entry]


class AMQP:
    """`app.amqp`: what Celery's users look up there that has a meaning here."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.queues = router.queues

    @property
    def default_queue(self) -> Queue:
        """Where messages go of which nobody said where."""
        return self.queues[self.queues.default_name]

    @property
    def default_exchange(self) -> Exchange:
        """What queues are bound to that name no exchange."""
        return self.queues.default_exchange


_NOWHERE = Place()
_USUAL_OPTIONS = tuple((name, getattr(NO_OPTIONS, name)) for name in sorted(OPTION_NAMES))


def _place_of(options: CallOptions) -> Place:
    return Place(options.queue, options.exchange, options.routing_key)


def _place(said: Mapping[str, Any]) -> Place:
    return Place(said.get("queue"), said.get("exchange"), said.get("routing_key"))


def _merge(first: Place, then: Place) -> Place:
    """What `first` says, and `then` where it leaves that open.

    Who names a queue or an exchange has decided; a routing key alone belongs to whatever exchange the
    next one names.
    """
    if first == _NOWHERE:
        return then
    if first.queue is not None or first.exchange is not None:
        return first
    return then._replace(routing_key=first.routing_key)


def _without_place(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key not in Place._fields}


def _given(options: CallOptions) -> dict[str, Any]:
    """The options that a call was given, for routers to see."""
    if options is NO_OPTIONS:
        return {}
    return {
        name: value for name, usual in _USUAL_OPTIONS if (value := getattr(options, name)) != usual
    }


def _ask(
    router: Any,
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    task: Any,
) -> Any:
    """What a router of the user's says, by whichever way it is asked."""
    if hasattr(router, "route_for_task"):
        return router.route_for_task(name, args, kwargs)
    return router(name, args, kwargs, dict(options), task=task)


def _checked(said: Any, router: Any, name: str) -> Route:
    try:
        return parse_route(said)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"task_routes: the answer of {_name_of(router)} for task {name!r} {error}"
        ) from None


def _name_of(router: Any) -> str:
    return str(getattr(router, "__qualname__", type(router).__qualname__))


def _default_exchange(settings: Settings, declared: Sequence[Queue]) -> Exchange:
    """The exchange of queues that name none, of the type that it was declared with."""
    name = settings.task_default_exchange or settings.task_default_queue
    known = {one.exchange: one.type for queue in declared for one in _bindings(queue)}
    kind = settings.task_default_exchange_type or known.get(name, "direct")
    if known.get(name, kind) != kind:
        raise ImproperlyConfigured(
            f"task_default_exchange_type={kind!r}, but task_queues declares exchange {name!r} as "
            f"{known[name]}"
        )
    return Exchange(name, kind)


def _bindings(queue: Queue) -> list[_Bound]:
    """The ways to a queue that it names itself."""
    ways = [(one.exchange, one.routing_key) for one in queue.bindings]
    if not ways:
        ways = [(queue.exchange, queue.routing_key)]
    return [
        _Bound(queue, exchange.name, exchange.type, key)
        for exchange, key in ways
        if exchange is not None and exchange.name
    ]


def _leads(bound: _Bound, key: str) -> bool:
    match bound.type:
        case "fanout":
            return True
        case "topic":
            return _fits(bound.key.split("."), key.split("."))
        case _:
            return bound.key == key


def _fits(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """AMQP's topics: `*` is one word, `#` any number of them."""
    reached = _with_none(pattern, {0})
    for word in words:
        taken = {at for at in reached if at < len(pattern) and pattern[at] in {"*", "#", word}}
        reached = _with_none(pattern, {at + (pattern[at] != "#") for at in taken})
    return len(pattern) in reached


def _with_none(pattern: Sequence[str], reached: set[int]) -> set[int]:
    """The places in a pattern that are reached if each `#` there is no word at all."""
    found = set(reached)
    for at in range(min(reached, default=len(pattern)), len(pattern)):
        if at in found and pattern[at] == "#":
            found.add(at + 1)
    return found


def _listed(names: Any) -> str:
    found = [repr(name) for name in names]
    more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return ", ".join(found[:_MOST_SHOWN]) + more
