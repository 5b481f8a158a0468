"""Tries from another host what must not be reached from there: what a firewall does, whatever its rules say.

A host that tries is a canary. One that reaches nothing at all proves nothing, so each round also tries places that
have to answer.
"""

from __future__ import annotations

import enum
import errno
import json
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from cardoon.exceptions import ImproperlyConfigured
from cardoon.network_place import Place, parse_place

MOST_PLACES = 256
_THREADS = 64
_MOST_ADDRESSES = 4
_REJECTED = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM}
MANAGEMENT = {"amqp": (4369, 15_671, 15_672, 15_692, 25_672), "redis": (16_379,), "postgresql": ()}
"""Ports beside the broker's own, by the kind of server: management, metrics, and what nodes say to each other."""


class Answer(enum.StrEnum):
    """What came back of an attempt to connect."""

    OPEN = "open"
    CLOSED = "closed"
    """The host itself said no: no firewall has kept the attempt from it."""
    FILTERED = "filtered"
    """Nothing came back."""
    REJECTED = "rejected"
    """A router or a firewall said no, perhaps that of the canary itself."""
    UNKNOWN = "unknown"
    """The name has no address, it is this host itself, or this host could not try."""


class Tried(NamedTuple):
    """A place, as `HOST:PORT`, and what came back."""

    place: str
    answer: Answer


class Verdict(enum.StrEnum):
    """Only `FILTERED` is well."""

    FILTERED = "filtered"
    EXPOSED = "exposed"
    UNCHECKED = "unchecked"


class Round(NamedTuple):
    """What one canary found at one time."""

    host: str
    at: float
    """Seconds since the epoch."""
    targets: tuple[Tried, ...]
    """What must be filtered."""
    controls: tuple[Tried, ...]
    """What must answer."""

    @property
    def exposed(self) -> tuple[Tried, ...]:
        """What was reached and must not be."""
        return tuple(one for one in self.targets if one.answer in {Answer.OPEN, Answer.CLOSED})

    @property
    def doubt(self) -> str:
        """Why what was not reached may be open all the same; empty if nothing says so."""
        if not any(one.answer is Answer.OPEN for one in self.controls):
            return (
                f"this host does not reach {', '.join(one.place for one in self.controls)} either"
            )
        doubtful = [one for one in self.targets if one.answer in {Answer.REJECTED, Answer.UNKNOWN}]
        if not doubtful:
            return ""
        told = ", ".join(f"{one.place} ({one.answer.value})" for one in doubtful[:5])
        return f"not known: {told}; a firewall of this host needs them in firewall_allow"

    @property
    def verdict(self) -> Verdict:
        """What is reached is exposed, whatever else is not known."""
        if self.exposed:
            return Verdict.EXPOSED
        return Verdict.UNCHECKED if self.doubt else Verdict.FILTERED

    def payload(self) -> bytes:
        """What is signed."""
        return json.dumps(self.told(), sort_keys=True, separators=(",", ":")).encode()

    def told(self) -> dict[str, Any]:
        """As JSON can say it."""
        return {
            "host": self.host,
            "at": self.at,
            "verdict": self.verdict.value,
            "targets": dict(self.targets),
            "controls": dict(self.controls),
        }


def parse_round(told: dict[str, Any]) -> Round:
    """What `Round.told` has made; `ValueError`, `KeyError` or `TypeError` for anything else."""
    targets, controls = (
        tuple(Tried(str(place), Answer(answer)) for place, answer in told[name].items())
        for name in ("targets", "controls")
    )
    return Round(str(told["host"]), float(told["at"]), targets, controls)


def parse_target(text: str, *, option: str) -> Place:
    """A host and a port of TCP; `ImproperlyConfigured` for what cannot be tried."""
    try:
        place = parse_place(text)
    except ValueError as error:
        raise ImproperlyConfigured(f"{option}: {text!r} {error}") from None
    if place.protocol != "tcp":
        raise ImproperlyConfigured(
            f"{option}: {text!r}: silence says nothing of UDP; name ports of TCP"
        )
    if not isinstance(place.host, str) and place.host.num_addresses != 1:
        raise ImproperlyConfigured(f"{option}: {text!r} is a network; name hosts")
    return place


def try_round(
    targets: Sequence[Place], controls: Sequence[Place], *, host: str, now: float, seconds: float
) -> Round:
    """Try all of them at the same time, each for so many seconds. Raises nothing for what answers or does not."""
    places = [*targets, *controls]
    pool = ThreadPoolExecutor(min(len(places), _THREADS), thread_name_prefix="canary")
    try:
        asked = [pool.submit(_try, one, seconds) for one in places]
        turns = -(-len(places) // _THREADS)
        done, _ = wait(asked, timeout=turns * _MOST_ADDRESSES * seconds)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # who is asked for a name may never answer
    tried = [
        Tried(str(place), one.result() if one in done else Answer.UNKNOWN)
        for place, one in zip(places, asked, strict=True)
    ]
    return Round(host, now, tuple(tried[: len(targets)]), tuple(tried[len(targets) :]))


def _try(place: Place, seconds: float) -> Answer:
    host = place.host if isinstance(place.host, str) else str(place.host.network_address)
    try:
        addresses = socket.getaddrinfo(host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Answer.UNKNOWN
    answers = set(_try_each(addresses, seconds))
    worst = (Answer.OPEN, Answer.CLOSED, Answer.UNKNOWN, Answer.REJECTED, Answer.FILTERED)
    return next(one for one in worst if one in answers)


def _try_each(addresses: Sequence[Any], seconds: float) -> Iterator[Answer]:
    for family, kind, protocol, _, address in addresses[:_MOST_ADDRESSES]:
        try:
            with socket.socket(family, kind, protocol) as line:
                line.settimeout(seconds)
                line.connect(address)
                is_own = line.getsockname()[0] == line.getpeername()[0]
        except TimeoutError:
            yield Answer.FILTERED
        except ConnectionRefusedError:
            yield Answer.CLOSED
        except OSError as error:
            yield Answer.REJECTED if error.errno in _REJECTED else Answer.UNKNOWN
        else:
            # What a host says to itself passes no firewall of another's.
            yield Answer.UNKNOWN if is_own else Answer.OPEN
