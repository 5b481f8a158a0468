"""Recalling: what a process claimed that was killed before it knew what it had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from cardoon.broker import Delivery


@runtime_checkable
class Recalling(Protocol):
    """A broker on a server that can say what is on loan to a process which is gone.

    A claim is answered in one step and noted by the worker in another. Who is killed between the two
    holds messages that nobody knows of; without this power they wait for the end of their lease.
    """

    @property
    def claimant(self) -> str:
        """What the claims of this process go by: random, and another one after a fork or a restart."""
        ...

    def recall(self, claimant: str) -> Sequence[Delivery]:
        """What a claimant took with its latest calls and still has on loan; without frames.

        For who knows that the claimant is dead. Known for at least as long as the usual lease, and
        renews nothing. An unknown claimant has nothing.
        """
        ...
