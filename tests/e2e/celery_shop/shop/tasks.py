"""Prices, stock and mail."""

import celery
from celery import current_app, current_task, shared_task
from celery.exceptions import Ignore, MaxRetriesExceededError, SoftTimeLimitExceeded
from celery.utils.log import get_task_logger

from shop.celery import app

logger = get_task_logger(__name__)


class ShopTask(celery.Task):
    """Adds the currency to what a task returns."""

    currency = "EUR"

    def on_success(self, retval, task_id, args, kwargs):
        logger.info("%s returned %r", self.name, retval)


@app.task(base=ShopTask, bind=True, max_retries=2, default_retry_delay=0)
def price(self, article, fail_times=0):
    """The price of an article; the price list is away for the first few times."""
    try:
        if self.request.retries < fail_times:
            raise ConnectionError("the price list is away")
    except ConnectionError as exc:
        raise self.retry(exc=exc, countdown=0)
    return {"article": article, "price": len(article) * 10, "currency": self.currency}


@shared_task(ignore_result=False, soft_time_limit=20, time_limit=25)
def total(prices):
    try:
        return sum(one["price"] for one in prices)
    except SoftTimeLimitExceeded:
        return None


@shared_task
def discount(amount, percent=10):
    return amount - amount * percent // 100


@shared_task
def whoami():
    """What the stand-ins say inside of a task."""
    return [current_app.main, current_task.name, type(current_app._get_current_object()).__name__]


@app.task(name="shop.mail", acks_late=True)
def mail(to):
    if not to:
        raise Ignore()
    return f"mail to {to}"


@app.task
def lookup(numbers):
    """How many tasks were known when the worker was ready to start, and a state seen from a task."""
    return app.finalized_with >= len(numbers)


def is_lost(error):
    return isinstance(error, MaxRetriesExceededError)
