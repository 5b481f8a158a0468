"""Celery's security page, with the files that its readers have: made by the `openssl` command."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from cardoon import Celery
from cardoon.exceptions import ImproperlyConfigured, SecurityError
from tests.unit.hands import Hands

PASSWORD = "correct horse"

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs openssl to make keys"
)


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def etc(tmp_path_factory):
    """`/etc/ssl`: private/worker.key and certs/worker.pem, as the page has them, and others."""
    folder = tmp_path_factory.mktemp("ssl")
    for name in ("private", "certs", "other"):
        (folder / name).mkdir()
    for name, certs in (("worker", "certs"), ("other", "other")):
        openssl(folder, "genrsa", "-out", f"private/{name}.key", "2048")
        request = ["req", "-x509", "-new", "-days", "30", "-subj", f"/CN={name}"]
        openssl(folder, *request, "-key", f"private/{name}.key", "-out", f"{certs}/{name}.pem")
    openssl(
        folder, "rsa", "-aes256", "-in", "private/worker.key", "-out", "private/locked.key",
        "-passout", f"pass:{PASSWORD}",
    )  # fmt: skip
    (folder / "password").write_text(PASSWORD + "\n")
    for path in (folder / "private").iterdir():
        path.chmod(0o600)
    return folder


@pytest.fixture
def make(etc, tmp_path):
    """Makes an app with the settings of the page, but for those that are given."""
    made = []

    def make_one(**settings):
        app = Celery(
            broker=f"sqlite:///{tmp_path}/queue.db",
            state_directory=str(tmp_path / "state"),
            set_as_current=False,
        )
        app.conf.update(
            **{
                "security_key": f"{etc}/private/worker.key",
                "security_certificate": f"{etc}/certs/worker.pem",
                "security_cert_store": f"{etc}/certs/*.pem",
                **settings,
            }
        )
        made.append(app)
        return app

    yield make_one
    for app in made:
        app.close()


def there_and_back(app):
    """Send a task, take it as a worker with the same settings, and return what the client hears."""
    sent = app.send_task("shop.pay", (2, 3))
    hands = Hands(app.settings)
    [delivery] = hands.take()
    hands.succeed(delivery, sum(hands.arguments(delivery)))
    signer = hands.open(delivery).signer
    hands.close()
    return sent.get(timeout=10), signer.name, delivery.frame


def test_the_example_works_as_it_stands(make):
    app = make(
        security_digest="sha256",
        task_serializer="auth",
        event_serializer="auth",
        accept_content=["auth"],
    )
    app.setup_security()

    value, name, _ = there_and_back(app)

    assert (value, name) == (5, "CN=worker")


def test_its_short_form_works_as_well(make, tmp_path):
    app = make()
    app.setup_security()

    assert there_and_back(app)[0] == 5
    assert list((tmp_path / "state").glob("*.key")) == []


def test_events_cannot_be_asked_for_unsigned(make):
    with pytest.raises(ImproperlyConfigured, match=r"event_serializer: 'json'.*use auth"):
        make(event_serializer="json")


@pytest.mark.parametrize(
    ("digest", "algorithm"), [("sha256", "3824"), ("sha384", "3825"), ("sha512", "3826")]
)
def test_the_digest_is_the_one_that_is_named(make, digest, algorithm):
    app = make()
    app.setup_security(digest=digest)

    value, _, frame = there_and_back(app)

    # The protected header, {1: alg, 4: kid}, begins with PS256, PS384 or PS512 (RFC 8230).
    assert bytes.fromhex(f"a201{algorithm}04") in frame[:16]
    assert value == 5


@pytest.mark.parametrize("digest", ["md5", "sha1", "SHA256", ""])
def test_another_digest_is_refused(make, digest):
    with pytest.raises(
        ImproperlyConfigured, match=r"security_digest: .*use sha256, sha384, sha512"
    ):
        make().setup_security(digest=digest)


@pytest.mark.parametrize("how", ["itself", "env:SHOP_PASSWORD", "file"])
def test_an_encrypted_key_has_a_password_or_a_reference_to_one(make, etc, monkeypatch, how):
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    given = {"itself": PASSWORD, "file": f"file:{etc}/password"}.get(how, how)
    app = make(security_key=f"{etc}/private/locked.key")

    app.setup_security(key_password=given)

    assert there_and_back(app)[0] == 5
    assert PASSWORD not in repr(app.conf)


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("wrong horse", "locked.key: no private key in PEM form, or a wrong password"),
        (None, "set security_key_password"),
    ],
)
def test_a_wrong_password_is_an_error_at_once(make, etc, password, told):
    app = make(security_key=f"{etc}/private/locked.key")

    with pytest.raises(SecurityError, match=told) as caught:
        app.setup_security(key_password=password)
    assert "wrong horse" not in str(caught.value)


def test_a_password_that_is_not_needed_is_an_error(make):
    with pytest.raises(SecurityError, match="leave the password out"):
        make().setup_security(key_password=PASSWORD)


def test_a_key_of_another_certificate_is_an_error(make, etc):
    with pytest.raises(SecurityError, match=r"other.key: not the key of the certificate .*worker"):
        make().setup_security(key=f"{etc}/private/other.key")


@pytest.mark.parametrize(
    ("setting", "path", "told"),
    [
        ("security_key", "private/no.key", "no.key: cannot be read: No such file"),
        ("security_certificate", "certs/no.pem", "no.pem: cannot be read: No such file"),
        ("security_cert_store", "no/*.pem", "put those of your senders into security_cert_store"),
        ("security_key", "certs/worker.pem", r"worker.pem: open to others .*chmod 600"),
        ("security_certificate", "private/worker.key", "worker.key: no certificate in PEM form"),
    ],
)
def test_a_path_that_is_wrong_is_an_error_at_once(make, etc, setting, path, told):
    app = make(**{setting: f"{etc}/{path}"})

    with pytest.raises(SecurityError, match=told):
        app.setup_security()


def test_a_key_that_others_may_read_is_an_error(make, etc, tmp_path):
    copy = shutil.copy(etc / "private/worker.key", tmp_path)
    (tmp_path / "worker.key").chmod(0o644)

    with pytest.raises(SecurityError, match=r"open to others \(mode 0644\); chmod 600"):
        make().setup_security(key=copy)


def test_who_is_not_in_the_store_is_not_believed(make, etc):
    client = make(
        security_key=f"{etc}/private/other.key", security_certificate=f"{etc}/other/other.pem"
    )
    client.setup_security()
    client.send_task("shop.pay")

    hands = Hands(make().settings)
    [delivery] = hands.take()

    with pytest.raises(SecurityError, match="unknown-signer"):
        hands.open(delivery)
    hands.close()


def test_plain_json_goes_there_and_back_and_needs_no_files(tmp_path):
    app = Celery(
        broker=f"sqlite:///{tmp_path}/queue.db",
        state_directory=str(tmp_path / "state"),
        set_as_current=False,
        task_serializer="json",
        accept_content=["json"],
    )
    sent = app.send_task("shop.pay", (2, 3))
    hands = Hands(app.settings)
    [delivery] = hands.take()
    hands.succeed(delivery, sum(hands.arguments(delivery)))

    assert hands.open(delivery).signer is None
    assert app.AsyncResult(sent.id).state == "SUCCESS"
    assert sent.get(timeout=10) == 5
    assert not (tmp_path / "state").exists()
    hands.close()
    app.close()
