"""The app of `work`, with the names of its queues on RabbitMQ under a prefix of the test's own."""

import os

from work import app

app.conf.broker_transport_options = {
    "global_keyprefix": os.environ["RABBITMQ_TEST_PREFIX"],
    "store": os.environ["RABBITMQ_TEST_STORE"],
}


@app.task(name="work.total")
def total(numbers: list[int]) -> int:
    return sum(numbers)
