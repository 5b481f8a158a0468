"""Keys in a PKCS#11 token, which SoftHSM plays."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from cardoon.exceptions import ImproperlyConfigured, OperationalError, SecurityError
from cardoon.message import envelope
from cardoon.security import keys
from cardoon.security.renewal import OwnIdentity
from cardoon.signers.agent import Agent
from cardoon.signers.exchange import LENGTH, Ask, Status, read_answer, write_request
from cardoon.testing import FakeClock
from tests.security.actors import DOMAIN, ed25519_key, make_person, p256_key, rsa_key, write
from tests.security.spiffe import key_pem
from tests.servers.ground import find_program, lacking

PIN = "4321"
LIBRARIES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
PEOPLE = {
    "ed25519": make_person("ed25519", key=ed25519_key(7)),
    "p256": make_person("p256", key=p256_key(7)),
    "rsa": make_person("rsa", key=rsa_key()),
}

try:
    from cardoon.signers import token as tokens
except ImproperlyConfigured:
    tokens = None


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with a token that holds a key of each kind, and their certificates."""
    library = next((one for one in LIBRARIES if Path(one).exists()), None)
    tool = find_program("softhsm2-util")
    if library is None or tokens is None:
        lacking("softhsm2 or python-pkcs11")
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)  # the library reads it once for the process

    def run(*words):
        subprocess.run([tool, *words], check=True, capture_output=True)

    run("--init-token", "--free", "--label", "shop", "--so-pin", "1234", "--pin", PIN)
    for number, (label, person) in enumerate(PEOPLE.items(), 1):
        key = write(folder, f"{label}.key", key_pem(person.key), mode=0o600)
        run(
            *("--import", str(key), "--token", "shop", "--pin", PIN),
            *("--label", label, "--id", f"{number:02}"),
        )
        write(folder, f"{label}.pem", person.pem)
    return folder, library


def uri(shelf, label, **more):
    parts = {"token": "shop", "object": label, **more}
    path = ";".join(f"{name}={value}" for name, value in parts.items() if value)
    return f"pkcs11:{path}?module-path={shelf[1]}"


@contextlib.contextmanager
def opened(shelf, text, *, pin=PIN):
    token = tokens.Token(tokens.parse_uri(text), pin)
    try:
        yield token
    finally:
        token.close()


def load(token, shelf, label, *, digest="sha256"):
    return token.load_identity(shelf[0] / f"{label}.pem", domain=DOMAIN, digest=digest)


@pytest.mark.parametrize(
    ("label", "digest"),
    [("ed25519", "sha256"), ("p256", "sha256"), *(("rsa", f"sha{n}") for n in (256, 384, 512))],
)
def test_a_key_in_a_token_signs_as_one_in_a_file(shelf, label, digest):
    with opened(shelf, uri(shelf, label)) as token:
        private = load(token, shelf, label, digest=digest)
        signature = private.key.sign(b"content", private.algorithm, 5.0)

    person = PEOPLE[label]
    assert private.algorithm is keys.choose_algorithm(person.key.public_key(), digest)
    keys.make_verify(person.key.public_key(), private.algorithm)(signature, b"content")


def test_a_key_is_found_by_its_id_as_well(shelf):
    with opened(shelf, uri(shelf, None, id="%02")) as token:
        assert load(token, shelf, "p256").certificate == PEOPLE["p256"].der


def test_the_agent_signs_with_a_token_and_opens_it_again_when_it_has_failed(shelf):
    clock, person = FakeClock(), PEOPLE["p256"]
    protected = envelope.protected_header(keys.Algorithm.ESP256, person.fingerprint, batch=False)
    content = envelope.bytes_to_sign(protected, DOMAIN.encode(), b"")
    request = write_request(Ask(keys.Algorithm.ESP256, person.fingerprint, content))[LENGTH.size :]
    with opened(shelf, uri(shelf, "p256")) as token:
        own = OwnIdentity(
            lambda: load(token, shelf, "p256"),
            (shelf[0] / "p256.pem",),
            clock=clock,
            on_event=lambda *_: None,
        )
        agent = Agent(own, domain=DOMAIN, clock=clock)
        token._session.close()  # as when a card is pulled

        answers = [read_answer(agent.answer(request)[LENGTH.size :]) for _ in range(2)]

    assert [one.status for one in answers] == [Status.FAILED, Status.SIGNED]
    assert "token 'shop'" in answers[0].told


def test_the_certificate_of_another_key_is_an_error(shelf):
    text = uri(shelf, "p256")
    with (
        opened(shelf, text) as token,
        pytest.raises(SecurityError, match="signatures that do not fit our certificate"),
    ):
        token.load_identity(
            write(shelf[0], "other.pem", make_person("other", key=p256_key(8)).pem),
            domain=DOMAIN,
            digest="sha256",
        )


@pytest.mark.parametrize(
    ("changes", "pin", "why"),
    [
        ({"token": "none"}, PIN, "NoSuchToken"),
        ({"object": "none"}, PIN, "NoSuchKey"),
        ({}, "0000", "PinIncorrect"),
    ],
    ids=["token", "key", "pin"],
)
def test_what_a_token_says_no_to_is_named(shelf, changes, pin, why):
    with (
        opened(shelf, uri(shelf, "p256", **changes), pin=pin) as token,
        pytest.raises(OperationalError, match=why) as failed,
    ):
        load(token, shelf, "p256")
    assert pin not in str(failed.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pkcs11:object=a?module-path=/x.so", "which key"),
        ("pkcs11:token=a?module-path=/x.so", "which key"),
        ("pkcs11:token=a;object=b", r"add \?module-path="),
        ("pkcs11:token=a;object=b?module-path=x.so", r"add \?module-path="),
        ("pkcs11:token=a;slot-id=0;object=b?module-path=/x.so", "'slot-id' in a pkcs11 URI"),
        ("pkcs11:token;object=b?module-path=/x.so", "'token' in a pkcs11 URI"),
        ("pkcs11:token=a;object=b?module-path=/x.so&pin-value=1", "give the PIN with --password"),
    ],
)
def test_a_uri_that_names_no_key_is_an_error_that_says_why(text, why):
    if tokens is None:
        lacking("python-pkcs11")
    with pytest.raises(ImproperlyConfigured, match=why):
        tokens.parse_uri(text)


def test_a_library_that_others_can_change_is_not_loaded(tmp_path):
    if tokens is None:
        lacking("python-pkcs11")
    library = write(tmp_path, "lib.so", b"", mode=0o666)
    parsed = tokens.parse_uri(f"pkcs11:token=a;object=b?module-path={library}")

    with pytest.raises(SecurityError, match="chmod go-w"):
        tokens.Token(parsed, None)
