"""`--purge`: a worker that begins with empty queues."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cardoon.audit import AuditLog
from cardoon.broker import Broker, Inspectable
from cardoon.exceptions import ImproperlyConfigured

logger = logging.getLogger(__name__)


def purge(broker: Broker, queues: Sequence[str], audit: AuditLog) -> None:
    """Delete what waits in these queues, and say how much that was."""
    if not isinstance(broker, Inspectable):
        raise ImproperlyConfigured("--purge: this broker cannot be looked into")
    count = sum(broker.purge(queue) for queue in queues)
    logger.warning("deleted %d waiting messages", count)
    audit.record("operator.purge", queues=",".join(queues), count=count)
