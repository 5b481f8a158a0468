"""What happens to an app once in its life, and whom to tell: `app.on_after_configure` and its like."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar, overload

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


class AppEvent:
    """Tells receivers, which take `sender` and further keyword arguments.

    An event that happens `once` is remembered: whoever connects afterwards is called at once, instead of
    waiting in vain. What a receiver raises is logged, and keeps no other one from being told. Receivers
    are kept for as long as the event, whatever `weak` says.
    """

    def __init__(self, name: str, *, once: bool = True) -> None:
        self.name = name
        self._once = once
        self._lock = threading.Lock()  # protects the three below
        self._receivers: list[tuple[object, Callable[..., Any]]] = []
        self._told: dict[str, Any] | None = None

    @property
    def happened(self) -> bool:
        """Whether it has been sent."""
        return self._told is not None

    @property
    def receivers(self) -> list[Callable[..., Any]]:
        """Whom it is told."""
        return [receiver for _, receiver in self._receivers]

    @overload
    def connect(self, receiver: F, **options: Any) -> F: ...
    @overload
    def connect(self, receiver: None = None, **options: Any) -> Callable[[F], F]: ...
    def connect(
        self, receiver: Callable[..., Any] | None = None, *, dispatch_uid: object = None, **_: Any
    ) -> Any:
        """Have `receiver` told; a decorator, with or without arguments.

        Of several with one `dispatch_uid`, or of one function several times, the first stays.
        """
        if receiver is None:
            return lambda decorated: self.connect(decorated, dispatch_uid=dispatch_uid)
        key = dispatch_uid if dispatch_uid is not None else receiver
        with self._lock:
            if any(known == key for known, _ in self._receivers):
                return receiver
            self._receivers.append((key, receiver))
            told = self._told
        if told is not None:
            self._tell(receiver, told)
        return receiver

    def disconnect(
        self, receiver: Callable[..., Any] | None = None, *, dispatch_uid: object = None, **_: Any
    ) -> bool:
        """Tell it no more; whether it was told so far."""
        key = dispatch_uid if dispatch_uid is not None else receiver
        with self._lock:
            before = len(self._receivers)
            self._receivers = [one for one in self._receivers if one[0] != key]
            return len(self._receivers) < before

    def send(self, sender: object, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Tell everybody; returns what they return. An event that happens once is sent once."""
        told = {"sender": sender, **named}
        with self._lock:
            if self._once and self._told is not None:
                return []
            if self._once:
                self._told = told
            receivers = self.receivers
        return [(receiver, self._tell(receiver, told)) for receiver in receivers]

    def _tell(self, receiver: Callable[..., Any], told: dict[str, Any]) -> Any:
        try:
            return receiver(signal=self, **told)
        except Exception as error:  # user code, whose mistake must not stop the others
            logger.exception("%s: receiver %r raised", self.name, receiver)
            return error

    def __repr__(self) -> str:
        return f"<AppEvent: {self.name} receivers={len(self._receivers)}>"
