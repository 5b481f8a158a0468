"""From a URL and the settings to servers, and to what they have to show."""

from __future__ import annotations

import ssl

import pytest

from cardoon.endpoints import Access, Tls, addresses_of, parse_endpoints
from cardoon.exceptions import ImproperlyConfigured
from tests.servers.ground import Authority


def parse(url, **access):
    return parse_endpoints(url, setting="broker_url", access=Access(**access))


def parse_one(url, **access):
    (endpoint,) = parse(url, **access)
    return endpoint


def refused(url, **access):
    with pytest.raises(ImproperlyConfigured) as caught:
        parse(url, **access)
    assert "secret" not in str(caught.value)
    return str(caught.value)


def test_a_url_has_all_that_is_needed():
    endpoint = parse_one("rediss://me:p%40ss%3A@cache.example:6380/2?client=x")

    assert (endpoint.kind, endpoint.host, endpoint.port) == ("redis", "cache.example", 6380)
    assert (endpoint.username, endpoint.password, endpoint.path) == ("me", "p@ss:", "2")
    assert endpoint.options == {"client": "x"}
    assert endpoint.tls == Tls()
    assert str(endpoint) == "cache.example:6380"
    assert "p@ss" not in repr(endpoint)


@pytest.mark.parametrize(
    ("url", "kind", "port"),
    [
        ("redis://localhost", "redis", 6379),
        ("valkey://localhost", "redis", 6379),
        ("sentinel://localhost", "sentinel", 26379),
        ("amqp://127.0.0.1", "amqp", 5672),
        ("pyamqp://[::1]", "amqp", 5672),
        ("amqps://far.example", "amqp", 5671),
        ("postgresql://localhost/shop", "postgresql", 5432),
        ("db+postgresql://localhost/shop", "postgresql", 5432),
    ],
)
def test_every_kind_of_server_has_its_port(url, kind, port):
    endpoint = parse_one(url)

    assert (endpoint.kind, endpoint.port) == (kind, port)


def test_several_servers_are_tried_in_their_order():
    found = parse("redis://localhost:1;redis://localhost:2; redis://localhost:3")

    assert [one.port for one in found] == [1, 2, 3]


@pytest.mark.parametrize(
    ("url", "socket", "path"),
    [
        ("redis+socket:///run/redis.sock?virtual_host=3", "/run/redis.sock", "3"),
        ("postgresql://me@%2Frun%2Fpostgresql/shop", "/run/postgresql", "shop"),
        ("postgresql:///shop?host=/run/postgresql", "/run/postgresql", "shop"),
    ],
)
def test_a_unix_socket_is_a_way_as_well(url, socket, path):
    endpoint = parse_one(url)

    assert (endpoint.socket, endpoint.path) == (socket, path)
    assert endpoint.is_local


@pytest.mark.parametrize("host", ["far.example", "10.1.2.3", "[2001:db8::1]", "127.0.0.1.example"])
@pytest.mark.parametrize("scheme", ["redis", "amqp", "postgresql", "sentinel"])
def test_plain_text_to_another_host_is_refused(scheme, host):
    message = refused(f"{scheme}://me:secret@{host}/0")

    assert "plain text" in message
    assert "unsafe_allow_plaintext_broker" in message


def test_plain_text_to_another_host_may_be_allowed():
    assert parse_one("redis://far.example", allow_plaintext=True).tls is None


def test_tls_may_be_asked_for_by_setting():
    asked = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "me.pem", "ssl_keyfile": "me.key"}

    endpoint = parse_one("redis://far.example", use_ssl={**asked, "ssl_cert_reqs": 2})

    assert endpoint.tls == Tls(ca="ca.pem", certificate="me.pem", key="me.key")
    assert parse_one("amqp://far.example", use_ssl=True).tls == Tls()
    assert parse_one("amqp://far.example", use_ssl=True).port == 5671


@pytest.mark.parametrize(
    ("options", "tls"),
    [
        ("sslmode=verify-full&sslrootcert=ca.pem", Tls(ca="ca.pem")),
        ("sslmode=verify-ca&sslrootcert=ca.pem", Tls(ca="ca.pem", check_hostname=False)),
    ],
)
def test_tls_may_be_asked_for_by_options_of_the_url(options, tls):
    assert parse_one(f"postgresql://far.example/shop?{options}").tls == tls


@pytest.mark.parametrize(
    "url",
    [
        "rediss://far.example?ssl_cert_reqs=none",
        "rediss://far.example?ssl_cert_reqs=CERT_NONE",
        "postgresql://far.example/shop?sslmode=require",
    ],
)
def test_a_server_that_shows_nothing_is_refused(url):
    assert "unsafe_allow_unverified_tls" in refused(url)

    tls = parse_one(url, allow_unverified=True).tls
    assert tls is not None
    assert not tls.verify


def test_a_bare_sslmode_is_as_plain_as_none():
    assert "plain text" in refused("postgresql://far.example/shop?sslmode=prefer")


@pytest.mark.parametrize(
    ("url", "access", "said"),
    [
        ("redis://localhost;amqp://localhost", {}, "of one kind; it has redis, amqp"),
        ("redis://me:secret@localhost:port", {}, "the port is not a number"),
        ("redis://localhost?secret", {}, "name=value"),
        ("redis://localhost;secret", {}, "every server needs a whole URL"),
        (" ; ", {}, "names no server"),
        (
            "postgresql://localhost/x?sslmode=verify",
            {},
            "unknown sslmode 'verify'; use verify-full",
        ),
        ("redis://localhost?ssl_ca_certs=ca.pem", {}, "but asks for no TLS"),
        ("rediss://localhost?ssl_cert_reqs=perhaps", {}, "unknown ssl_cert_reqs 'perhaps'"),
        ("rediss://localhost", {"use_ssl": {"ca": "x"}}, "have an unknown 'ca'; use ca_certs"),
    ],
)
def test_what_is_wrong_is_said(url, access, said):
    assert said in refused(url, **access)


def test_what_a_context_asks_of_the_server(tmp_path):
    authority = Authority(tmp_path)
    pair = authority.issue("me")

    context = Tls(
        ca=str(authority.file), certificate=str(pair.certificate), key=str(pair.key)
    ).context()
    lenient = Tls(ca=str(authority.file), verify=False).context()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert lenient.verify_mode is ssl.CERT_NONE


def test_files_that_are_no_certificates_are_told(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(ImproperlyConfigured, match=r"TLS: cannot use .*ca\.pem"):
        Tls(ca=str(tmp_path / "ca.pem")).context()


def test_the_addresses_of_servers_are_known_whatever_may_be_trusted() -> None:
    found = addresses_of(
        "redis://one.example;rediss://two.example:7000",
        "postgresql://db.example/x",
        "sqlite:///file",
        "redis+socket:///run/redis.sock",
        "",
    )

    assert found == (("one.example", 6379), ("two.example", 7000), ("db.example", 5432))
