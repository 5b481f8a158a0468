"""The key elsewhere by settings: an app whose processes never have it."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from cardoon import Cardoon
from cardoon.cli.main import Invocation
from cardoon.cli.signer import signer
from cardoon.clock import SystemClock
from cardoon.config import Conf
from cardoon.deployment import Deployment
from cardoon.exceptions import IdentityError, ImproperlyConfigured, OperationalError
from tests.security.actors import draft
from tests.security.spiffe import HOUR


class Clocks:
    """Time that is told to pass, and deadlines that pass as well."""

    def __init__(self, told):
        self.now = told.now
        self._told = told

    def monotonic(self):
        return self._told.monotonic() + SystemClock().monotonic()


@pytest.fixture
def deploy(post):
    made = []

    def make(**settings):
        conf = Conf({})
        told = post.helper.settings(security_key=f"unix:{post.path}", **settings)
        conf.update({"state_directory": str(post.folder / "state"), **told})
        made.append(Deployment(conf.settings(), clock=Clocks(post.clock), role="client"))
        return made[-1]

    yield make
    for one in made:
        one.audit().close()


def events(post):
    lines = (post.folder / "state" / "audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_deployment_signs_by_an_agent(post, deploy):
    post.start()
    deployment = deploy()

    [signed] = deployment.make_signer("auth").sign([draft()])

    gate = deployment.make_gate(("auth",))
    assert gate.open(signed.frame, kind=draft().kind).signer.name == "spiffe://acme.example/worker"
    assert "key" not in repr(deployment.identity()).lower()


def test_agent_and_sender_both_follow_a_renewal(post, deploy):
    post.start()
    signer = deploy().make_signer("auth")
    signer.sign([draft()])
    post.clock.advance(4)  # of the five seconds between the sender's looks
    post.renew()

    post.clock.advance(1)
    signer.sign([draft()])

    assert signer.identity.fingerprint == post.svid.fingerprint
    assert [one["event"] for one in events(post)] == ["identity.reloaded"]


def test_a_renewed_certificate_whose_key_the_agent_has_not_is_refused(post, deploy):
    post.start()
    signer, before = deploy().make_signer("auth"), post.svid
    post.helper.write_certificate(post.authority, post.authority.issue("worker"))

    for _ in range(2):
        post.clock.advance(5)
        signer.sign([draft()])

    assert signer.identity.fingerprint == before.fingerprint
    [event] = events(post)
    assert event["event"] == "identity.reload_refused"
    assert "has not the key of our certificate" in event["detail"]


def test_the_certificates_end_is_an_error_of_the_sender_and_no_question_to_the_agent(post, deploy):
    post.start()
    signer = deploy().make_signer("auth")
    asked = post.made.signed
    post.clock.advance(11 * HOUR)

    with pytest.raises(IdentityError, match="the certificate has expired"):
        signer.sign([draft()])

    assert post.made.signed == asked


def test_an_agent_that_is_away_at_the_start_is_an_error_that_names_it(post, deploy, monkeypatch):
    monkeypatch.setattr("cardoon.deployment.TRIAL_SECONDS", 0.2)

    with pytest.raises(OperationalError, match=f"security_key unix:{post.path}"):
        deploy().check_identity()


def test_a_password_for_a_key_that_is_elsewhere_is_an_error(deploy):
    with pytest.raises(ImproperlyConfigured, match="security_key_password is set, but"):
        deploy(security_key_password="secret").identity()


def test_a_task_is_sent_by_a_client_without_a_key(post, tmp_path):
    post.start()
    settings = post.helper.settings(security_key=f"unix:{post.path}")
    app = Cardoon(
        "shop",
        set_as_current=False,
        clock=Clocks(post.clock),
        broker_url="memory://",
        state_directory=str(tmp_path / "client"),
        **settings,
    )
    try:
        assert app.send_task("shop.pay", (1,)).id
    finally:
        app.close()
    assert list((tmp_path / "client").glob("*.key")) == []
    assert post.made.signed == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--password", "secret"], "give env:NAME or file:PATH"),
        (["--allow", "no-such-user-here"], "there is no such user"),
        (["--key", "pkcs11:token=a"], "which key?|pip install 'cardoon\\[pkcs11\\]'"),
    ],
)
def test_the_command_says_what_is_wrong_with_its_options(post, words, why):
    given = ["--key", post.helper.key, "--certificate", post.helper.certificate]
    given += ["--socket", post.path, *words]

    done = CliRunner().invoke(
        signer, [str(word) for word in given], obj=Invocation(None, {}, quiet=False)
    )

    assert done.exit_code == 1
    assert isinstance(done.exception, ImproperlyConfigured)
    assert re.search(why, str(done.exception))
    assert "secret" not in str(done.exception)
