"""Making identities: what they are, and that nothing is ever overwritten."""

from __future__ import annotations

import multiprocessing
import os
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from cardoon.exceptions import SecurityError
from cardoon.message.protocol import Kind
from cardoon.security.authority import YEAR, create_authority, ensure_identity, issue
from cardoon.security.chains import SIGNER_USAGE
from cardoon.security.gate import Gate
from cardoon.security.identity import load_certificate, load_identity
from cardoon.security.signing import MessageSigner
from cardoon.security.trust import TrustStore
from cardoon.testing import FakeClock
from tests.security.actors import DOMAIN, START, draft, make_gate, make_person, rsa_key


@pytest.fixture
def clock():
    return FakeClock()


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def contents_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_identity_is_made_for_its_user_alone(tmp_path, clock):
    folder = tmp_path / "state" / "app"

    paths = ensure_identity(folder, "client", clock=clock)

    assert paths == (folder / "client.key", folder / "client.pem")
    assert mode_of(folder) == mode_of(folder / "trusted") == 0o700
    assert mode_of(paths.key) == 0o600
    assert mode_of(paths.certificate) == mode_of(folder / "trusted" / "client.pem") == 0o644
    assert sorted(contents_of(folder)) == sorted([*paths, folder / "trusted" / "client.pem"])


def test_an_identity_is_a_self_signed_signer(tmp_path, clock):
    paths = ensure_identity(tmp_path, "client", clock=clock, lifetime=YEAR)

    loaded = load_identity(*paths)
    certificate = load_certificate(paths.certificate)

    assert isinstance(loaded.key, ed25519.Ed25519PrivateKey)
    assert loaded.identity.name == "CN=client"
    assert loaded.identity.not_before == START.timestamp() - 300
    assert loaded.identity.not_after == START.timestamp() + YEAR
    assert certificate.issuer == certificate.subject
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(usage.value) == [SIGNER_USAGE]


def test_identities_of_one_folder_trust_each_other(tmp_path, clock):
    client = load_identity(*ensure_identity(tmp_path, "client", clock=clock))
    gate = make_gate(tmp_path / "trusted", clock)
    worker = load_identity(*ensure_identity(tmp_path, "worker", clock=clock))

    for identity in (client, worker):
        [signed] = MessageSigner(identity, domain=DOMAIN, clock=clock).sign([draft()])
        assert gate.open(signed.frame, kind=Kind.TASK).signer == identity.identity


def test_an_identity_that_is_there_is_kept(tmp_path, clock):
    first = ensure_identity(tmp_path, "client", clock=clock)
    before = contents_of(tmp_path)

    assert ensure_identity(tmp_path, "client", clock=clock) == first
    assert contents_of(tmp_path) == before


def is_trusted(folder, paths, clock):
    [signed] = MessageSigner(load_identity(*paths), domain=DOMAIN, clock=clock).sign([draft()])
    return make_gate(folder / "trusted", clock).open(signed.frame, kind=Kind.TASK)


@pytest.mark.parametrize("lost", ["client.pem", "trusted/client.pem"])
def test_what_is_missing_is_made_from_what_is_there(tmp_path, clock, lost):
    paths = ensure_identity(tmp_path, "client", clock=clock)
    before = contents_of(tmp_path)
    (tmp_path / lost).unlink()

    ensure_identity(tmp_path, "client", clock=clock)

    assert contents_of(tmp_path) == before
    assert is_trusted(tmp_path, paths, clock)


@pytest.mark.parametrize(
    "lost", [("client.key", "client.pem"), ("client.pem", "trusted/client.pem")]
)
def test_what_is_lost_for_good_is_made_anew(tmp_path, clock, lost):
    paths = ensure_identity(tmp_path, "client", clock=clock)
    before = paths.certificate.read_bytes()
    for name in lost:
        (tmp_path / name).unlink()

    ensure_identity(tmp_path, "client", clock=clock)

    assert paths.certificate.read_bytes() != before
    assert is_trusted(tmp_path, paths, clock)


def test_an_expired_certificate_is_renewed_when_it_is_removed(tmp_path, clock):
    paths = ensure_identity(tmp_path, "client", clock=clock, lifetime=60)
    clock.advance(61)
    with pytest.raises(SecurityError, match="expired"):
        is_trusted(tmp_path, paths, clock)
    paths.certificate.unlink()

    ensure_identity(tmp_path, "client", clock=clock)

    assert is_trusted(tmp_path, paths, clock)
    assert len(list((tmp_path / "trusted").iterdir())) == 2, "the earlier one may stay or go"


@pytest.mark.parametrize("key", [rsa_key(), ec.generate_private_key(ec.SECP256R1())])
def test_a_key_of_another_kind_is_used_as_well(tmp_path, clock, key):
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "client.key").write_bytes(pem)
    (tmp_path / "client.key").chmod(0o600)

    paths = ensure_identity(tmp_path, "client", clock=clock)

    assert load_identity(*paths).key.private_numbers() == key.private_numbers()


def _ensure(folder, start, sending):
    start.wait()
    paths = ensure_identity(folder, "client", clock=FakeClock())
    sending.send_bytes(load_identity(*paths).certificate)


def test_processes_that_begin_at_once_end_up_with_one_identity(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    pipes = [context.Pipe(duplex=False) for _ in range(4)]
    processes = [
        context.Process(target=_ensure, args=(tmp_path, start, sending)) for _, sending in pipes
    ]
    for process in processes:
        process.start()

    certificates = {receiving.recv_bytes() for receiving, _ in pipes}

    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(certificates) == 1
    assert not list(tmp_path.rglob(".new-*"))


@pytest.mark.parametrize(
    "role", ["", ".", "..", "../client", "a/b", ".hidden", "a b", "ä", "r" * 64]
)
def test_a_role_is_a_plain_name(tmp_path, clock, role):
    with pytest.raises(SecurityError, match="use up to 63 letters"):
        ensure_identity(tmp_path, role, clock=clock)

    assert contents_of(tmp_path) == {}


def test_a_folder_that_others_may_write_gets_no_identity(tmp_path, clock):
    tmp_path.chmod(0o777)

    with pytest.raises(SecurityError, match="chmod go-w"):
        ensure_identity(tmp_path, "client", clock=clock)

    assert contents_of(tmp_path) == {}


def test_a_folder_that_is_a_file_is_named(tmp_path, clock):
    (tmp_path / "state").write_bytes(b"")

    with pytest.raises(SecurityError, match="state: cannot be written: File exists"):
        ensure_identity(tmp_path / "state", "client", clock=clock)


def test_a_full_disk_leaves_no_half_a_key(tmp_path, clock, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(SecurityError, match="No space left"):
        ensure_identity(tmp_path, "client", clock=clock)

    assert contents_of(tmp_path) == {}


def test_an_authority_vouches_for_those_it_issues(tmp_path, clock):
    authority = create_authority(tmp_path / "ca", "acme.example", clock=clock)
    paths = issue(tmp_path / "ca", "web", clock=clock, output=tmp_path / "web")
    private = load_identity(*paths)
    trust = TrustStore(anchors={"acme.example": authority.certificate}, clock=clock)
    gate = Gate(domain=DOMAIN, trust=trust, accept=["auth"], clock=clock)
    signer = MessageSigner(private, domain=DOMAIN, clock=clock, send_chain=True)

    [signed] = signer.sign([draft()])

    message = gate.open(signed.frame, kind=Kind.TASK)
    assert message.signer.name == "spiffe://acme.example/web"
    assert paths == (tmp_path / "web" / "web.key", tmp_path / "web" / "web.pem")


def test_an_authority_lies_where_others_are_issued_by_default(tmp_path, clock):
    create_authority(tmp_path, "acme.example", clock=clock)

    assert issue(tmp_path, "web", clock=clock).key == tmp_path / "web.key"
    assert mode_of(tmp_path / "ca.key") == mode_of(tmp_path / "web.key") == 0o600


def test_an_authority_and_what_it_issues_are_kept(tmp_path, clock):
    create_authority(tmp_path, "acme.example", clock=clock)
    issue(tmp_path, "web", clock=clock)
    before = contents_of(tmp_path)

    create_authority(tmp_path, "acme.example", clock=clock)
    issue(tmp_path, "web", clock=clock)

    assert contents_of(tmp_path) == before


def test_nothing_is_issued_for_longer_than_the_authority(tmp_path, clock):
    create_authority(tmp_path, "acme.example", clock=clock, lifetime=YEAR)

    paths = issue(tmp_path, "web", clock=clock, lifetime=5 * YEAR)

    assert load_identity(*paths).identity.not_after == START.timestamp() + YEAR


def test_authorities_of_one_trust_domain_have_names_of_their_own(tmp_path, clock):
    names = {
        load_certificate(
            create_authority(tmp_path / part, "acme.example", clock=clock).certificate
        ).subject
        for part in ("old", "new")
    }

    assert len(names) == 2


def test_an_authority_cannot_change_its_trust_domain(tmp_path, clock):
    create_authority(tmp_path, "acme.example", clock=clock)

    with pytest.raises(SecurityError, match=r"the authority for acme.example, not for other"):
        create_authority(tmp_path, "other.example", clock=clock)


@pytest.mark.parametrize("name", ["", "ACME", "acme/web", "spiffe://acme", "a" * 256, "ä"])
def test_a_trust_domain_is_a_plain_name(tmp_path, clock, name):
    with pytest.raises(SecurityError, match=r"trust domain .* use lower-case letters"):
        create_authority(tmp_path, name, clock=clock)


def test_the_longest_trust_domain_fits(tmp_path, clock):
    create_authority(tmp_path, "a" * 255, clock=clock)

    assert load_identity(*issue(tmp_path, "web", clock=clock))


def test_nobody_is_issued_the_name_of_the_authority(tmp_path, clock):
    create_authority(tmp_path, "acme.example", clock=clock)

    with pytest.raises(SecurityError, match="that is the authority itself"):
        issue(tmp_path, "ca", clock=clock)


def test_nothing_is_issued_without_an_authority(tmp_path, clock):
    with pytest.raises(SecurityError, match=r"ca\.key: cannot be read"):
        issue(tmp_path, "web", clock=clock)


def test_an_authority_that_names_no_trust_domain_issues_nothing(tmp_path, clock):
    create_authority(tmp_path, "acme.example", clock=clock)
    nameless = make_person("ca", key=load_identity(tmp_path / "ca.key", tmp_path / "ca.pem").key)
    (tmp_path / "ca.pem").write_bytes(nameless.pem)

    with pytest.raises(SecurityError, match="names no trust domain"):
        issue(tmp_path, "web", clock=clock)
