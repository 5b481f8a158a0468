"""Each role is given what it needs, and the server itself refuses the rest."""

from __future__ import annotations

import re
import shlex
import uuid

import pika
import pika.exceptions
import pytest

from cardoon import backends, brokers
from cardoon.broker import Ack
from cardoon.clock import SystemClock
from cardoon.exceptions import OperationalError
from cardoon.rabbitmq.access import commands
from cardoon.testing.backends import result
from cardoon.testing.setting import ids, message, publish, receive


@pytest.fixture(scope="module")
def opened_shop(rabbitmq, tmp_path_factory):
    """A virtual host with a user for each role: for all tests here, since the commands take a minute."""
    place = Shop(rabbitmq, tmp_path_factory.mktemp("shop"))
    yield place
    place.close()


@pytest.fixture
def shop(opened_shop):
    """The same; gives brokers and raw channels of each role."""
    yield opened_shop
    opened_shop.leave()


class Shop:
    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.vhost = f"v{uuid.uuid4().hex}"
        server.control("add_vhost", self.vhost)
        self._made = []
        for role in ("client", "worker", "beat", "monitor"):
            lines = commands(role, prefix="shop", username=f"{role}-{self.vhost}", vhost=self.vhost)
            for line in lines:
                program, *arguments = shlex.split(line)
                assert program == "rabbitmqctl"
                if arguments[0] == "add_user":
                    arguments.append("secret")
                server.control(*arguments)

    def url(self, role):
        return self.server.url_of(f"{role}-{self.vhost}", "secret", vhost=self.vhost)

    def broker(self, role):
        clock = SystemClock()
        made = brokers.connect(
            self.url(role),
            clock=clock,
            timeout=30.0,
            transport={"global_keyprefix": "shop"},
            companion=brokers.connect(f"sqlite:///{self.folder}/store.db", clock=clock),
        )
        self._made.append(made)
        return made

    def refuses(self, role, action):
        connection = pika.BlockingConnection(pika.URLParameters(self.url(role)))
        channel = connection.channel()
        channel.confirm_delivery()
        try:
            action(channel)
        except pika.exceptions.ChannelClosedByBroker as error:
            return error.reply_code == 403
        else:
            return False
        finally:
            connection.close()

    def leave(self):
        while self._made:
            self._made.pop().close()

    def close(self):
        self.leave()
        self.server.control("delete_vhost", self.vhost)


def test_roles_do_their_work_and_the_server_refuses_the_rest(shop):
    client, worker, monitor = map(shop.broker, ("client", "worker", "monitor"))
    worker.declare(["q"])
    publish(client, message("a"), message("b")._replace(priority=4))
    counted = {depth.queue: depth.ready for depth in monitor.depths()}
    taken = receive(worker)

    assert counted == {"q": 2}
    assert ids(taken) == ["b", "a"]
    assert worker.settle([Ack(each) for each in taken]) == [True, True]

    queue = "shop.0.q"
    for role in ("client", "monitor"):
        assert shop.refuses(role, lambda channel: channel.basic_get(queue))
        assert shop.refuses(role, lambda channel: channel.basic_consume(queue, print))
        assert shop.refuses(role, lambda channel: channel.queue_purge(queue))
    assert shop.refuses("monitor", lambda channel: channel.basic_publish("", queue, b"x"))
    assert shop.refuses("monitor", lambda channel: channel.queue_delete(queue))
    for role in ("client", "worker", "monitor"):
        assert shop.refuses(role, lambda channel: channel.queue_declare("celery"))
        assert shop.refuses(role, lambda channel: channel.queue_delete("celery"))
        assert shop.refuses(role, lambda channel: channel.basic_publish("amq.topic", "x", b"x"))


def test_each_role_takes_results_that_are_sent_to_it_and_no_others(shop):
    clock = SystemClock()
    reading = {
        role: backends.connect("rpc://", clock=clock, beside=shop.broker(role))
        for role in ("client", "worker", "beat")
    }
    addresses = {role: backend.listen(timeout=30.0) for role, backend in reading.items()}

    reading["worker"].store([result(role)._replace(reply=addresses[role]) for role in reading])

    for role, backend in reading.items():
        assert [each.task_id for each in backend.wait([role], timeout=30.0)] == [role]
        for other in reading.keys() - {role}:
            queue = f"shop.reply.{addresses[other]}"
            for action in (
                lambda channel, name=queue: channel.basic_get(name),
                lambda channel, name=queue: channel.queue_declare(name),
                lambda channel, name=queue: channel.queue_delete(name),
            ):
                assert shop.refuses(role, action)
        backend.close()
    assert shop.refuses("monitor", lambda channel: channel.queue_declare("shop.reply.monitor.0"))
    longer = addresses["client"].replace("client", "client.x", 1)
    assert shop.refuses("client", lambda channel: channel.queue_declare(f"shop.reply.{longer}"))


def test_the_results_of_an_account_with_a_longer_name_are_not_its_own():
    [configure, _, read] = shlex.split(commands("client", username="a", prefix="p")[1])[5:]

    for pattern in (configure, read):
        assert re.search(pattern, "p.reply.a.0f")
        assert not re.search(pattern, "p.reply.a.b.0f")
        assert not re.search(pattern, "p.reply.ab.0f")


def test_what_the_server_refuses_is_explained(shop):
    shop.broker("worker").declare(["q"])

    with pytest.raises(OperationalError, match=r"access refused .*cardoon\.rabbitmq\.access"):
        publish(shop.broker("monitor"), message("a"))


def test_names_are_quoted_for_a_shell():
    lines = commands("client", prefix="a.b", username="o'neil; rm", vhost="/ x")

    assert [shlex.split(line)[0] for line in lines] == ["rabbitmqctl"] * 3
    assert shlex.split(lines[1])[2:5] == ["--vhost", "/ x", "o'neil; rm"]
    assert shlex.split(lines[1])[5].startswith(r"^a\.b\.(?!reply\.)|")
