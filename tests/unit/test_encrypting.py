"""Encryption from the client's call to its result, on stores in memory: what lies there says nothing."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections import deque
from collections.abc import Mapping

import pytest

from cardoon import Cardoon, chain, chord, group, states
from cardoon.broker import Kept
from cardoon.clock import SystemClock
from cardoon.config import Conf
from cardoon.deployment import Deployment
from cardoon.exceptions import (
    ImproperlyConfigured,
    InvalidTaskError,
    RefusedError,
    SecurityError,
    TaskDeniedError,
)
from cardoon.message import envelope
from cardoon.message.claims import encode_claims, parse_claims
from cardoon.message.envelope import parse_frame
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON
from cardoon.producer import Producer
from cardoon.result import AsyncResult, GroupResult
from cardoon.security import keymaking
from cardoon.security.keyset import CLIENTS
from cardoon.security.sealing import key_id_of
from cardoon.sender import Call
from cardoon.worker.concluding import ResultState
from cardoon.worker.pool import Rejected, Retried
from cardoon.worker.settler import State
from tests.unit.hands import Hands
from tests.unit.stage import Stage, body, failed, held_of, make_app, rules, succeeded

ON = {"security_encrypt": "body"}
SECRET = "wallace-and-gromit"


@pytest.fixture
def make(tmp_path):
    stages = []

    def build(**options):
        settings = {**ON, **options.pop("settings", {})}
        stages.append(Stage(options.pop("folder", tmp_path), settings=settings, **options))
        return stages[-1]

    yield build
    for stage in stages:
        stage.close()


@pytest.fixture
def stage(make):
    return make()


def stored(stage):
    """Every text and every byte that the broker and the result store hold."""
    found = []
    seen = set()

    def walk(value):
        if isinstance(value, (bytes, str)):
            found.append(value if isinstance(value, bytes) else value.encode())
        elif id(value) not in seen:
            seen.add(id(value))
            for one in parts_of(value):
                walk(one)

    walk([stage.broker, stage.backend])
    return b"\n".join(found)


def parts_of(value):
    """What something of ours, or something that holds several, consists of."""
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return list(value)
    if type(value).__module__.startswith("cardoon"):
        slots = (getattr(kind, "__slots__", ()) for kind in type(value).__mro__)
        names = {*getattr(value, "__dict__", ()), *itertools.chain.from_iterable(slots)}
        return [getattr(value, name, None) for name in names]
    return []


def is_sealed(stage, task_id):
    """Whether the result that is stored is sealed."""
    sealed = stage.backend.load([task_id])[task_id]
    return parse_claims(parse_frame(sealed.frame).claims).encryption is not None


def take_key_away(stage):
    """The worker's host loses its private keys; returns what brings them back."""
    paths = list((stage.folder / "keyset").glob("*.key"))
    kept = {path: path.read_bytes() for path in paths}
    for path in paths:
        path.unlink()
    stage.clock.advance(6.0)

    def bring_back():
        for path, content in kept.items():
            path.write_bytes(content)
            path.chmod(0o600)
        stage.clock.advance(6.0)

    return bring_back


def test_arguments_and_results_are_sealed_in_every_store(stage):
    result = stage.send(SECRET)
    assert SECRET.encode() not in stored(stage)
    assert result.id.encode() in stored(stage)

    [job] = stage.consume()
    assert SECRET.encode() in job.body
    stage.end(job, succeeded(SECRET))

    assert SECRET.encode() not in stored(stage)
    assert result.id.encode() in stored(stage)
    assert result.get(timeout=1) == SECRET


def test_failures_progress_and_reasons_are_sealed(stage):
    error, progress, rejected = (stage.send() for _ in range(3))
    jobs = {job.id: job for job in stage.consume()}
    told = ResultState(
        "HALFWAY", jobs[progress.id].head["codec"], b'{"result":"%s"}' % SECRET.encode()
    )
    stage.settler.put(State(held_of(stage, jobs[progress.id]), told))

    stage.end(jobs[error.id], failed(ValueError(SECRET)))
    stage.end(jobs[rejected.id], Rejected(b'{"result":"%s"}' % SECRET.encode(), SECRET, False))

    assert SECRET.encode() not in stored(stage)
    with pytest.raises(ValueError, match=SECRET):
        error.get(timeout=1)
    assert (progress.state, progress.info) == ("HALFWAY", SECRET)
    assert rejected.state == states.REJECTED
    [dead] = stage.kept(Kept.DEAD_LETTER)
    assert dead.reason == "rejected"


def test_every_task_of_a_canvas_is_sealed_and_reads_what_it_waited_for(stage):
    pay = stage.app.signature("shop.pay", args=[SECRET])
    body = stage.app.signature("shop.pay", args=[2])
    result = chord([pay, pay], body, app=stage.app).apply_async()
    assert SECRET.encode() not in stored(stage)

    for job in stage.consume():
        stage.end(job, succeeded(SECRET))
    assert SECRET.encode() not in stored(stage)
    [last] = stage.consume()

    assert last.body.count(SECRET.encode()) == 2
    stage.end(last, succeeded("done"))
    assert result.get(timeout=1) == "done"


def test_a_failure_travels_along_a_chain(stage):
    pay = stage.app.signature("shop.pay", args=[1], immutable=True)
    result = chain(pay, pay, app=stage.app).apply_async()

    [job] = stage.consume()
    stage.end(job, failed(ValueError(SECRET)))
    stage.consume()

    assert SECRET.encode() not in stored(stage)
    with pytest.raises(ValueError, match=SECRET):
        result.get(timeout=1)


def test_what_runs_again_is_sealed_again(make):
    """A task that is acknowledged before it runs is sent as a new message when it asks for a retry."""
    stage = make(catalogue={"shop.pay": rules(acks_late=False)})
    result = stage.send(SECRET)
    [job] = stage.consume()
    stage.end(job, Retried(b'{"result":"again"}', stage.clock.now(), None))
    assert SECRET.encode() not in stored(stage)

    [again] = stage.consume()
    assert SECRET.encode() in again.body
    stage.end(again, succeeded(SECRET))

    assert result.get(timeout=1) == SECRET


def test_a_message_in_the_clear_is_answered_in_the_clear(make, tmp_path):
    stage = make()
    with make_app(tmp_path, clock=stage.clock) as open_app:
        deployment = Deployment(open_app.settings, clock=stage.clock)
        clear_client = Producer(deployment, stores=(stage.broker, stage.backend))
        open_app.attach(clear_client)
        result = open_app.send_task("shop.pay", [1])
        [job] = stage.consume()
        stage.end(job, succeeded(SECRET))

        assert result.get(timeout=1) == SECRET
        assert SECRET.encode() in stored(stage)
        open_app.detach()


def test_what_is_in_the_clear_is_refused_where_everything_must_be_sealed(make):
    stage = make(settings={"security_encrypt": "off", "security_require_encryption": True})
    stage.send(1)

    assert stage.consume() == []

    [kept] = stage.kept(Kept.QUARANTINE)
    assert (kept.reason, kept.detail) == ("not-encrypted", "security_require_encryption is set")
    assert "message.not_encrypted" in stage.event_names()


def test_what_is_sealed_to_an_unknown_key_is_looked_at_twice_and_kept_with_the_keys_name(stage):
    result = stage.send(1)
    [key] = stage.deployment.encrypting().seal().recipients
    bring_back = take_key_away(stage)

    assert stage.consume() == []
    assert stage.kept(Kept.QUARANTINE) == []
    stage.clock.advance(1.6)
    assert stage.consume() == []

    [kept] = stage.kept(Kept.QUARANTINE)
    assert kept.reason == "unknown-key"
    assert key_id_of(key).hex() in kept.detail
    assert "message.key_unknown" in stage.event_names()
    bring_back()
    assert stage.broker.restore(Kept.QUARANTINE, [kept.number]) == 1
    [job] = stage.consume()
    stage.end(job, succeeded(2))
    assert result.get(timeout=1) == 2


def test_a_key_that_comes_before_the_second_look_loses_nothing(stage):
    stage.send(1)
    bring_back = take_key_away(stage)
    assert stage.consume() == []

    bring_back()

    assert len(stage.consume()) == 1


def test_ciphertext_of_another_message_is_quarantined_and_its_sender_is_told(stage):
    """A trusted client signs, as its own, a body that was sealed for somebody else's message."""
    stage.send(SECRET)
    [delivery] = stage.broker.receive(["celery"], limit=1, lease=30.0, timeout=0)
    stolen = parse_frame(delivery.frame).body
    mine = stage.app.send_task("shop.pay", ["mine"], countdown=60)
    [waiting] = stage.client.sign([Call("shop.pay", mine.id + "x", "celery", JSON, body("mine"))])
    claims = parse_claims(parse_frame(waiting[0].frame).claims)
    forged = claims._replace(digest=hashlib.sha256(stolen).digest(), length=len(stolen))
    frame = sign_frame(stage, forged, stolen)
    stage.broker.publish([waiting[0]._replace(frame=frame)], timeout=1)

    assert stage.consume() == []

    [kept] = stage.kept(Kept.QUARANTINE)
    assert kept.reason == "undecryptable"
    assert "message.undecryptable" in stage.event_names()
    assert stage.consumer.refused == 1
    found = stage.app.AsyncResult(mine.id + "x")
    with pytest.raises(InvalidTaskError, match="it cannot be read: undecryptable"):
        found.get(timeout=1)


def sign_frame(stage, claims, carried):
    """What the client's key signs, whatever its signer would have said."""
    identity = stage.client.deployment.identity()
    fingerprint = identity.identity.fingerprint
    header = envelope.protected_header(identity.algorithm, fingerprint, batch=False)
    encoded = encode_claims(claims)
    domain = stage.settings.security_domain.encode()
    signature = identity.key.sign(envelope.bytes_to_sign(header, domain, encoded))
    return envelope.build_signed(envelope.begin_single(header), encoded, signature, carried)


POLICY = """
version = 1
[role.client]
ids = ["subject:CN=client"]
[role.worker]
ids = ["subject:CN=worker"]
[[allow]]
role = "client"
action = "send"
task = "shop.pay"
encrypted = true
[[allow]]
role = ["client", "worker"]
action = ["result", "keys"]
"""


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    path.chmod(0o600)
    return {"security_policy": str(path)}


def test_a_denied_message_is_answered_sealed(make, policy):
    stage = make(settings={**policy, "security_require_encryption": True})

    result = stage.send(SECRET, task="shop.free")
    assert stage.consume() == []

    with pytest.raises(TaskDeniedError, match=r"no rule lets CN=client send shop\.free"):
        result.get(timeout=1)
    assert is_sealed(stage, result.id)


def test_a_rule_can_want_sealed_bodies(make, policy):
    clear = make(settings={**policy, "security_encrypt": "off"})
    denied = clear.send(1)
    assert clear.consume() == []
    with pytest.raises(TaskDeniedError, match="a body in the clear; rule 1 allows sealed ones"):
        denied.get(timeout=1)

    sealed = make(settings=policy)
    result = sealed.send(1)
    [job] = sealed.consume()
    sealed.end(job, succeeded(3))
    assert result.get(timeout=1) == 3


READER = """
import sys
from cardoon import Cardoon
app = Cardoon("shop", set_as_current=False)
print(app.AsyncResult(sys.argv[1]).get(timeout=20))
"""


def another_process(folder, task_id, **settings):
    """What another process makes of a result."""
    names = {f"CARDOON_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-c", READER, task_id],
        cwd=folder,
        env={**os.environ, **names},
        capture_output=True,
        text=True,
        check=False,
    )


def test_another_process_reads_a_result_with_the_clients_keys_alone(tmp_path):
    """In the folder of the workers' keys are private ones, so its client has only the record."""
    workers, mine, shared = (tmp_path / name for name in ("workers", "mine", "shared"))
    state = tmp_path / ".cardoon"
    base = {"broker_url": f"sqlite:///{tmp_path}/q.db", "state_directory": str(state)}
    clock = SystemClock()

    def settings(**more):
        conf = Conf()
        conf.update({**base, "security_encrypt": "body", **more})
        return conf.settings()

    signer = Deployment(settings(security_encrypt="off"), clock=clock).make_signer("auth")
    assert keymaking.create(workers, "workers", signer, now=clock.now())
    assert keymaking.create(shared, CLIENTS, signer, now=clock.now())
    mine.mkdir(mode=0o700)
    (mine / "keyset.cose").write_bytes((workers / "keyset.cose").read_bytes())

    def ask(**more):
        """Send a task, have it carried out by hand, read its result; its id."""
        mine_alone = {**base, "security_encrypt": "body", "security_keyset": str(mine), **more}
        hands = Hands(settings(security_keyset=str(workers)))
        with Cardoon("shop", set_as_current=False, **mine_alone) as app:
            sent = app.send_task("shop.pay", [SECRET])
            [delivery] = hands.take(timeout=5)
            assert hands.arguments(delivery) == [SECRET]
            hands.succeed(delivery, SECRET)
            hands.close()
            assert sent.get(timeout=5) == SECRET
            return sent.id

    private, public = ask(), ask(security_reply_keyset=str(shared))

    more = {**base, "security_keyset": mine, "security_encrypt": "body"}
    refused = another_process(tmp_path, private, **more)
    assert refused.returncode == 1
    assert "this process cannot read its result: sealed to key" in refused.stderr
    assert "security_reply_keyset" in refused.stderr
    assert SECRET not in refused.stderr + refused.stdout
    read = another_process(tmp_path, public, **more, security_reply_keyset=shared)
    assert read.stdout.strip() == SECRET, read.stderr
    holder = another_process(tmp_path, private, **{**more, "security_keyset": workers})
    assert holder.stdout.strip() == SECRET, holder.stderr


def test_the_state_of_what_cannot_be_read_is_known(stage):
    result = stage.send(1)
    [job] = stage.consume()
    stage.end(job, succeeded(SECRET))
    take_key_away(stage)
    reader = Deployment(
        stage.settings, clock=stage.clock, role="worker"
    )  # without the client's own key
    producer = Producer(reader, stores=(stage.broker, stage.backend))
    with make_app(stage.folder) as app, app.attached(producer):
        found = AsyncResult(result.id, app=app)

        assert found.state == states.SUCCESS
        with pytest.raises(SecurityError, match=f"task {result.id}: its state is SUCCESS, but"):
            _ = found.result
    assert stage.kept(Kept.QUARANTINE) == []
    assert result.get(timeout=1) == SECRET


def test_without_a_keyset_nothing_is_sent(tmp_path):
    with (
        make_app(tmp_path, **ON, security_keyset=str(tmp_path / "none")) as app,
        pytest.raises(ImproperlyConfigured, match="cardoon keys init"),
    ):
        app.send_task("shop.pay", [1])


def test_a_worker_that_could_open_nothing_does_not_start(stage):
    stage.send(1)
    take_key_away(stage)
    worker = Deployment(stage.settings, clock=stage.clock, role="worker")

    with pytest.raises(SecurityError, match="which tasks are sealed to, is not here"):
        worker.check_identity()


def test_no_keyset_is_made_that_the_policy_would_not_take(tmp_path, policy):
    path = tmp_path / "policy.toml"
    path.write_text(POLICY.replace('"result", "keys"', '"result"'))

    with (
        make_app(tmp_path, **ON, **policy) as app,
        pytest.raises(SecurityError, match="no rule lets CN=client keys workers; have a rule"),
    ):
        app.send_task("shop.pay", [1])

    assert not (tmp_path / "keyset").exists()


@pytest.mark.parametrize("name", ["task_serializer", "result_serializer"])
def test_what_is_not_signed_is_not_encrypted(name):
    conf = Conf()
    conf.update({**ON, name: "json", "accept_content": ["auth", "json"]})

    with pytest.raises(ImproperlyConfigured, match="anybody can have sealed"):
        conf.settings()


def test_a_group_is_saved_sealed(stage):
    sent = group([stage.app.signature("shop.pay", args=[1])] * 2, app=stage.app).apply_async()
    sent.save()

    assert stage.client.load_group(sent.id).body
    assert is_sealed(stage, sent.id)
    assert GroupResult.restore(sent.id, app=stage.app).results == sent.results


def test_a_refusal_of_the_gate_names_no_body(stage):
    stage.send(SECRET)
    [delivery] = stage.broker.receive(["celery"], limit=1, lease=30.0, timeout=0)
    message = stage.gate.open(delivery.frame, kind=Kind.TASK)
    clear = stage.gate.unseal(message)
    assert SECRET.encode() in clear.body

    with pytest.raises(RefusedError) as refused:
        stage.gate.unseal(clear)  # is not sealed any more

    assert SECRET not in str(refused.value)
