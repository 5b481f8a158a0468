"""The orders: one SQLite file, and one connection for each app context."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from flask import Flask, current_app, g

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY, day TEXT NOT NULL, customer TEXT NOT NULL, cents INTEGER NOT NULL
)
"""


def connect() -> sqlite3.Connection:
    """The connection of the current app context; a view has one, and so has a task."""
    if "orders" not in g:
        path = Path(current_app.config["DATABASE"])
        path.parent.mkdir(parents=True, exist_ok=True)
        g.orders = sqlite3.connect(path)
        g.orders.execute(SCHEMA)
    connection: sqlite3.Connection = g.orders
    return connection


def init_app(app: Flask) -> None:
    """Close the connection when its context ends."""

    @app.teardown_appcontext
    def close(_: BaseException | None) -> None:
        connection = g.pop("orders", None)
        if connection is not None:
            connection.close()
