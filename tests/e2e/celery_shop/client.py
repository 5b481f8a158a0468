"""What the shop's web application does."""

import json
import sys

from shop import flows, tasks
from shop.celery import app


def main():
    order = flows.checkout(["soap", "brush"]).apply_async()
    told = flows.announce("soap", "ann").delay()
    mails = flows.everybody(["bob", "eve"]).apply_async()
    mails.save()
    found = {
        "order": order.get(timeout=30),
        "announced": told.get(timeout=30),
        "mails": flows.restore(mails.id).get(timeout=30),
        "described": flows.describe(told.id),
        "whoami": tasks.whoami.delay().get(timeout=30),
        "lookup": tasks.lookup.delay([1, 2]).get(timeout=30),
        "direct": tasks.price("soap")["price"],
        "by name": app.send_task("shop.mail", ["zoe"]).get(timeout=30),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
