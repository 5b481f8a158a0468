"""A customer's visit to examples/django, in a process of its own, which may be killed on the way.

    python django_visit.py ITEM [MOMENT]

Orders the item. Prints, as JSON, what is there afterwards. With a MOMENT it dies there by SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
django.setup()

from django.contrib.auth.models import User
from django.db.models.signals import post_save
from django.test import Client

from cardoon.contrib.django.models import OutboxMessage
from orders.models import Order, Receipt
from shop.celery import app

HOST = {"host": "localhost"}


def die(*args: object, **kwargs: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(moment: str) -> None:
    """Have this process killed at a moment."""
    publish = app.sender.publish

    def publish_and_die(*args, **kwargs):
        publish(*args, **kwargs)
        die()

    match moment:
        case "before the commit":
            post_save.connect(die, sender=OutboxMessage, weak=False)
        case "before it publishes":
            app.sender.publish = die
        case "after it has published":
            app.sender.publish = publish_and_die
        case _:
            raise AssertionError(moment)


def order(item: str) -> None:
    user, _ = User.objects.get_or_create(username="ada", email="ada@example.org")
    client = Client()
    client.force_login(user)
    answer = client.post("/", {"item": item, "cents": 1999}, headers=HOST)
    assert answer.status_code == 302, answer
    task_id = Order.objects.get(item=item).receipt_task
    address = f"/results/{task_id}?wait=10"
    shown = client.get(address, headers=HOST)
    stranger = Client().get(address, headers=HOST)
    print(json.dumps({"shown": shown.json(), "stranger": stranger.status_code}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--look"]:
            found = {
                "orders": Order.objects.count(),
                "receipts": Receipt.objects.count(),
                "outbox": OutboxMessage.objects.count(),
            }
            print(json.dumps(found))
        case [item, *moment]:
            if moment:
                arrange(*moment)
            order(item)
