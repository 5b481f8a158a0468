"""From settings to identity, trust and stores."""

from __future__ import annotations

import json
import stat
import sys

import pytest

from cardoon.clock import SystemClock
from cardoon.config import Conf
from cardoon.deployment import Deployment
from cardoon.exceptions import ImproperlyConfigured, Refusal, RefusedError, SecurityError
from cardoon.message import serializers
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON, encode_body
from cardoon.security.authority import create_authority, ensure_identity, issue
from cardoon.security.signing import Draft
from tests.unit.hands import Hands
from tests.unit.stage import PLAIN, make_app

NETWORKED = "redis://queue.example"


@pytest.fixture
def deploy(tmp_path, clock):
    """Makes deployments with these settings, and lets go of them afterwards."""
    made = []

    def make(role="client", environ=None, **settings):
        conf = Conf(environ or {})
        conf.update({"state_directory": str(tmp_path / "state"), **settings})
        made.append(Deployment(conf.settings(), clock=clock, role=role))
        return made[-1]

    yield make
    for deployment in made:
        deployment.audit().close()


def events(tmp_path):
    path = tmp_path / "state" / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def sign(deployment, *arguments):
    """A task message by this deployment's identity."""
    body = encode_body([arguments, {}, {}], JSON)
    draft = Draft(Kind.TASK, "shop.pay", "t1", ("q:celery",), JSON, body, retries=0)
    [signed] = deployment.make_signer(deployment.settings.task_serializer).sign([draft])
    return signed.frame


def open_task(deployment, frame):
    gate = deployment.make_gate(deployment.settings.accept_content)
    return gate.open(frame, kind=Kind.TASK)


class TestStores:
    def test_without_settings_they_are_one_file_of_the_project(self, deploy, tmp_path):
        deployment = deploy()

        assert deployment.broker_url == f"sqlite:///{tmp_path}/state/cardoon.db"
        assert deployment.backend_url == deployment.broker_url
        assert deployment.embedded

    def test_a_url_may_be_a_reference(self, deploy, tmp_path):
        (tmp_path / "url").write_text("sqlite:///results.db\n")

        deployment = deploy(broker_url="memory://", result_backend=f"file:{tmp_path}/url")

        assert deployment.broker_url == "memory://"
        assert deployment.backend_url == "sqlite:///results.db"

    @pytest.mark.parametrize(
        ("broker", "backend"),
        [
            ("sqla+sqlite:///{0}/x.db", ""),
            ("SQLite:///{0}/x.db", ""),
            ("sqlite:///{0}/x.db", "db+sqlite:///{0}/x.db"),
            ("sqla+sqlite:///{0}/x.db", "db+sqlite:///{0}/x.db"),
        ],
    )
    def test_celerys_names_of_one_file_mean_one_store(self, deploy, tmp_path, broker, backend):
        deployment = deploy(
            broker_url=broker.format(tmp_path), result_backend=backend.format(tmp_path)
        )

        deployment.check_identity()

        assert deployment.embedded
        assert deployment.backend_url == deployment.broker_url

    def test_celerys_urls_carry_a_task_there_and_back(self, tmp_path):
        app = make_app(
            tmp_path / "state",
            broker_url=f"sqla+sqlite:///{tmp_path}/x.db",
            result_backend=f"db+sqlite:///{tmp_path}/x.db",
        )
        sent = app.send_task("shop.pay", (1,))
        hands = Hands(app.settings, clock=app.clock)

        [delivery] = hands.take()
        hands.succeed(delivery, 5)

        assert sent.get(timeout=5) == 5
        hands.close()
        app.close()

    @pytest.mark.parametrize(
        ("settings", "store"),
        [
            ({"result_backend": "sqlite:///r.db"}, "sqlite:///r.db"),
            ({"result_backend": "redis://localhost/0"}, "redis://localhost/0"),
            ({}, "sqlite:///{0}/state/cardoon.db"),
            ({"result_backend": "rpc://"}, "sqlite:///{0}/state/cardoon.db"),
            ({"broker_transport_options": {"store": "db+sqlite:///s.db"}}, "sqlite:///s.db"),
            ({"broker_transport_options": {"store": "file:{0}/url"}}, "sqlite:///told.db"),
        ],
    )
    def test_rabbitmq_has_a_store_beside_it(self, deploy, tmp_path, settings, store):
        (tmp_path / "url").write_text("sqlite:///told.db")
        for options in settings.values():
            if isinstance(options, dict):
                options["store"] = options["store"].format(tmp_path)

        deployment = deploy(broker_url="amqp://localhost", **settings)

        assert deployment.store_url == store.format(tmp_path)

    def test_a_password_does_not_stand_where_task_processes_see_it(self, deploy):
        deployment = deploy(
            broker_url="amqp://localhost",
            broker_transport_options={"store": "redis://:hunter2@localhost"},
        )

        with pytest.raises(ImproperlyConfigured, match="env:NAME") as refused:
            _ = deployment.store_url

        assert "hunter2" not in str(refused.value)

    def test_it_is_said_when_rabbitmqs_store_is_this_hosts_alone(self, deploy, tmp_path, caplog):
        ensure_identity(tmp_path / "state", "client", clock=SystemClock())
        for settings in ({"result_backend": f"sqlite:///{tmp_path}/r.db"}, {}):
            caplog.clear()
            deployment = deploy(broker_url="amqp://localhost", **settings)
            broker = deployment.open_broker()
            backend = deployment.open_backend(broker)
            told = "known to this host only" in caplog.text

            assert told == (not settings)
            assert (backend is None) == (not settings)
            broker.close()

    def test_results_of_a_networked_broker_are_kept_only_if_asked_for(self, deploy):
        assert deploy(broker_url=NETWORKED).backend_url == ""
        assert deploy(broker_url=NETWORKED, result_backend="sqlite:///r.db").backend_url

    @pytest.mark.parametrize("url", ["disabled://", "disabled:"])
    def test_results_may_be_switched_off(self, deploy, url):
        deployment = deploy(broker_url="memory://", result_backend=url)

        assert deployment.open_backend(deployment.open_broker()) is None

    def test_a_result_backend_shares_the_store_of_the_broker(self, deploy):
        deployment = deploy(broker_url="memory://")
        broker = deployment.open_broker()
        backend = deployment.open_backend(broker)

        backend.forget(["x"])
        assert backend.load(["x"]) == {}
        broker.results.store([Hands(deployment.settings).seal({}, id="x", request=bytes(32))])
        assert list(backend.load(["x"])) == ["x"]


class TestIdentity:
    @pytest.mark.parametrize("role", ["client", "worker"])
    def test_one_is_made_on_first_use_for_its_user_alone(self, deploy, tmp_path, role):
        deploy(role).check_identity()

        state = tmp_path / "state"
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*")}
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert (modes["trusted"], modes[f"{role}.key"]) == (0o700, 0o600)
        assert modes[f"{role}.pem"] & 0o022 == 0

    def test_the_files_that_an_app_makes_are_for_its_user_alone(self, tmp_path):
        app = make_app(tmp_path / "state", broker_url=f"sqlite:///{tmp_path}/state/cardoon.db")
        app.send_task("shop.pay")
        app.setup_security(
            key=str(tmp_path / "state/client.key"),
            cert=str(tmp_path / "state/client.pem"),
            store=str(tmp_path / "state/trusted"),
        )
        app.AsyncResult("x").revoke()

        state = tmp_path / "state"
        names = {path.name for path in state.iterdir() if path.is_file()}
        assert {"cardoon.db", "client.key", "client.pem", "audit.jsonl"} <= names
        for name in names - {"client.pem"}:
            assert stat.S_IMODE((state / name).stat().st_mode) == 0o600, name
        app.close()

    def test_identities_of_one_folder_trust_each_other(self, deploy):
        client, worker = deploy("client"), deploy("worker")

        message = open_task(worker, sign(client))

        assert message.signer == client.identity().identity
        assert message.signer != worker.identity().identity

    def test_no_identity_is_made_where_nothing_is_signed(self, deploy, tmp_path):
        deployment = deploy(**PLAIN)

        deployment.check_identity()
        message = open_task(deployment, sign(deployment))

        assert not deployment.signs
        assert message.signer is None
        assert not (tmp_path / "state").exists()

    @pytest.mark.parametrize(
        "settings",
        [
            {"accept_content": ["json", "auth"], "task_serializer": "json"},
            {"accept_content": ["json", "auth"], "result_serializer": "json"},
            {**PLAIN, "accept_content": ["json", "auth"]},
        ],
    )
    def test_what_signs_or_verifies_anything_has_one(self, deploy, settings):
        assert deploy(**settings).signs

    def test_a_networked_broker_without_one_names_the_remedy(self, deploy, tmp_path):
        deployment = deploy("worker", broker_url=NETWORKED)
        missing = tmp_path / "state" / "worker.key"

        for use in (deployment.open_broker, deployment.identity, deployment.check_identity):
            with pytest.raises(
                ImproperlyConfigured, match=r"redis broker.*run `cardoon init`"
            ) as caught:
                use()
            assert str(missing) in str(caught.value)
            assert "queue.example" not in str(caught.value)
        assert not missing.exists()

    def test_a_networked_broker_takes_the_one_of_the_project(self, deploy, tmp_path, clock):
        create_authority(tmp_path / "state", "shop", clock=clock)
        issue(tmp_path / "state", "worker", clock=clock)

        deployment = deploy("worker", broker_url=NETWORKED)
        deployment.check_identity()

        assert deployment.identity().identity.name == "spiffe://shop/worker"

    @pytest.mark.parametrize(
        ("given", "missing"),
        [
            ({"security_key": "a.key"}, "security_certificate"),
            ({"security_certificate": "a.pem"}, "security_key"),
        ],
    )
    def test_half_a_pair_is_refused(self, deploy, given, missing):
        with pytest.raises(ImproperlyConfigured, match=f"^{missing} is not set.*set both"):
            deploy(**given).identity()

    def test_a_pair_of_ones_own_is_used_and_none_is_made(self, deploy, tmp_path, clock):
        own = ensure_identity(tmp_path / "own", "shop", clock=clock)
        deployment = deploy(
            security_key="env:SHOP_KEY",
            security_certificate=str(own.certificate),
            security_cert_store=str(tmp_path / "own/*.pem"),
        )

        with pytest.raises(ImproperlyConfigured, match="no variable 'SHOP_KEY'"):
            deployment.identity()
        deployment = deploy(
            security_key=str(own.key),
            security_certificate=str(own.certificate),
            security_cert_store=str(tmp_path / "own/*.pem"),
        )
        deployment.check_identity()

        assert deployment.identity() is deployment.identity()
        assert open_task(deployment, sign(deployment)).signer is not None
        assert not (tmp_path / "state").exists()


class TestTrust:
    def test_a_key_of_ones_own_needs_to_be_told_whom_to_trust(self, deploy, tmp_path, clock):
        own = ensure_identity(tmp_path / "own", "shop", clock=clock)
        deployment = deploy(security_key=str(own.key), security_certificate=str(own.certificate))

        with pytest.raises(
            ImproperlyConfigured, match="nobody is trusted: set security_cert_store"
        ):
            deployment.check_identity()

    @pytest.mark.parametrize("named", [False, True])
    def test_an_authority_vouches_for_strangers(self, deploy, tmp_path, clock, named):
        """The one of the project, unasked; or the one that the settings name, by trust domain."""
        home = tmp_path / ("elsewhere" if named else "state")
        authority = create_authority(home, "shop", clock=clock)
        issue(home, "web", clock=clock, output=tmp_path / "web")
        web = deploy(
            security_key=str(tmp_path / "web/web.key"),
            security_certificate=str(tmp_path / "web/web.pem"),
            security_cert_store=str(tmp_path / "web/web.pem"),
            security_send_chain=True,
        )
        given = {"security_ca_certificates": {"shop": str(authority.certificate)}} if named else {}

        message = open_task(deploy("worker", **given), sign(web))

        assert message.signer.name == "spiffe://shop/web"

    def test_a_stranger_is_refused(self, deploy, tmp_path, clock):
        stranger = ensure_identity(tmp_path / "stranger", "client", clock=clock)
        frame = sign(
            deploy(
                security_key=str(stranger.key),
                security_certificate=str(stranger.certificate),
                security_cert_store=str(stranger.certificate),
            )
        )

        with pytest.raises(RefusedError) as caught:
            open_task(deploy("worker"), frame)
        assert caught.value.reason is Refusal.UNKNOWN_SIGNER

    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"security_domain": "other"}, Refusal.BAD_SIGNATURE),
            ({"message_max_bytes": 1024}, Refusal.TOO_LARGE),
            ({"accept_content": ["json"], "task_serializer": "json"}, Refusal.NOT_ACCEPTED),
        ],
    )
    def test_the_gate_is_built_from_the_settings(self, deploy, settings, reason):
        frame = sign(deploy(), "x" * 2000)
        worker = deploy("worker", **settings)

        with pytest.raises(RefusedError) as caught:
            open_task(worker, frame)
        assert caught.value.reason is reason

    def test_a_message_is_good_for_as_long_as_the_settings_say(self, deploy, clock):
        client = deploy(security_max_age=100)
        worker = deploy("worker", security_clock_skew=10)
        frame = sign(client)

        clock.advance(109)
        open_task(worker, frame)
        clock.advance(1)

        with pytest.raises(RefusedError) as caught:
            open_task(worker, frame)
        assert caught.value.reason is Refusal.EXPIRED

    def test_who_is_on_the_deny_list_is_refused(self, deploy, tmp_path):
        client = deploy()
        frame = sign(client)
        fingerprint = client.identity().identity.fingerprint.hex()
        (tmp_path / "denied").write_text(f"sha256:{fingerprint}\n")
        (tmp_path / "denied").chmod(0o600)

        with pytest.raises(RefusedError) as caught:
            open_task(deploy("worker", security_revoked=str(tmp_path / "denied")), frame)
        assert caught.value.reason is Refusal.REVOKED

    def test_results_may_be_accepted_where_tasks_are_not(self, deploy):
        deployment = deploy(
            accept_content=["auth"], result_accept_content=["json"], result_serializer="json"
        )
        draft = Draft(Kind.RESULT, "a", "t1", (), JSON, b"{}", request=bytes(32))
        [result] = deployment.make_signer("json").sign([draft])

        for gate in (deployment.result_gate(), deployment.make_gate(("auth",))):
            assert gate.open(result.frame, kind=Kind.RESULT).signer is None
        with pytest.raises(RefusedError, match="unsigned"):
            deployment.make_gate(("auth",)).open(result.frame, kind=Kind.TASK)

    def test_a_serializer_that_is_not_installed_is_an_error_at_the_start(self, deploy, monkeypatch):
        deployment = deploy(accept_content=["auth", "msgpack"])
        serializers._load.cache_clear()
        monkeypatch.delitem(sys.modules, "cardoon.message.msgpacked", raising=False)
        monkeypatch.delattr("cardoon.message.msgpacked", raising=False)
        monkeypatch.setitem(sys.modules, "msgpack", None)

        for start in (
            lambda: deployment.make_gate(("auth", "msgpack")),
            lambda: deployment.make_signer("msgpack"),
        ):
            with pytest.raises(ImproperlyConfigured, match=r"pip install 'cardoon\[msgpack\]'"):
                start()

    def test_a_file_that_is_worthless_is_reported(self, deploy, tmp_path, caplog):
        deployment = deploy()
        deployment.identity()
        broken = tmp_path / "state" / "trusted" / "broken.pem"
        broken.write_text("nothing")
        broken.chmod(0o600)

        deployment.trust()

        [event] = events(tmp_path)
        assert (event["event"], event["source"]) == ("trust.file_skipped", "client")
        assert "broken.pem" in event["detail"]
        assert "broken.pem" in caplog.text

    def test_a_store_that_others_may_write_is_refused(self, deploy, tmp_path):
        deploy().identity()
        (tmp_path / "state" / "trusted").chmod(0o777)

        with pytest.raises(SecurityError, match="chmod go-w"):
            deploy().check_identity()


class TestAudit:
    def test_the_trail_lies_in_the_project_or_where_the_settings_say(self, deploy, tmp_path):
        deploy("worker").audit().record("a")
        deploy(security_audit_log=str(tmp_path / "trail")).audit().record("b")

        assert [(one["event"], one["source"]) for one in events(tmp_path)] == [("a", "worker")]
        assert json.loads((tmp_path / "trail").read_text())["event"] == "b"

    def test_there_is_one_for_a_deployment(self, deploy):
        deployment = deploy()

        assert deployment.audit() is deployment.audit()
