"""What must be let go of before a process forks.

SQLite forbids carrying a connection over a fork, and means it: the child believes that it holds
the file locks of its parent, which the kernel gave to the parent alone. Whoever then closes the
file last deletes the log under the child, and with it what the child publishes.

The hooks run for `os.fork` and everything built on it, and not for `subprocess`, which needs none.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that holds descriptors or locks of the process."""

    def before_fork(self) -> None:
        """Get ready: close what must not be inherited, and let no other thread begin anew."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Start afresh; the other threads are gone, and the descriptors are the parent's."""
        ...


# Hooks cannot be taken back, so they are registered once, for whatever is alive when they run.
_alive: weakref.WeakSet[Forkable] = weakref.WeakSet()
_one_at_a_time = threading.RLock()


def watch(resource: Forkable) -> None:
    """Tell a resource about forks for as long as it lives."""
    _alive.add(resource)


def _before() -> None:
    _one_at_a_time.acquire()
    for resource in list(_alive):
        resource.before_fork()


def _after_in_parent() -> None:
    for resource in list(_alive):
        resource.after_fork_in_parent()
    _one_at_a_time.release()


def _after_in_child() -> None:
    for resource in list(_alive):
        resource.after_fork_in_child()
    _one_at_a_time.release()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
