"""The names of workers."""

from __future__ import annotations

from cardoon.queues import Queue
from cardoon.utils.nodenames import nodename, nodesplit, worker_direct


def test_a_worker_has_a_queue_of_its_own():
    assert worker_direct("w1@host").name == "w1@host.dq"
    assert worker_direct(Queue("mine")) == Queue("mine")


def test_a_name_is_made_of_two_parts_and_split_again():
    assert nodename("w1", "host") == "w1@host"
    assert nodesplit("w1@host") == ("w1", "host")
    assert nodesplit("host") == (None, "host")
