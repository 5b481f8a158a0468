"""Identities: their names, and how they are loaded."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.serialization import PrivateFormat

from cardoon.exceptions import SecurityError
from cardoon.security import identity
from cardoon.security.identity import identify, is_spiffe_id, load_identity
from cardoon.security.keys import Algorithm
from tests.security.actors import (
    DAY,
    START,
    ed25519_key,
    make_authority,
    make_member,
    make_person,
    p256_key,
    rsa_key,
    write,
)


def pem_of(key, *, form=PrivateFormat.PKCS8, password=None):
    protection = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, form, protection)


def write_pair(folder, person, *, key=None, more=b"", **options):
    key_path = write(folder, "client.key", pem_of(key or person.key, **options), mode=0o600)
    return key_path, write(folder, "client.pem", person.pem + more)


@pytest.mark.parametrize(
    ("key", "form", "algorithm"),
    [
        (ed25519_key(), PrivateFormat.PKCS8, Algorithm.ED25519),
        (p256_key(), PrivateFormat.PKCS8, Algorithm.ESP256),
        (p256_key(), PrivateFormat.TraditionalOpenSSL, Algorithm.ESP256),
        (rsa_key(), PrivateFormat.PKCS8, Algorithm.PS256),
        (rsa_key(), PrivateFormat.TraditionalOpenSSL, Algorithm.PS256),
    ],
)
def test_keys_are_loaded_in_every_form(tmp_path, key, form, algorithm):
    person = make_person(key=key)

    loaded = load_identity(*write_pair(tmp_path, person, form=form))

    assert loaded.identity == identify(person.certificate)
    assert loaded.certificate == person.der
    assert loaded.chain == ()
    assert loaded.algorithm is algorithm


@pytest.mark.parametrize("password", ["secret", b"secret", lambda: "secret", lambda: b"secret"])
def test_an_encrypted_key_is_loaded_with_its_password(tmp_path, password):
    person = make_person()
    paths = write_pair(tmp_path, person, password=b"secret")

    assert load_identity(*paths, password=password).certificate == person.der


@pytest.mark.parametrize(
    ("password", "what"),
    [(None, "set security_key_password"), ("wrong", "a wrong password"), ("", "password")],
)
def test_an_encrypted_key_is_not_loaded_without_it(tmp_path, password, what):
    paths = write_pair(tmp_path, make_person(), password=b"secret")

    with pytest.raises(SecurityError, match=what):
        load_identity(*paths, password=password)


def test_a_password_that_is_not_needed_is_refused(tmp_path):
    paths = write_pair(tmp_path, make_person())

    with pytest.raises(SecurityError, match="leave the password out"):
        load_identity(*paths, password="secret")


def test_the_digest_is_chosen_for_an_rsa_key(tmp_path):
    paths = write_pair(tmp_path, make_person(key=rsa_key()))

    assert load_identity(*paths, digest="sha512").algorithm is Algorithm.PS512
    with pytest.raises(SecurityError, match="security_digest"):
        load_identity(*paths, digest="sha1")


def test_the_certificates_behind_the_first_are_its_chain(tmp_path):
    authority = make_authority()
    person = make_member(authority)

    loaded = load_identity(*write_pair(tmp_path, person, more=authority.pem))

    assert loaded.chain == (authority.der,)


@pytest.mark.parametrize("other", [ed25519_key(9), p256_key()])
def test_a_key_of_another_certificate_is_refused(tmp_path, other):
    paths = write_pair(tmp_path, make_person(), key=other)

    with pytest.raises(SecurityError, match="not the key of the certificate"):
        load_identity(*paths)


def test_a_key_that_we_do_not_take_is_refused(tmp_path):
    paths = write_pair(tmp_path, make_person(), key=ed448.Ed448PrivateKey.generate())

    with pytest.raises(SecurityError, match="type Ed448"):
        load_identity(*paths)


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\n!\n"])
def test_files_that_hold_something_else_are_refused(tmp_path, content):
    key_path, certificate_path = write_pair(tmp_path, make_person())
    write(tmp_path, "other", content, mode=0o600)

    with pytest.raises(SecurityError, match="no private key in PEM form"):
        load_identity(tmp_path / "other", certificate_path)
    with pytest.raises(SecurityError, match="no certificate in PEM form"):
        load_identity(key_path, tmp_path / "other")


def test_an_identity_shows_no_key(tmp_path):
    loaded = load_identity(*write_pair(tmp_path, make_person("alice")))

    fingerprint = loaded.identity.fingerprint.hex()
    assert repr(loaded.identity) == f"<Identity CN=alice sha256:{fingerprint[:16]}>"
    assert repr(loaded) == f"<PrivateIdentity <Identity CN=alice sha256:{fingerprint[:16]}>>"


def test_an_identity_knows_its_period():
    found = identify(make_person(begins=-DAY, ends=DAY).certificate)

    assert (found.not_before, found.not_after) == (
        START.timestamp() - DAY,
        START.timestamp() + DAY,
    )


@pytest.mark.parametrize(
    ("uris", "name"),
    [
        ((), "CN=alice"),
        (("spiffe://acme.example/web",), "spiffe://acme.example/web"),
        (("spiffe://acme.example/web", "spiffe://acme.example/ops"), "CN=alice"),
        (("https://acme.example/web",), "CN=alice"),
        (("spiffe://acme.example",), "CN=alice"),
    ],
)
def test_the_name_is_the_spiffe_id_or_the_subject(uris, name):
    assert identify(make_person("alice", uris=uris).certificate).name == name


@pytest.mark.parametrize("subject", ["a\nb", "\x1b[31mred", "spiffe\u2028"])
def test_a_subject_that_could_deceive_a_reader_is_no_name(subject):
    person = make_person(subject)

    assert identify(person.certificate).name == f"sha256:{person.fingerprint.hex()}"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("spiffe://acme.example/web", True),
        ("spiffe://acme/ns/prod/sa/web-1", True),
        ("spiffe://acme/..web", True),
        ("spiffe://acme", False),
        ("spiffe://acme/", False),
        ("spiffe://acme//web", False),
        ("spiffe://acme/web/", False),
        ("spiffe://acme/./web", False),
        ("spiffe://acme/../web", False),
        ("spiffe://acme/..", False),
        ("spiffe://ACME/web", False),
        ("SPIFFE://acme/web", False),
        ("spiffe://user@acme/web", False),
        ("spiffe://acme:80/web", False),
        ("spiffe://acme/web?x", False),
        ("spiffe://acme/web#x", False),
        ("spiffe://acme/w%65b", False),
        ("spiffe://acme/wéb", False),
        ("spiffe://acme/web\n", False),
        ("spiffe:///web", False),
        ("spiffe://acme/" + "w" * 2035, False),
        ("", False),
    ],
)
def test_only_whole_spiffe_ids_are_spiffe_ids(uri, expected):
    assert is_spiffe_id(uri) is expected


def test_one_certificate_is_loaded_and_two_are_not(tmp_path):
    alice, bob = make_person("alice"), make_person("bob")
    write(tmp_path, "one.pem", alice.pem)
    write(tmp_path, "two.pem", alice.pem + bob.pem)

    assert identity.load_certificate(tmp_path / "one.pem") == alice.certificate
    with pytest.raises(SecurityError, match="2 certificates; keep one in each file"):
        identity.load_certificate(tmp_path / "two.pem")
