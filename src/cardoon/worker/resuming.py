"""Ends what had ended when the worker was killed: jobs whose outcome is in the journal and nowhere else.

Their leases still stand, since they end later than a worker is started again. So nothing is claimed
anew: the leases are renewed, the messages pass the gate and the replay guard like any other, and the
settler signs and stores the outcomes as it does with those of its own processes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from cardoon.broker import Broker, Delivery
from cardoon.worker.held import Held
from cardoon.worker.leasebook import LeaseBook, give_back, release_unnoted
from cardoon.worker.settler import Ended, Settler

logger = logging.getLogger(__name__)


class Reopener(Protocol):
    """Who renews leases and makes verified messages of deliveries; the consumer does."""

    def reopen(self, deliveries: Sequence[Delivery]) -> list[Held]:
        """Those that are still ours, and ours to end."""
        ...


def end_leases(book: LeaseBook, broker: Broker, consumer: Reopener, settler: Settler) -> None:
    """A worker's first step: what it held when it was killed ends, or goes back.

    Raises `OperationalError` like the broker, and may then be called again.
    """
    if released := release_unnoted(broker, book):
        logger.warning("gave back %d messages that a claim had just brought", released)
    resume(book, consumer, settler)
    if returned := give_back(broker, book):
        logger.warning("gave back %d messages of the worker that was killed here", returned)


def resume(book: LeaseBook, consumer: Reopener, settler: Settler) -> None:
    """Have the outcomes stored that are in the journal of what the book says is left."""
    tickets = {book.ticket(one): one for one in book.left}
    endings = book.journal.read(tickets)
    if not endings:
        return
    held = consumer.reopen([tickets[ticket] for ticket in endings])
    book.take_over([one.delivery for one in held])
    settler.put(*(Ended(one, endings[book.ticket(one.delivery)]) for one in held))
    logger.warning(
        "%d tasks had ended when the worker was killed here; they do not run again", len(held)
    )
