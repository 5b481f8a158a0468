"""What can go wrong on the way to a server, and what its refusals mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import hiredis

from cardoon.exceptions import OperationalError

_PASSING = frozenset({
    "LOADING", "READONLY", "MASTERDOWN", "BUSY", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN",
})  # fmt: skip
"""Refusals that end by themselves, or on another server: asked again until the deadline."""

_REMEDIES = {
    "LOADING": "it reads its data set from disk; wait until it has",
    "READONLY": "it is a replica; name the master, or the sentinels that know it",
    "MASTERDOWN": "it is a replica that has lost its master; see to the master",
    "CLUSTERDOWN": "nobody in its cluster has the slot of our keys; see CLUSTER INFO",
    "MOVED": "its cluster does not agree about who has the slot of our keys; see CLUSTER NODES",
    "ASK": "the slot of our keys is on its way to another node; see that it arrives",
    "TRYAGAIN": "the slot of our keys is on its way to another node; see that it arrives",
    "BUSY": "it runs a script for too long; see who runs scripts that are not Cardoon's",
    "OOM": "it has reached maxmemory; let workers catch up, or give it more",
    "MISCONF": "it cannot write to its disk; see its log and make room",
    "NOPERM": "its user may not do that; see `cardoon.redis.access` for what each role needs",
    "NOAUTH": "it asks for a password; put it in the URL",
    "WRONGPASS": "user name or password are wrong",
    "NOREPLICAS": "it has too few replicas to write; see min-replicas-to-write",
}


class ConnectionLostError(Exception):
    """The connection is of no use any more; whoever had it throws it away."""


class ServerError(Exception):
    """The server answered with an error."""

    def __init__(self, answer: hiredis.ReplyError) -> None:
        self.text = str(answer)
        self.code = self.text.partition(" ")[0]
        if "The user executing the script" in self.text:
            self.code = "NOPERM"  # in the words for scripts
        super().__init__(self.text)

    @property
    def moved_to(self) -> tuple[str, int] | None:
        """The node of the cluster that has our keys, where it names one; an empty host is its own."""
        match self.text.split():
            case ["MOVED", _, address]:
                host, _, port = address.rpartition(":")
                is_port = port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65_536
                return (host.strip("[]"), int(port)) if is_port and host != "?" else None
            case _:
                return None

    @property
    def passes(self) -> bool:
        """Whether asking again may help."""
        return self.code in _PASSING


def explain(
    error: ConnectionLostError | ServerError, place: str, seconds: float
) -> OperationalError:
    """The same failure in our words, with a remedy where there is one."""
    if isinstance(error, ServerError):
        remedy = _REMEDIES.get(error.code)
        hint = f"; {remedy}" if remedy else ""
        return OperationalError(f"redis at {place} refused ({error.code}): {error.text}{hint}")
    return OperationalError(f"redis at {place}: no answer within {seconds:g} s: {error}")


@contextlib.contextmanager
def understood(place: str) -> Iterator[None]:
    """Let what others have written into the store be a failure of the store, and of nobody else."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise OperationalError(
            f"redis at {place} holds what Cardoon has not written: {error}; see who else writes there"
        ) from error
