"""Builds the pool of processes that the settings describe."""

from __future__ import annotations

import logging
import sys

from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.endpoints import addresses_of
from cardoon.log import LEVELS
from cardoon.sandbox.confining import NOBODY
from cardoon.syslog.service import Syslog
from cardoon.worker.blaming import OnRefused
from cardoon.worker.brood import MOST_PROCESSES
from cardoon.worker.grouping import open_groups
from cardoon.worker.hatchery import Hatchery
from cardoon.worker.host import allow_descriptors
from cardoon.worker.isolation import Isolation
from cardoon.worker.journal import Journal
from cardoon.worker.log_intake import TaskLogs
from cardoon.worker.nursery import Nursery
from cardoon.worker.plan import plan_pool
from cardoon.worker.pool import OnEnded
from cardoon.worker.replying import OnRequest
from cardoon.worker.supervisor import ProcessPool
from cardoon.worker.task_log import Terms
from cardoon.worker.watch import Watch

logger = logging.getLogger(__name__)

_DESCRIPTORS = 1024
"""For all but the processes of tasks."""
_DESCRIPTORS_EACH = 4
"""A channel, the output, the log, and a handle of the process."""


def make_process_pool(
    settings: Settings,
    nursery: Nursery,
    *,
    concurrency: int,
    farewell: float,
    clock: Clock,
    on_ended: OnEnded,
    on_request: OnRequest,
    on_refused: OnRefused,
    journal: Journal | None,
    isolation: Isolation,
    deployment: Deployment,
    syslog: Syslog,
) -> ProcessPool:
    """The pool. With `isolated`, outcomes are in no journal: its pages would pass from task to task.

    Tasks do not reach the deployment's own servers by a name.
    """
    plan = plan_pool(settings, concurrency=concurrency, farewell=farewell)
    forks: Nursery | Hatchery = nursery
    if plan.is_single:
        if settings.worker_max_tasks_per_child or settings.worker_max_memory_per_child:
            logger.warning(
                "worker_max_tasks_per_child and worker_max_memory_per_child have no meaning with the pool "
                "isolated, where a process runs one task; use `memory` of worker_sandbox"
            )
        own = addresses_of(deployment.broker_url, deployment.backend_url)
        uid = next((one.uid for one in isolation.table if one.uid is not None), NOBODY)
        watch = Watch(own, task_uid=uid) if sys.platform == "linux" else None
        allow_descriptors(_DESCRIPTORS + concurrency * MOST_PROCESSES * _DESCRIPTORS_EACH)
        told = isolation.tell_processes()
        assert told is not None
        forks = Hatchery(
            nursery,
            isolation.table,
            sandbox=told,
            reached=isolation.reached,
            watch=watch,
            groups=open_groups(isolation),
        )
        journal = None
    return ProcessPool(
        plan,
        forks,
        clock=clock,
        on_ended=on_ended,
        on_request=on_request,
        on_refused=on_refused,
        journal=journal,
        logs=_open_logs(settings, syslog, clock=clock),
    )


def _open_logs(settings: Settings, syslog: Syslog, *, clock: Clock) -> TaskLogs | None:
    """What has syslog hear of the logs of tasks; None where nobody wants them."""
    if not settings.syslog_address or not settings.syslog_task_rate:
        return None
    terms = Terms(LEVELS[settings.syslog_level], settings.syslog_task_rate)
    return TaskLogs(terms, tell=syslog.tell_of_task, clock=clock)
