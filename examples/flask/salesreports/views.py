"""What the browser asks for."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Request, abort, request, session, url_for

from salesreports.store import connect
from salesreports.tasks import write_report

pages = Blueprint("pages", __name__)

KEPT = 20
"""Reports that a browser may come back to; their ids lie in its signed cookie."""


@pages.post("/orders")
def take_orders() -> tuple[dict[str, int], int]:
    """Take a list of orders: `[{"day": "2026-01-31", "customer": "ada", "cents": 1999}, ...]`."""
    orders = request.get_json()
    with connect() as connection:
        connection.executemany(
            "INSERT INTO orders (day, customer, cents) VALUES (:day, :customer, :cents)", orders
        )
    return {"taken": len(orders)}, 201


@pages.post("/reports")
def start_report() -> tuple[dict[str, str], int]:
    """Start a report; answers with where to look for it."""
    asked: Any = request.get_json()
    month = asked.get("month") if isinstance(asked, dict) else None
    if not isinstance(month, str) or not re.fullmatch(r"\d{4}-\d{2}", month):
        abort(400, "month: give it as 2026-01")
    task_id = write_report.delay(month).id
    session["reports"] = [*session.get("reports", []), task_id][-KEPT:]
    return {"id": task_id, "status": url_for("results.show", task_id=task_id)}, 202


def is_own_report(_: Request, task_id: str) -> bool:
    """Whether this browser has started the report."""
    return task_id in session.get("reports", [])
