"""Django: a Celery project's three lines, sends that belong to a transaction, a page that shows results.

    with atomic_send():                      # transaction.atomic(), for what is sent, too
        order = Order.objects.create(...)
        send_receipt.delay(order.pk)

As a Django app (`INSTALLED_APPS = [..., "cardoon.contrib.django"]`) it brings the table that `atomic_send`
writes to. docs/django.md has all of it.
"""

from __future__ import annotations

try:
    import django as _django  # noqa: F401  # to say early what is missing
except ModuleNotFoundError as error:
    raise ImportError(f"cardoon.contrib.django: {error}; pip install cardoon[django]") from error

from cardoon.contrib.django.fixup import install
from cardoon.contrib.django.outbox import atomic_send, relay_outbox
from cardoon.contrib.django.results import result_urls, result_view
from cardoon.contrib.django.task import DjangoTask, shared_task

__all__ = [
    "DjangoTask",
    "atomic_send",
    "install",
    "relay_outbox",
    "result_urls",
    "result_view",
    "shared_task",
]
