"""Keys and certificates that something else made, in all the forms that people have them in."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from cardoon.exceptions import SecurityError
from cardoon.security.authority import paths_of
from cardoon.security.identity import load_identity
from cardoon.security.importing import import_identity, read_bundle
from cardoon.security.issuing import encode_key
from cardoon.security.renewing import next_paths
from cardoon.testing import FakeClock
from tests.security.actors import (
    DAY,
    ed25519_key,
    make_authority,
    make_member,
    make_person,
    p256_key,
    rsa_key,
    write,
)

SECRET = b"correct horse"
TOP = make_authority("top")
BETWEEN = make_authority("between", issuer=TOP)
KEYS = {"ed25519": ed25519_key(7), "p256": p256_key(7), "rsa": rsa_key()}


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def paths(tmp_path):
    return paths_of(tmp_path / "state", "web")


def pem(key, form=PrivateFormat.PKCS8, password=None):
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption)


def give(folder, name, *contents):
    return write(folder, name, b"".join(contents), mode=0o600)


@pytest.mark.parametrize("password", [None, SECRET], ids=["plain", "encrypted"])
@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("ed25519", PrivateFormat.PKCS8),
        ("p256", PrivateFormat.PKCS8),
        ("p256", PrivateFormat.TraditionalOpenSSL),  # SEC1
        ("rsa", PrivateFormat.PKCS8),
        ("rsa", PrivateFormat.TraditionalOpenSSL),  # PKCS#1
    ],
)
def test_every_form_of_key_is_taken(tmp_path, paths, clock, kind, form, password):
    web = make_member(TOP, "web", key=KEYS[kind])
    source = give(tmp_path, "web.pem", web.pem, pem(web.key, form, password))

    bundle = read_bundle([source], password)
    taken = import_identity(bundle, paths, clock=clock, password=password, key_password=password)

    assert bundle.was_encrypted is (password is not None)
    loaded = load_identity(*paths, password=password)
    assert loaded.identity == taken.identity == web.private().identity
    assert paths.key.stat().st_mode & 0o777 == 0o600
    assert (b"ENCRYPTED" in paths.key.read_bytes()) is (password is not None)
    assert taken.remark == ""


@pytest.mark.parametrize("password", [None, SECRET], ids=["plain", "encrypted"])
def test_a_pkcs12_store_is_taken_with_its_chain(tmp_path, paths, clock, password):
    web = make_member(BETWEEN, "web", key=KEYS["p256"])
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    content = pkcs12.serialize_key_and_certificates(
        b"web", web.key, web.certificate, [TOP.certificate, BETWEEN.certificate], encryption
    )
    source = give(tmp_path, "web.p12", content)

    import_identity(read_bundle([source], password), paths, clock=clock)

    loaded = load_identity(*paths)
    assert loaded.certificate == web.der
    assert loaded.chain == (BETWEEN.der,), "anchors are the receivers' own"


def test_der_files_are_taken(tmp_path, paths, clock):
    web = make_member(TOP, "web")
    der = web.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    sources = [give(tmp_path, "web.key", der), give(tmp_path, "web.crt", web.der)]

    import_identity(read_bundle(sources), paths, clock=clock)

    assert load_identity(*paths).certificate == web.der


def test_the_chain_is_put_in_order(tmp_path, paths, clock):
    web = make_member(BETWEEN, "web")
    source = give(tmp_path, "all.pem", TOP.pem, BETWEEN.pem, pem(web.key), web.pem, BETWEEN.pem)

    import_identity(read_bundle([source]), paths, clock=clock)

    assert load_identity(*paths).chain == (BETWEEN.der,)


def test_a_certificate_meets_the_key_of_its_request(tmp_path, paths, clock):
    paths.key.parent.mkdir(mode=0o700)
    write(paths.key.parent, "web.key", encode_key(KEYS["ed25519"], SECRET), mode=0o600)
    web = make_member(TOP, "web", key=KEYS["ed25519"])
    source = write(tmp_path, "answer.pem", web.pem)

    import_identity(read_bundle([source]), paths, clock=clock, password=SECRET)

    assert load_identity(*paths, password=SECRET).certificate == web.der


def test_a_renewed_certificate_replaces_the_old_one_with_its_key(tmp_path, paths, clock):
    old = make_member(TOP, "web", key=KEYS["p256"])
    import_identity(
        read_bundle([give(tmp_path, "old.pem", old.pem, pem(old.key))]), paths, clock=clock
    )
    write(paths.key.parent, "web.next.key", encode_key(KEYS["ed25519"]), mode=0o600)
    new = make_member(TOP, "web", key=KEYS["ed25519"])

    taken = import_identity(read_bundle([write(tmp_path, "new.pem", new.pem)]), paths, clock=clock)

    assert load_identity(*paths).identity == taken.identity
    assert not next_paths(paths).key.exists()


def test_a_certificate_can_be_renewed_for_the_same_key(tmp_path, paths, clock):
    old = make_member(TOP, "web", key=KEYS["p256"])
    import_identity(
        read_bundle([give(tmp_path, "old.pem", old.pem, pem(old.key))]), paths, clock=clock
    )
    new = make_member(TOP, "web", key=KEYS["p256"], ends=700 * DAY)

    import_identity(read_bundle([write(tmp_path, "new.pem", new.pem)]), paths, clock=clock)

    assert load_identity(*paths).certificate == new.der


def test_the_key_of_a_request_under_way_is_not_lost(tmp_path, paths, clock):
    paths.key.parent.mkdir(mode=0o700)
    waiting = write(paths.key.parent, "web.next.key", encode_key(KEYS["ed25519"]), mode=0o600)
    before = waiting.read_bytes()
    web = make_member(TOP, "web", key=KEYS["p256"])

    with pytest.raises(SecurityError, match="a request or a renewal that has not ended"):
        import_identity(
            read_bundle([give(tmp_path, "a.pem", web.pem, pem(web.key))]), paths, clock=clock
        )

    assert waiting.read_bytes() == before


def test_it_is_pinned_where_asked_for(tmp_path, paths, clock):
    (tmp_path / "trusted").mkdir(mode=0o700)
    web = make_member(TOP, "web")
    bundle = read_bundle([give(tmp_path, "a.pem", web.pem, pem(web.key))])

    taken = import_identity(bundle, paths, clock=clock, trusted=tmp_path / "trusted")

    assert taken.trusted.read_bytes() == web.pem


def test_a_certificate_that_is_only_good_as_a_pin_is_remarked_on(tmp_path, paths, clock):
    """As `openssl req -x509` makes them, and Celery's users have them."""
    own = make_authority("celery", key=KEYS["rsa"])
    bundle = read_bundle([give(tmp_path, "a.pem", own.pem, pem(own.key))])

    taken = import_identity(bundle, paths, clock=clock)

    assert "it can only be trusted as a pin" in taken.remark


WEB = make_member(TOP, "web")
OTHER = make_member(TOP, "other", key=KEYS["p256"])


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ([WEB.pem], "no private key for this certificate"),
        ([pem(WEB.key)], "no certificate for this key among the 0 given"),
        ([WEB.pem, pem(OTHER.key)], "no certificate for this key among the 1 given"),
        ([WEB.pem, pem(WEB.key), pem(OTHER.key)], "2 private keys in what was given"),
        ([WEB.pem, pem(WEB.key), OTHER.pem], "not on the way from"),
        ([make_member(TOP, "web", ends=-1).pem, pem(WEB.key)], "has expired"),
        ([make_person("web", key=rsa_key(1024)).pem, pem(rsa_key(1024))], "RSA of 1024 bits"),
        ([WEB.pem, pem(WEB.key, password=SECRET)], "its key is encrypted; say where"),
        ([b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"], "no private key"),
        ([b""], "neither PEM, DER nor PKCS#12"),
        ([b"\x30\x82" + b"x" * 50], "neither PEM, DER nor PKCS#12"),
    ],
)
def test_what_does_not_fit_changes_nothing(tmp_path, paths, clock, contents, said):
    with pytest.raises(SecurityError, match=said):
        import_identity(read_bundle([give(tmp_path, "a.pem", *contents)]), paths, clock=clock)

    assert not paths.key.exists()
    assert not paths.certificate.exists()


@pytest.mark.parametrize("form", ["pem", "p12"])
def test_a_wrong_password_opens_nothing(tmp_path, form):
    encryption = BestAvailableEncryption(SECRET)
    content = (
        pem(WEB.key, password=SECRET)
        if form == "pem"
        else pkcs12.serialize_key_and_certificates(
            b"web", WEB.key, WEB.certificate, None, encryption
        )
    )

    with pytest.raises(SecurityError, match="wrong password") as refused:
        read_bundle([give(tmp_path, "a", content)], b"guess")

    assert "guess" not in str(refused.value)


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_a_key_that_others_can_read_is_not_taken(tmp_path, encoding):
    key = WEB.key.private_bytes(encoding, PrivateFormat.PKCS8, NoEncryption())
    source = write(tmp_path, "web.key", key, mode=0o644)

    with pytest.raises(SecurityError, match="chmod 600"):
        read_bundle([source])
