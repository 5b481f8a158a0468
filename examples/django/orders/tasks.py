"""What the worker does."""

from __future__ import annotations

from django.core.mail import send_mail
from django.db import OperationalError

from cardoon import shared_task
from orders.models import Order, Receipt


@shared_task(autoretry_for=(OperationalError,), retry_backoff=1, max_retries=5)
def write_receipt(order: int) -> int:
    """Write an order's receipt; a second one is never written."""
    found = Order.objects.select_related("customer").get(pk=order)
    euros, cents = divmod(found.cents, 100)
    text = f"{found.customer.get_username()} bought {found.item} for {euros}.{cents:02} EUR."
    receipt, _ = Receipt.objects.get_or_create(order=found, defaults={"text": text})
    return int(receipt.pk)


@shared_task(acks_late=False)
def mail_receipt(receipt: int) -> str:
    """Mail it: rather not at all than twice, should a worker die meanwhile."""
    found = Receipt.objects.select_related("order__customer").get(pk=receipt)
    address = found.order.customer.email
    if address:
        send_mail(f"Your order {found.order.pk}", found.text, "shop@example.org", [address])
    return str(found.text)
