"""Which queues a worker consumes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from cardoon.config import Settings
from cardoon.exceptions import ImproperlyConfigured
from cardoon.queues import broadcast_names, private_queue
from cardoon.routing import Queues
from cardoon.utils.nodenames import worker_direct

logger = logging.getLogger(__name__)


def select_queues(
    settings: Settings, *, wanted: Sequence[str], excluded: Sequence[str], hostname: str
) -> tuple[str, ...]:
    """The queues of `-Q`, or all that are declared, without those of `-X`; and the worker's own.

    `QueueNotFound` for a name that the settings do not allow, `ImproperlyConfigured` if none is left.
    """
    queues = Queues(settings)
    names = [queues[name].name for name in wanted or queues.consume_from]
    without = {queues[name].name if name in queues else name for name in excluded}
    for name in without.difference(names):
        logger.warning("-X %s: this worker would not have consumed it anyway", name)
    left = [name for name in dict.fromkeys(names) if name not in without]
    if settings.worker_direct:
        left.append(worker_direct(hostname).name)
    if not left:
        told = "-Q names" if wanted else "the settings declare"
        raise ImproperlyConfigured(f"-X excludes every queue that {told}")
    if not wanted and queues.default_name not in queues:
        logger.warning(
            "task_queues does not have %r, the task_default_queue: this worker leaves alone what is "
            "sent without naming a queue",
            queues.default_name,
        )
    return tuple(left)


def split_queues(
    settings: Settings, names: Sequence[str], *, hostname: str
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Of what a worker consumes, the ordinary queues; and the broadcast queues, by its own behind them."""
    broadcast = broadcast_names(settings.task_queues)
    ordinary = tuple(name for name in names if name not in broadcast)
    return ordinary, {private_queue(name, hostname): name for name in names if name in broadcast}
