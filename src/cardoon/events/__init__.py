"""Events: what workers and clients tell of themselves and of tasks, as Celery's.

`app.events` has what programs use; `cardoon events` shows it. Every frame of events is signed, and what
somebody else wrote into the store is refused and counted.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection, Mapping
from typing import Any, Protocol, runtime_checkable

from cardoon.backend import ResultBackend
from cardoon.broker import Broker
from cardoon.clock import Clock
from cardoon.deployment import Deployment
from cardoon.events.dispatcher import EventDispatcher
from cardoon.events.kinds import HIDDEN, LOST, TYPES, group_from
from cardoon.events.receiver import EventReceiver, Handler, Station, need_posting
from cardoon.events.state import State
from cardoon.exceptions import InvalidTaskError
from cardoon.security.signing import Signer
from cardoon.sender import Sender

__all__ = [
    "HIDDEN",
    "LOST",
    "TYPES",
    "Event",
    "EventDispatcher",
    "EventReceiver",
    "Events",
    "State",
    "group_from",
]

Cluster = State
NOT_IN_TASKS = "events: clients and workers send and receive them, not tasks"


def Event(type: str, _fields: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:  # noqa: N802  # Celery's name
    """An event as a dict; `timestamp` is now unless it is given."""
    made = {**(_fields or {}), **fields, "type": type}
    made.setdefault("timestamp", time.time())
    return made


class Office(Protocol):
    """What events go through: the app."""

    clock: Clock

    @property
    def sender(self) -> Sender:
        """The way to the broker."""
        ...


@runtime_checkable
class Connected(Protocol):
    """A sender with stores, a key and trust of its own."""

    @property
    def stores(self) -> tuple[Broker, ResultBackend | None]:
        """The broker and the result backend."""
        ...

    @property
    def deployment(self) -> Deployment:
        """Its settings, resolved."""
        ...


class Events:
    """What `app.events` offers."""

    def __init__(self, app: Office) -> None:
        self._app = app

    def Receiver(  # noqa: N802  # Celery's name
        self,
        connection: object = None,  # noqa: ARG002  # the app has its own
        handlers: Mapping[str, Handler] | None = None,
        *,
        app: object = None,  # noqa: ARG002
    ) -> EventReceiver:
        """What captures events; `connection` is not needed."""
        sender = self._connected()
        deployment = sender.deployment
        gate = deployment.make_gate(deployment.settings.accept_content)
        station = Station(sender.stores[0], gate, deployment.audit(), self._app.clock)
        return EventReceiver(station, handlers=handlers)

    def Dispatcher(  # noqa: N802  # Celery's name
        self,
        connection: object = None,  # noqa: ARG002
        hostname: str | None = None,
        *,
        enabled: bool = True,
        groups: Collection[str] | None = None,
        app: object = None,  # noqa: ARG002
    ) -> EventDispatcher:
        """What sends events of your own; close it, or use it in a `with`, to have the last ones sent."""
        sender = self._connected()
        dispatcher = make_dispatcher(
            sender.deployment, sender.stores[0], hostname=hostname or client_name(), groups=groups
        )
        dispatcher.enabled = enabled
        return dispatcher

    default_dispatcher = Dispatcher
    """In a `with`: `with app.events.default_dispatcher() as dispatcher: dispatcher.send(...)`."""

    def State(self, **options: Any) -> Cluster:  # noqa: N802  # Celery's name
        """The cluster's state, to be filled: `handlers={"*": state.event}`."""
        return Cluster(**options)

    def _connected(self) -> Connected:
        sender = self._app.sender
        if not isinstance(sender, Connected):
            raise InvalidTaskError(NOT_IN_TASKS)
        return sender


def client_name() -> str:
    """What a process is called that is no worker; Celery's pattern."""
    return f"gen{os.getpid()}@{socket.gethostname()}"


def event_signer(deployment: Deployment) -> Signer:
    """What signs events: as this app's tasks are signed."""
    return deployment.make_signer(deployment.settings.task_serializer)


def make_dispatcher(
    deployment: Deployment,
    broker: Broker,
    *,
    hostname: str,
    groups: Collection[str] | None = None,
    heartbeat: float | None = None,
) -> EventDispatcher:
    """A dispatcher of this deployment; `ImproperlyConfigured` where its broker carries no events."""
    return EventDispatcher(
        broker=need_posting(broker),
        signer=event_signer(deployment),
        clock=deployment.clock,
        hostname=hostname,
        groups=groups,
        heartbeat=heartbeat,
    )
