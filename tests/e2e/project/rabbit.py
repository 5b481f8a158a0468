"""The app of `work`, with the names of its queues on RabbitMQ under a prefix of the test's own."""

import os

from work import app

options = {"global_keyprefix": os.environ["RABBITMQ_TEST_PREFIX"]}
if store := os.environ.get("RABBITMQ_TEST_STORE"):
    options["store"] = store
app.conf.broker_transport_options = options


@app.task(name="work.total")
def total(numbers: list[int]) -> int:
    return sum(numbers)
