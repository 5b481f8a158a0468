"""The reports and the pages, without a worker."""

from __future__ import annotations

from decimal import Decimal

import pytest
from salesreports import create_app
from salesreports.tasks import write_report

ORDERS = [
    {"day": "2026-01-02", "customer": "ada", "cents": 1999},
    {"day": "2026-01-31", "customer": "bob", "cents": 500},
    {"day": "2026-01-31", "customer": "ada", "cents": 1},
    {"day": "2026-02-01", "customer": "ada", "cents": 70000},
]


@pytest.fixture
def shop(tmp_path):
    return create_app(
        {
            "TESTING": True,
            "SECRET_KEY": "of the tests",
            "DATABASE": str(tmp_path / "shop.db"),
            "CARDOON": {"broker_url": "memory://", "state_directory": str(tmp_path / "state")},
        }
    )


def test_a_report_adds_up_a_month(shop):
    shop.test_client().post("/orders", json=ORDERS)

    report = write_report.apply(("2026-01",)).get()

    assert report == {
        "month": "2026-01",
        "orders": 3,
        "total": Decimal(25),
        "best": [
            {"customer": "ada", "total": Decimal(20)},
            {"customer": "bob", "total": Decimal(5)},
        ],
    }


def test_a_report_can_be_followed_by_who_started_it_and_nobody_else(shop):
    mine, other = shop.test_client(), shop.test_client()

    started = mine.post("/reports", json={"month": "2026-01"})

    assert started.status_code == 202
    assert mine.get(started.json["status"]).json["state"] == "PENDING"
    assert other.get(started.json["status"]).status_code == 404


@pytest.mark.parametrize("wrong", [{}, {"month": "January"}, {"month": 5}, []])
def test_a_wrong_month_starts_nothing(shop, wrong):
    assert shop.test_client().post("/reports", json=wrong).status_code == 400
