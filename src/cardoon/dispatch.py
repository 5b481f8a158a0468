"""Signal: tells whoever has connected that something happened, under Celery's name and rules.

Knows nothing of tasks or workers; `signals` has the signals that Cardoon sends.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Hashable
from typing import Any, NamedTuple, TypeVar, overload

logger = logging.getLogger(__name__)

Receiver = Callable[..., Any]
F = TypeVar("F", bound=Receiver)

_FIRST_DELAY = 2.0
_LONGEST_DELAY = 30.0
"""Seconds between the tries of a receiver that was connected with `retry=True`, as in Celery."""


class Connection(NamedTuple):
    """One receiver of a signal, and from whom it wants to hear."""

    key: tuple[Hashable, Hashable]
    """Who it is: a second connection with the same key changes nothing."""
    reference: Callable[[], Receiver | None]
    """Gives the receiver; None when it is no more."""
    sender: Any


class Signal:
    """A kind of event, and the functions that are called when it happens.

    `receivers` is false while nobody listens, so whoever sends asks that first and pays no more. It is
    replaced on each change and never changed in place: sending takes no lock.
    """

    _lock = threading.RLock()  # protects every signal's `receivers` from lost changes

    def __init__(
        self,
        providing_args: Collection[str] | None = None,
        use_caching: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
        name: str | None = None,
        *,
        never_sent: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.providing_args = set(providing_args or ())
        self.use_caching = use_caching
        """Taken as in Celery; finding the receivers of a sender costs too little to be kept."""
        self.receivers: list[Connection] = []
        self.never_sent = never_sent
        """Why this version never sends it; connecting then logs a warning."""
        self._sleep = sleep
        self._has_dead = False
        self._has_warned = False

    @overload
    def connect(
        self,
        receiver: F,
        sender: Any = None,
        weak: bool = True,  # noqa: FBT001, FBT002  # Celery's signature
        dispatch_uid: Hashable = None,
        retry: bool = False,  # noqa: FBT001, FBT002
    ) -> F: ...
    @overload
    def connect(
        self,
        receiver: Any = None,
        sender: Any = None,
        weak: bool = True,  # noqa: FBT001, FBT002
        dispatch_uid: Hashable = None,
        retry: bool = False,  # noqa: FBT001, FBT002
    ) -> Callable[[F], F]: ...
    def connect(
        self,
        receiver: Any = None,
        sender: Any = None,
        weak: bool = True,  # noqa: FBT001, FBT002
        dispatch_uid: Hashable = None,
        retry: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:
        """Have `receiver(signal=, sender=, **payload)` called; a decorator with or without arguments.

        With `sender`, only for that sender: an object, or the name of a task or worker. The receiver is
        held weakly, so a lambda or a function inside of another is gone at once, unless `weak=False`.
        Connecting twice, or twice with one `dispatch_uid`, is the same as once. With `retry` a receiver
        that raises is called again, after 2 to 30 seconds, until it returns; it is held strongly.
        Raises `ValueError` for a receiver that takes no `**kwargs`, or is a coroutine function.
        """
        if not callable(receiver):  # @signal.connect(sender=...), or Celery's connect("task.name")
            wanted = receiver if sender is None else sender
            return functools.partial(
                self.connect, sender=wanted, weak=weak, dispatch_uid=dispatch_uid, retry=retry
            )
        _check(receiver, self.name)
        wanted = getattr(sender, "signal_sender", sender)
        made = Connection(
            (_identity(receiver) if dispatch_uid is None else dispatch_uid, _sender_key(wanted)),
            self._refer(receiver, weak=weak, retry=retry),
            wanted,
        )
        with self._lock:
            living = self._living()
            if all(one.key != made.key for one in living):
                living.append(made)
            self.receivers = living
        self._warn_if_never_sent()
        return receiver

    def disconnect(
        self,
        receiver: Receiver | None = None,
        sender: Any = None,
        weak: object = None,  # noqa: ARG002  # Celery's signature, where it has no effect either
        dispatch_uid: Hashable = None,
    ) -> bool:
        """Undo `connect` with the same receiver or `dispatch_uid`, and sender; whether it was there."""
        wanted = getattr(sender, "signal_sender", sender)
        who = _identity(receiver) if dispatch_uid is None else dispatch_uid
        key = (who, _sender_key(wanted))
        with self._lock:
            living = self._living()
            self.receivers = [one for one in living if one.key != key]
            return len(self.receivers) < len(living)

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether anybody would hear of this sender."""
        return bool(self._find(sender))

    def send(self, sender: Any, **named: Any) -> list[tuple[Receiver, Any]]:
        """Call every receiver of this sender; returns each with its answer.

        A receiver that raises is logged, and its exception is its answer: the others are still called.
        """
        answers: list[tuple[Receiver, Any]] = []
        for receiver in self._find(sender):
            try:
                answer = receiver(signal=self, sender=sender, **named)
            except Exception as error:  # user code may raise anything
                logger.exception("receiver %s of signal %s raised", _name(receiver), self.name)
                answer = error
            answers.append((receiver, answer))
        return answers

    send_robust = send

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name} providing_args={sorted(self.providing_args)}>"

    def _find(self, sender: Any) -> list[Receiver]:
        if self._has_dead:
            with self._lock:
                self.receivers = self._living()
        found = (one.reference() for one in self.receivers if _concerns(one.sender, sender))
        return [receiver for receiver in found if receiver is not None]

    def _living(self) -> list[Connection]:
        """A list of those whose receivers still exist; the caller holds the lock."""
        self._has_dead = False
        return [one for one in self.receivers if one.reference() is not None]

    def _refer(
        self, receiver: Receiver, *, weak: bool, retry: bool
    ) -> Callable[[], Receiver | None]:
        if retry:
            insistent = _insistent(receiver, self._sleep)
            return lambda: insistent
        if not weak:
            return lambda: receiver
        if inspect.ismethod(receiver):
            return weakref.WeakMethod(receiver, self._note_death)
        return weakref.ref(receiver, self._note_death)

    def _note_death(self, _reference: object) -> None:
        # Called by the garbage collector, perhaps inside of `connect`: it must change nothing else.
        self._has_dead = True

    def _warn_if_never_sent(self) -> None:
        if self.never_sent and not self._has_warned:
            self._has_warned = True
            logger.warning("signal %s is never sent: %s", self.name, self.never_sent)


def _concerns(wanted: Any, sender: Any) -> bool:
    """Whether a receiver that wants to hear from `wanted` is to hear from `sender`."""
    if wanted is None or wanted is sender:
        return True
    if isinstance(wanted, str):
        return bool(
            wanted == (sender if isinstance(sender, str) else getattr(sender, "name", None))
        )
    return isinstance(sender, str) and getattr(wanted, "name", None) == sender


def _check(receiver: Receiver, name: str | None) -> None:
    if inspect.iscoroutinefunction(receiver):
        raise ValueError(
            f"signal {name}: {_name(receiver)} is a coroutine function, which nobody would await; "
            "connect a plain one"
        )
    try:
        parameters = inspect.signature(receiver).parameters.values()
    except (TypeError, ValueError):  # a built-in that does not say what it takes
        return
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        raise ValueError(
            f"signal {name}: receiver {_name(receiver)} takes no **kwargs; add them, since a later "
            "version may send more"
        )


def _identity(receiver: Receiver | None) -> Hashable:
    """Names a receiver while it lives; each access to a method makes a new object for the same one."""
    if inspect.ismethod(receiver):
        return id(receiver.__self__), id(receiver.__func__)
    return id(receiver)


def _sender_key(sender: Any) -> Hashable:
    return sender if isinstance(sender, str) else id(sender)


def _insistent(receiver: Receiver, sleep: Callable[[float], None]) -> Receiver:
    """`receiver`, called until it returns."""

    def call(**named: Any) -> Any:
        delay = _FIRST_DELAY
        while True:
            try:
                return receiver(**named)
            except Exception:  # user code; it was to be tried until it succeeds
                logger.exception(
                    "receiver %s raised; it is called again in %g seconds", _name(receiver), delay
                )
            sleep(delay)
            delay = min(_LONGEST_DELAY, delay + _FIRST_DELAY)

    call.__qualname__ = _name(receiver)
    return call


def _name(receiver: Receiver) -> str:
    return str(getattr(receiver, "__qualname__", None) or repr(receiver))


def _renew_lock() -> None:
    """In a forked child: whoever held the lock is not there."""
    Signal._lock = threading.RLock()  # noqa: SLF001  # this module's own


os.register_at_fork(after_in_child=_renew_lock)
