"""The shop without a worker: `manage.py test`."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.core import mail
from django.test import TestCase

from cardoon.testing import Simulation, capture
from orders.models import Order, Receipt
from orders.tasks import mail_receipt, write_receipt
from shop.celery import app


class OrderTests(TestCase):
    """Orders and their receipts."""

    def setUp(self) -> None:
        """Ada is logged in."""
        self.ada = User.objects.create_user("ada", email="ada@example.org")
        self.client.force_login(self.ada)

    def place(self) -> Order:
        """Buy a book."""
        self.client.post("/", {"item": "book", "cents": 1999})
        order: Order = Order.objects.get()
        return order

    def test_an_order_sends_its_receipt_when_it_is_committed(self) -> None:
        """Both tasks, the second behind the first."""
        with capture(app) as sent:
            with self.captureOnCommitCallbacks(execute=True):
                order = self.place()
                sent.assert_not_sent(write_receipt)

            sent.assert_sent(write_receipt, args=(order.pk,))
            sent.assert_sent(mail_receipt, task_id=order.receipt_task)

    def test_an_order_that_cannot_be_stored_sends_nothing(self) -> None:
        """A form that says nothing."""
        with capture(app) as sent, self.captureOnCommitCallbacks(execute=True):
            self.client.post("/", {"item": "", "cents": 1999})

        sent.assert_not_sent(write_receipt)

    def test_a_receipt_is_written_and_mailed(self) -> None:
        """By a worker in this test."""
        with Simulation(app) as simulation:
            with self.captureOnCommitCallbacks(execute=True):
                self.place()
            simulation.run_until_idle()

        assert Receipt.objects.get().text == "ada bought book for 19.99 EUR."
        assert [one.to for one in mail.outbox] == [["ada@example.org"]]

    def test_a_receipt_is_written_once(self) -> None:
        """However often the task runs."""
        with capture(app), self.captureOnCommitCallbacks(execute=True):
            order = self.place()

        first, second = (write_receipt.apply((order.pk,)).get() for _ in range(2))

        assert first == second

    def test_a_result_is_shown_to_who_has_ordered_and_nobody_else(self) -> None:
        """Bob gets what he would get for an id that is none."""
        with Simulation(app), self.captureOnCommitCallbacks(execute=True):
            order = self.place()
        with Simulation(app):
            mine = self.client.get(f"/results/{order.receipt_task}")
            self.client.force_login(User.objects.create_user("bob"))
            other = self.client.get(f"/results/{order.receipt_task}")

        assert (mine.status_code, mine.json()["state"]) == (200, "PENDING")
        assert other.status_code == 404
