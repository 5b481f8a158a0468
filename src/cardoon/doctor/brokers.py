"""Checks of the way to the servers, by the settings and by what the servers answer to anybody."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cardoon.doctor.advisories import SERVERS, is_older
from cardoon.doctor.check import Severity, check
from cardoon.doctor.scene import NotApplicableError, Scene, UncheckedError
from cardoon.doctor.server_facts import ServerFacts
from cardoon.doctor.sockets import listeners

_URLS = ("broker_url", "result_backend")
_MONTH = 30 * 86_400
_COMMON = {
    ("guest", "guest"),
    ("admin", "admin"),
    ("user", "password"),
    ("postgres", "postgres"),
    ("default", "redis"),
    ("default", "password"),
    ("cardoon", "cardoon"),
    ("celery", "celery"),
}
_MANAGEMENT = {
    4369: "epmd",
    15672: "RabbitMQ's management",
    15692: "RabbitMQ's metrics",
    25672: "RabbitMQ's distribution",
    16379: "the bus of a Redis cluster",
}


def asked(scene: Scene, *kinds: str) -> list[ServerFacts]:
    """Those servers of these kinds that answered; of all kinds if none is named. BRK-12 tells of the others."""
    wanted = {one.kind for one in scene.endpoints(*_URLS)}
    if "redis" in kinds and "sentinel" in wanted:
        raise UncheckedError("servers behind sentinels are not asked; name one with -b")
    if kinds and not set(kinds) & wanted:
        raise NotApplicableError(f"no server of the kind {kinds[0]} is used")
    found = [one for one in scene.servers() if not kinds or one.kind in kinds]
    answered = [one for one in found if not one.error]
    if not answered:
        raise UncheckedError("; ".join(f"{one.place}: {one.error}" for one in found) or "nobody")
    return answered


def known(answers: Sequence[tuple[ServerFacts, bool | None]]) -> Iterator[ServerFacts]:
    """Those of which it is so; `UncheckedError` if it was not found out of one."""
    for server, answer in answers:
        if answer is None:
            raise UncheckedError(f"{server.place}: it was not found out")
        if answer:
            yield server


@check(
    "BRK-01",
    Severity.CRITICAL,
    "encryption on the way to the broker",
    looks_at="broker_url, result_backend, broker_use_ssl, unsafe_allow_plaintext_broker",
    remedy="rediss://, amqps:// or sslmode=verify-full; unsafe_allow_plaintext_broker = False",
)
def plaintext(scene: Scene) -> Iterator[str]:
    """Who is on the way reads passwords and tasks."""
    for one in scene.endpoints(*_URLS):
        if one.tls is None and not one.is_local:
            yield f"{one} is reached without TLS"


@check(
    "BRK-02",
    Severity.CRITICAL,
    "a password for the broker",
    looks_at="whether the servers obey who shows none",
    remedy="Redis: `user default off`; PostgreSQL: no `trust` in pg_hba.conf; RabbitMQ: no ANONYMOUS",
)
def no_password(scene: Scene) -> Iterator[str]:
    """Every process on every host that reaches the port is a client."""
    for one in known([(one, one.open_to_all) for one in asked(scene)]):
        yield f"{one.place} obeys without a password"


@check(
    "BRK-03",
    Severity.CRITICAL,
    "accounts that everybody knows",
    looks_at="name and password in the URLs; RabbitMQ's guest",
    remedy="rabbitmqctl delete_user guest; a user of its own with a password of 32 random characters",
)
def known_accounts(scene: Scene) -> Iterator[str]:
    """They are tried first."""
    for one in scene.endpoints(*_URLS):
        who = (one.username or "default", one.password)
        if who in _COMMON or (one.password and one.password == one.username):
            yield f"{one}: the password of {who[0]!r} is one that everybody knows"
    for server in scene.servers():
        if server.guest:
            yield f"{server.place} lets guest in with the password guest"


@check(
    "BRK-04",
    Severity.HIGH,
    "certificates of the servers",
    looks_at="what the servers show: its end, key and signature",
    remedy="have the server's authority issue a new one, with P-256 or RSA of 2048 bits and SHA-256",
)
def server_certificates(scene: Scene) -> Iterator[str]:
    """One that has ended is one that people learn to ignore."""
    found = [one for one in asked(scene) if one.certificate]
    if not found:
        raise NotApplicableError("no server shows a certificate")
    for one in found:
        for wrong in _judge(one.certificate, scene.now):
            yield f"{one.place}: {wrong}"


def _judge(der: bytes, now: float) -> Iterator[str]:
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        hashed = certificate.signature_hash_algorithm
    except ValueError as error:
        raise UncheckedError(f"the certificate cannot be read: {error}") from error
    left = certificate.not_valid_after_utc.timestamp() - now
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if left < 0:
        yield f"ended at {certificate.not_valid_after_utc:%Y-%m-%d}"
    elif left < min(_MONTH, life / dt.timedelta(seconds=5)):
        yield f"ends at {certificate.not_valid_after_utc:%Y-%m-%d}"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        yield f"RSA of {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < 256:
        yield f"a curve of {key.key_size} bits"
    if hashed is not None and hashed.name in {"sha1", "md5"}:
        yield f"is signed with {hashed.name}"


@check(
    "BRK-05",
    Severity.HIGH,
    "old versions of TLS",
    looks_at="whether the servers agree to TLS 1.1",
    remedy='Redis: tls-protocols "TLSv1.2 TLSv1.3"; PostgreSQL: ssl_min_protocol_version; '
    "RabbitMQ: ssl_options.versions",
)
def old_tls(scene: Scene) -> Iterator[str]:
    """It has been broken."""
    found = [one for one in asked(scene) if one.certificate or one.old_tls is not None]
    if not found:
        raise NotApplicableError("no server speaks TLS")
    for one in known([(one, one.old_tls) for one in found]):
        yield f"{one.place} agrees to TLS 1.1"


@check(
    "BRK-06",
    Severity.HIGH,
    "certificates of clients",
    looks_at="whether the servers let in who shows none",
    remedy="Redis: tls-auth-clients yes; PostgreSQL: clientcert=verify-full; RabbitMQ: "
    "fail_if_no_peer_cert = true",
)
def client_certificates(scene: Scene) -> Iterator[str]:
    """A password that leaks is enough otherwise."""
    found = [one for one in asked(scene) if one.demands_certificate is not None]
    if not found:
        raise NotApplicableError("no server speaks TLS")
    for one in found:
        if not one.demands_certificate:
            yield f"{one.place} talks to clients without a certificate"


@check(
    "BRK-07",
    Severity.HIGH,
    "verification of the servers",
    looks_at="ssl_cert_reqs, ssl_check_hostname, sslmode, unsafe_allow_unverified_tls",
    remedy="sslmode=verify-full, or ssl_cert_reqs=required with ssl_ca_certs=FILE",
)
def unverified(scene: Scene) -> Iterator[str]:
    """Whoever is on the way can be the server."""
    endpoints = scene.endpoints(*_URLS)
    for one in endpoints:
        if one.tls is not None and not one.tls.verify:
            yield f"{one}: its certificate is not verified"
        elif one.tls is not None and not one.tls.check_hostname:
            yield f"{one}: its name is not verified"
    if scene.settings.unsafe_allow_unverified_tls:
        yield "unsafe_allow_unverified_tls is on"


@check(
    "BRK-08",
    Severity.HIGH,
    "plain text at the servers",
    looks_at="whether the servers talk to who speaks no TLS",
    remedy="Redis: port 0; PostgreSQL: hostssl alone; RabbitMQ: listeners.tcp = none",
)
def plain_port(scene: Scene) -> Iterator[str]:
    """A client that is set up wrongly is not noticed, and others listen."""
    distant = [one for one in asked(scene) if not one.is_local]
    if not distant:
        raise NotApplicableError("the servers are on this host")
    for one in known([(one, one.plaintext) for one in distant]):
        yield f"{one.place} answers in plain text"


@check(
    "BRK-09",
    Severity.HIGH,
    "addresses that the broker listens on",
    looks_at="/proc/net/tcp: the port of the broker, if it is on this host",
    remedy="Redis: bind 127.0.0.1; RabbitMQ: listeners.ssl.1 = ADDRESS:5671; PostgreSQL: listen_addresses",
)
def bound_everywhere(scene: Scene) -> Iterator[str]:
    """A port that only this host uses is open to all others."""
    ports = {one.port for one in scene.endpoints(*_URLS) if one.is_local and not one.socket}
    if not ports:
        raise NotApplicableError("the servers are on other hosts")
    for one in listeners(scene):
        if one.port in ports and one.is_everywhere:
            yield f"{one} listens on every address"


@check(
    "BRK-10",
    Severity.HIGH,
    "ports of management",
    looks_at="/proc/net/tcp: 4369, 15672, 15692, 16379, 25672",
    remedy="management.tcp.ip = 127.0.0.1; ERL_EPMD_ADDRESS=127.0.0.1; a rule of the firewall",
    deploy=True,
)
def management(scene: Scene) -> Iterator[str]:
    """They are ways around the broker's own rights."""
    for one in listeners(scene):
        if one.port in _MANAGEMENT and one.is_exposed:
            yield f"{one} is open ({_MANAGEMENT[one.port]})"


@check(
    "BRK-11",
    Severity.MEDIUM,
    "servers with known faults",
    looks_at="the versions that servers tell, against a small table that Cardoon brings along",
    remedy="upgrade the server; if your distribution has mended it under the old number, waive it",
)
def server_versions(scene: Scene) -> Iterator[str]:
    """Only what the table names is found."""
    found = [one for one in asked(scene) if one.version]
    if not found:
        raise UncheckedError("no server tells its version")
    for one in found:
        for advisory in SERVERS:
            if advisory.name == one.product and is_older(one.version, advisory.fixed_in):
                fixed = advisory.fix_for(one.version)
                yield f"{one.place}: {one.product} {one.version}: {advisory.id}, fixed in {fixed}"


@check(
    "BRK-12",
    Severity.MEDIUM,
    "servers that nothing is known of",
    looks_at="whether each server of the settings answers, and lets our account in",
    remedy="start the server; correct broker_url or result_backend, and their passwords",
)
def silent(scene: Scene) -> Iterator[str]:
    """What did not answer may be open to all."""
    scene.endpoints(*_URLS)
    for one in scene.servers():
        if one.error or one.login_error:
            yield f"{one.place}: {one.error or one.login_error}"


CHECKS = (
    plaintext,
    no_password,
    known_accounts,
    server_certificates,
    old_tls,
    client_certificates,
    unverified,
    plain_port,
    bound_everywhere,
    management,
    server_versions,
    silent,
)
