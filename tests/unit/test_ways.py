"""What the settings say of the way to servers reaches the drivers."""

from __future__ import annotations

import pytest

from cardoon.clock import SystemClock
from cardoon.config import Conf
from cardoon.deployment import Deployment
from cardoon.exceptions import ImproperlyConfigured

REDIS = "redis://queue.example/0"
OTHER = "redis://results.example/0"


def deployment(**settings):
    conf = Conf({})
    conf.update(settings)
    return Deployment(conf.settings(), clock=SystemClock())


def test_one_store_is_reached_in_one_way():
    made = deployment(
        broker_url=REDIS,
        result_backend=REDIS,
        broker_use_ssl={"ssl_ca_certs": "ca.pem"},
        broker_transport_options={"global_keyprefix": "shop", "max_connections": 3},
    )

    assert made.way_to_backend() == made.way_to_broker()
    assert made.way_to_broker().access.use_ssl == {"ssl_ca_certs": "ca.pem"}
    assert made.way_to_broker().transport == {"global_keyprefix": "shop"}


def test_another_store_has_a_way_of_its_own():
    made = deployment(
        broker_url=REDIS, result_backend=OTHER, broker_use_ssl=True, redis_backend_use_ssl=False
    )

    assert made.way_to_broker().access.use_ssl is True
    assert made.way_to_backend().access.use_ssl is False


def test_what_is_said_of_redis_is_not_said_of_postgresql():
    made = deployment(
        broker_url=REDIS,
        result_backend="postgresql://db.example/shop",
        broker_use_ssl=True,
        redis_backend_use_ssl=True,
    )

    assert made.way_to_backend().access.use_ssl is None


def test_a_list_of_urls_is_servers_that_stand_in_for_one_another():
    assert deployment(broker_url=[REDIS, OTHER]).broker_url == f"{REDIS};{OTHER}"


@pytest.mark.parametrize(
    "name",
    ["unsafe_allow_plaintext_broker", "unsafe_allow_unverified_tls", "unsafe_allow_eviction"],
)
def test_what_weakens_is_off_unless_it_is_set(name):
    field = name.removeprefix("unsafe_").replace("_broker", "").replace("_tls", "")

    assert not getattr(deployment(broker_url=REDIS).way_to_broker().access, field)
    assert getattr(deployment(broker_url=REDIS, **{name: True}).way_to_broker().access, field)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"global_keyprefx": "shop"}, "unknown key 'global_keyprefx'"),
        ({"schema": 3}, "schema=3, which is not a name"),
        ({"visibility_timeout": "1h"}, "visibility_timeout='1h', which is not a number"),
    ],
)
def test_options_of_drivers_are_checked(options, said):
    with pytest.raises(ImproperlyConfigured, match=said):
        deployment(broker_transport_options=options)


def test_plain_text_to_another_host_is_refused_when_the_broker_is_opened(tmp_path):
    made = deployment(
        broker_url=REDIS, task_serializer="json", accept_content=["json"],
        state_directory=str(tmp_path),
    )  # fmt: skip

    with pytest.raises(ImproperlyConfigured, match=r"plain text to queue\.example"):
        made.open_broker()
