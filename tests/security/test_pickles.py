"""Pickles: whoever has one read has its code run, so each way to that is tried here.

Allowed or not, none is read before a trusted key has signed it, nor by anybody but the process that
runs the task; and never one that task code has made.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from cardoon.canvas import chain
from cardoon.contents import JSON, MSGPACK, PICKLE, Accepted, all_codecs
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError, Refusal, RefusedError
from cardoon.executor import Succeeded
from cardoon.message import pickled
from cardoon.message.protocol import Kind
from cardoon.message.serializers import decode_body, encode_body
from cardoon.security.gate import Gate
from cardoon.security.signing import PlainSigner
from cardoon.security.trust import TrustStore
from cardoon.sender import Call
from cardoon.testing import FakeClock
from cardoon.worker import pool
from cardoon.worker.ipc import Frame, FrameType, IpcError
from cardoon.worker.jobs import answer_of, prepare
from cardoon.worker.local import LocalLink
from cardoon.worker.wire import call_head, parse_call
from tests.security.actors import DOMAIN, draft, make_person, pin
from tests.workflows.troupe import Troupe

ALICE = make_person("alice")
ALLOWED = {
    "task_serializer": "pickle",
    "unsafe_allow_pickle": True,
    "accept_content": ["auth", "pickle"],
}


class Bomb:
    """Says that it was read."""

    def __reduce__(self):
        return went_off, ()


fuse = []


def went_off():
    fuse.append("went off")


@pytest.fixture(autouse=True)
def quiet():
    fuse.clear()


@pytest.fixture
def troupe(tmp_path):
    made = Troupe(tmp_path, **ALLOWED)
    made.app.task(name="pay")(lambda *args: None)
    yield made
    made.close()


def gate_of(tmp_path, **options):
    trust = TrustStore(pins=[pin(tmp_path, ALICE)], clock=FakeClock())
    return Gate(domain=DOMAIN, trust=trust, clock=FakeClock(), **options)


def refusal_of(gate, frame, kind=Kind.TASK):
    with pytest.raises(RefusedError) as refused:
        gate.open(frame, kind=kind)
    return refused.value.reason


def test_the_module_that_unpickles_is_loaded_by_nothing_else():
    code = (
        "import sys, cardoon.app, cardoon.worker.worker, cardoon.worker.zygote, cardoon.cli.main\n"
        "print('cardoon.message.pickled' in sys.modules)"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "False"


def test_a_pickle_is_read_only_by_who_asks_for_it():
    body = encode_body([[Bomb()], {}, {}], PICKLE)

    for codec in all_codecs([PICKLE]):
        with pytest.raises(RefusedError, match="codec-not-accepted"):
            decode_body(codec, body, max_bytes=10_000)
    assert fuse == []
    decode_body(PICKLE, body, max_bytes=10_000, unpickle=True)
    assert fuse == ["went off"]  # the control


def test_a_signed_pickle_is_refused_where_the_list_does_not_name_it(tmp_path):
    gate = gate_of(tmp_path, accept=["auth"])
    [signed] = ALICE.signer(FakeClock()).sign([draft(codec=PICKLE, body=pickled.encode(Bomb()))])

    assert refusal_of(gate, signed.frame) is Refusal.CODEC_NOT_ACCEPTED
    assert fuse == []


@pytest.mark.parametrize("codec", [PICKLE, f"{PICKLE}+zlib", MSGPACK, "application/x-yaml"])
def test_nothing_but_json_is_taken_without_a_signature_whatever_is_accepted(tmp_path, codec):
    everything = all_codecs([JSON, MSGPACK, PICKLE, "application/x-yaml"])
    gate = gate_of(tmp_path, accept=Accepted(everything, everything))
    [plain] = PlainSigner(clock=FakeClock()).sign([draft(codec=codec)])
    [fine] = PlainSigner(clock=FakeClock()).sign([draft(codec=JSON)])

    assert gate.open(fine.frame, kind=Kind.TASK)
    assert refusal_of(gate, plain.frame) is Refusal.CODEC_NOT_ACCEPTED


@pytest.mark.parametrize("kind", [Kind.RESULT, Kind.EVENT, Kind.CONTROL, Kind.CONTROL_REPLY])
def test_a_pickle_is_no_result_and_no_command_whoever_signs_it(tmp_path, kind):
    everything = all_codecs([JSON, PICKLE])
    gate = gate_of(tmp_path, accept=Accepted(everything, frozenset()))
    made = {"kind": kind, "codec": PICKLE, "request": bytes(32)}
    [signed] = ALICE.signer(FakeClock()).sign([draft(**made)])

    assert refusal_of(gate, signed.frame, kind) is Refusal.CODEC_NOT_ACCEPTED


def test_a_forged_pickle_is_never_read(troupe):
    result = troupe.app.tasks["pay"].delay(5)
    [delivery] = troupe.broker.receive(["celery"], limit=1, lease=30, timeout=0)
    body = pickled.encode([[Bomb()], {}, {}])
    true = decode_body(PICKLE, encode_body([[5], {}, {}], PICKLE), max_bytes=999, unpickle=True)
    assert true == [[5], {}, {}]
    forged = delivery.frame[: -len(body)] + body
    consumer, _ = troupe.start()

    consumer.admit([delivery._replace(frame=forged)])
    troupe.flush()

    assert (fuse, troupe.shelf.jobs, result.state) == ([], [], "PENDING")
    assert len(troupe.quarantined()) == 1


def test_an_allowed_pickle_is_read_by_the_process_that_runs_the_task_and_not_before(troupe):
    troupe.app.tasks["pay"].delay(Bomb())

    [job] = troupe.consume()

    assert fuse == []
    troupe.end([(job, troupe.carry_out(job))])
    assert fuse == ["went off"]


def test_a_pickle_that_raises_is_kept_and_not_quoted(troupe):
    class Loud:
        def __reduce__(self):
            return int, ("password",)

    result = troupe.app.tasks["pay"].delay(Loud())
    troupe.play()

    assert troupe.quarantined() == ["undecodable"]
    assert "password" not in str(result.result)


# What task code makes


CALL = Call(task="pay", id="c1", queue="celery", codec=PICKLE, body=pickled.encode([[], {}, {}]))


@pytest.mark.parametrize("codec", sorted(all_codecs([PICKLE])))
def test_a_worker_signs_no_pickle_that_task_code_sends(codec):
    call = CALL._replace(codec=codec)

    with pytest.raises(IpcError, match="task code cannot send pickled arguments"):
        parse_call(call_head(call), call.body)


def test_neither_does_one_that_runs_tasks_itself(troupe):
    _, settler = troupe.start()
    link = LocalLink(settler=settler, held=troupe.held, reader=troupe.client, clock=troupe.clock)

    with pytest.raises(InvalidTaskError, match=r"pay: .*pass serializer='json'"):
        link.send([CALL], timeout=1.0)


@pytest.mark.parametrize("way", ["retry", "replace"])
def test_a_task_cannot_put_a_pickle_in_its_place(troupe, way):
    @troupe.app.task(name="sly", bind=True)
    def sly(self, value):
        if way == "retry":
            raise self.retry(args=(Bomb(),))
        raise self.replace(chain(troupe.app.tasks["pay"].s(Bomb()), troupe.app.tasks["pay"].s()))

    result = sly.delay(1)
    troupe.play()

    assert fuse == []
    with pytest.raises(InvalidTaskError, match="task code cannot send pickled arguments"):
        result.get(timeout=0)


def test_a_task_may_retry_with_other_arguments_in_json(troupe):
    @troupe.app.task(name="again", bind=True)
    def again(self, value):
        if value < 2:
            raise self.retry(args=(value + 1,), countdown=0, serializer="json")
        return value

    result = again.delay(1)
    troupe.play()

    assert result.get(timeout=0) == 2


def test_a_task_process_cannot_pass_a_result_off_as_a_pickle(troupe):
    result = troupe.app.tasks["pay"].delay()
    [job] = troupe.consume()
    frame = Frame(FrameType.JOB, job.head, job.body)
    prepared = prepare(troupe.app, frame)

    lie = answer_of(prepared, Succeeded(Bomb()), troupe.app, codec=PICKLE)
    troupe.end([(job, pool.Succeeded(lie.body))])

    [report] = troupe.client.load([result.handle]).values()
    assert report.codec == JSON
    with pytest.raises(RefusedError, match="undecodable"):
        result.get(timeout=0)
    assert fuse == []


# Settings and audit


def test_no_setting_alone_lets_pickles_in(tmp_path):
    for wanted in (
        {"accept_content": ["auth", "pickle"]},
        {"task_serializer": "pickle", "unsafe_allow_pickle": True},
        {**ALLOWED, "result_serializer": "pickle"},
        {**ALLOWED, "result_accept_content": ["auth", "pickle"]},
    ):
        with pytest.raises(ImproperlyConfigured, match="pickle"):
            Troupe(tmp_path, **wanted)
