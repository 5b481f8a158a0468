"""What the worker does."""

from __future__ import annotations

import sqlite3
from collections import Counter
from decimal import Decimal
from typing import Any

from cardoon import Task
from cardoon.contrib.flask import FlaskCardoon
from salesreports.store import connect

queue = FlaskCardoon()

SAY_EVERY = 100
"""Orders after which the task says how far it is."""


@queue.task(bind=True, autoretry_for=(sqlite3.OperationalError,), retry_backoff=1, max_retries=5)
def write_report(self: Task[..., Any], month: str) -> dict[str, Any]:
    """Add up the orders of a month ("2026-01"), by customer."""
    orders = connect().execute(
        "SELECT customer, cents FROM orders WHERE substr(day, 1, 7) = ? ORDER BY number", (month,)
    )
    rows = orders.fetchall()
    by_customer: Counter[str] = Counter()
    for number, (customer, cents) in enumerate(rows):
        if number % SAY_EVERY == 0:
            self.update_state(state="PROGRESS", meta={"done": number, "of": len(rows)})
        by_customer[customer] += cents
    return {
        "month": month,
        "orders": len(rows),
        "total": Decimal(by_customer.total()) / 100,
        "best": [
            {"customer": customer, "total": Decimal(cents) / 100}
            for customer, cents in by_customer.most_common(3)
        ],
    }
