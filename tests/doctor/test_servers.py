"""What the doctor finds out from real servers, set up badly and well."""

from __future__ import annotations

import pytest

from cardoon.clock import SystemClock
from cardoon.config import Conf
from cardoon.doctor.catalogue import select
from cardoon.doctor.check import State
from cardoon.doctor.examining import examine
from cardoon.doctor.looking import look
from cardoon.doctor.probing import probe
from cardoon.endpoints import Access, parse_endpoints
from tests.doctor.redises import LONG, bad_redis, good_redis
from tests.servers.ground import free_port
from tests.servers.postgres import PASSWORD, open_store

__all__ = ["bad_redis", "good_redis"]


def asked(url):
    access = Access(allow_plaintext=True, allow_unverified=True)
    [facts] = probe(parse_endpoints(url, setting="broker_url", access=access))
    assert facts.error == ""
    return facts


def open_ids(url):
    """The ids of what is found open at a broker."""
    conf = Conf({})
    conf.update(broker_url=url)
    scene = look(conf.settings(), clock=SystemClock(), environ={})
    verdicts = examine(scene, select(groups=["broker"]))
    return {one.check.id for one in verdicts if one.state is State.FINDING}


def test_a_redis_server_as_it_is_installed_is_open_to_all(bad_redis):
    facts = asked(bad_redis.url)

    assert (facts.plaintext, facts.open_to_all) == (True, True)
    assert facts.product == "redis"
    assert facts.version
    assert "CONFIG GET maxmemory-policy" in facts.may
    assert facts.reaches
    assert (facts.eviction, facts.persistent) == ("allkeys-lru", False)


def test_its_faults_are_found_by_their_ids(bad_redis):
    found = open_ids(bad_redis.url)

    assert found >= {"BRK-02", "RED-01", "RED-02", "RED-03", "RED-04", "RED-05"}


def test_a_redis_server_with_access_rules_and_certificates_is_proved_to_be_narrow(good_redis):
    facts = asked(good_redis.url_of(user="worker", password=LONG))

    assert (facts.plaintext, facts.open_to_all) == (False, False)
    assert (facts.demands_certificate, facts.old_tls) == (True, False)
    assert facts.certificate
    assert facts.login_error == ""
    assert (facts.may, facts.reaches) == ((), ())
    assert (facts.eviction, facts.persistent) == ("noeviction", True)


def test_nothing_but_its_version_is_found_there(good_redis):
    url = good_redis.url_of(user="worker", password=LONG)
    unjudged = {"BRK-11"}  # the distribution's number says nothing of its repairs

    assert open_ids(url) - unjudged == set()


def test_a_wrong_password_is_unchecked_and_not_well(good_redis):
    facts = asked(good_redis.url_of(user="worker", password="wrong"))

    assert facts.login_error == "our user is refused: WRONGPASS"


@pytest.fixture(scope="module")
def postgres():
    for store in open_store():
        yield store.server


def test_a_superuser_of_postgresql_is_found(postgres):
    facts = asked(postgres.url)

    assert facts.method == "scram-sha-256"
    assert facts.open_to_all is False
    assert facts.user == "owner"
    assert "super" in facts.attributes
    assert facts.version
    assert facts.creates_in_public is True
    assert "PG-01" in open_ids(postgres.url)


def test_a_role_of_postgresql_that_may_little_is_well(postgres):
    with postgres.connect() as owner:
        owner.execute(f"CREATE ROLE narrow LOGIN PASSWORD '{PASSWORD}'")
    url = postgres.url_of("narrow")
    try:
        facts = asked(url)
        assert (facts.user, facts.attributes) == ("narrow", ())
        assert facts.session_tls is False
        assert not open_ids(url) & {"PG-01", "PG-02", "PG-03", "BRK-02"}
    finally:
        with postgres.connect() as owner:
            owner.execute("DROP ROLE narrow")


def test_rabbitmq_with_guest_is_found(rabbitmq):
    facts = asked(rabbitmq.url)

    assert facts.plaintext is True
    assert facts.guest is True
    assert facts.open_to_all in {True, False}
    assert facts.product == "rabbitmq"
    assert facts.version
    assert facts.reaches
    assert open_ids(rabbitmq.url) >= {"BRK-03", "RMQ-02", "RMQ-03"}


def test_a_user_of_rabbitmq_that_may_little_is_proved_to_be_narrow(rabbitmq):
    rabbitmq.control("add_user", "narrow", LONG)
    try:
        rabbitmq.control("set_permissions", "narrow", "^cardoon", "^cardoon", "^cardoon")
        facts = asked(rabbitmq.url_of("narrow", LONG))
    finally:
        rabbitmq.control("delete_user", "narrow")

    assert (facts.login_error, facts.reaches) == ("", ())


def test_rabbitmq_with_tls_alone_shows_its_certificate(rabbitmq_tls):
    facts = asked(rabbitmq_tls.url)

    assert facts.plaintext is False
    assert facts.certificate
    assert facts.old_tls is False
    assert facts.version


def test_a_server_that_is_not_there_has_an_error_and_every_check_of_it_is_unchecked():
    port = free_port()
    conf = Conf({})
    conf.update(broker_url=f"redis://127.0.0.1:{port}")
    scene = look(conf.settings(), clock=SystemClock(), environ={})

    verdicts = {one.check.id: one for one in examine(scene, select(groups=["broker"]))}

    for one in ("BRK-02", "BRK-06", "RED-02", "RED-03", "RED-04", "RED-05"):
        assert verdicts[one].state is State.UNCHECKED
        assert "Connection refused" in verdicts[one].evidence[0]
