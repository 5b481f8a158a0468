"""A worker's audit log is signed in time, under a key for each epoch."""

from __future__ import annotations

import base64

import pytest

from cardoon import Cardoon
from cardoon.attesting import make_witness
from cardoon.deployment import Deployment
from cardoon.transparency.notes import parse_note
from cardoon.transparency.verifying import verify_log
from cardoon.worker.sealing import RETRY_SECONDS, AuditKeeper


@pytest.fixture
def deployment(tmp_path, clock):
    app = Cardoon("sealed", set_as_current=False, state_directory=str(tmp_path / "state"))
    app.conf.update(security_audit_epoch_seconds=600, security_audit_required=True)
    made = Deployment(app.settings, clock=clock, role="worker")
    yield made
    made.audit().close()
    app.close()


@pytest.fixture
def keeper(deployment, clock):
    made = AuditKeeper(deployment, audit=deployment.audit(), clock=clock)
    made.look()
    return made


def judge(deployment):
    return verify_log(deployment.audit().path, witness=make_witness(deployment))


def test_the_identity_certifies_each_epoch(deployment, keeper, clock):
    for _ in range(3):
        deployment.audit().record("a")
        clock.advance(600)
        keeper.look()

    verdict = judge(deployment)
    assert (verdict.epochs, verdict.size, verdict.sealed) == (4, 3, 3)
    assert (verdict.findings, verdict.identities) == ([], ["CN=worker"])


def test_what_was_recorded_is_signed_a_few_seconds_later_and_once(deployment, keeper, clock):
    deployment.audit().record("a")
    keeper.look()
    assert judge(deployment).sealed == 0

    for _ in range(3):
        clock.advance(5)
        keeper.look()

    verdict = judge(deployment)
    assert (verdict.sealed, verdict.checkpoints) == (1, 2)
    assert deployment.audit().checkpoint_age == 10


def test_who_follows_is_given_what_a_log_can_be_held_against_later(deployment, keeper, clock):
    told = []
    deployment.audit().follow(told.append)
    deployment.audit().record("a")
    clock.advance(5)
    keeper.look()

    assert [entry["event"] for entry in told] == ["a", "audit.checkpoint"]
    kept = parse_note(base64.b64decode(told[1]["note"]))
    assert (kept.note.size, kept.note.origin) == (told[1]["size"], told[1]["log"])
    verdict = verify_log(
        deployment.audit().path, witness=make_witness(deployment), elsewhere=(kept,)
    )
    assert verdict.findings == []


def test_an_identity_that_a_log_is_not_called_after_certifies_nothing(deployment, keeper, clock):
    other = Deployment(deployment.settings, clock=clock, role="client")
    AuditKeeper(other, audit=other.audit(), clock=clock).look()
    other.audit().close()

    verdict = judge(deployment)
    assert (verdict.epochs, verdict.findings, verdict.identities) == (2, [], ["CN=worker"])


def test_an_epoch_that_could_not_begin_is_tried_again_soon(deployment, clock):
    audit = deployment.audit()
    audit.record("a")
    audit.close()
    audit.path.chmod(0o666)
    keeper = AuditKeeper(deployment, audit=audit, clock=clock)
    keeper.look()
    assert audit.last_note is None

    audit.path.chmod(0o600)
    clock.advance(RETRY_SECONDS)
    keeper.look()

    verdict = judge(deployment)
    assert (verdict.findings, verdict.identities) == ([], ["CN=worker"])


def test_a_pause_and_its_end_are_loud(deployment, keeper, caplog):
    audit = deployment.audit()
    audit.record("a")
    audit.close()
    audit.path.chmod(0o666)
    audit.record("b")
    keeper.look()
    assert "takes no task until" in caplog.text

    audit.path.chmod(0o600)
    keeper.look()
    assert "tasks are taken" in caplog.text
    assert not audit.must_pause
