"""What a forked child must not use: the sockets of its parent, and locks that nobody will release.

The hook runs for `os.fork` and everything built on it, and not for `subprocess`, which needs none.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that holds sockets or locks of the process."""

    def after_fork_in_child(self) -> None:
        """Start afresh; the other threads are gone, and the sockets are the parent's."""
        ...


# Hooks cannot be taken back, so it is registered once, for whatever is alive when it runs.
_alive: weakref.WeakSet[Forkable] = weakref.WeakSet()


def watch(resource: Forkable) -> None:
    """Tell a resource about forks for as long as it lives."""
    _alive.add(resource)


def _after_in_child() -> None:
    for resource in list(_alive):
        resource.after_fork_in_child()


os.register_at_fork(after_in_child=_after_in_child)
