"""The Sender of a client: what it signs and publishes, and which results it believes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from pathlib import Path

import pytest

from cardoon import GroupResult, states
from cardoon.backend import SealedResult
from cardoon.broker import Kept
from cardoon.exceptions import (
    EncodeError,
    ImproperlyConfigured,
    InvalidTaskError,
    Refusal,
    RefusedError,
)
from cardoon.message.headers import parse_headers
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON, JSON_ZLIB, encode_body
from cardoon.producer import SECOND_LOOK, Producer
from cardoon.security.authority import ensure_identity
from cardoon.security.identity import load_identity
from cardoon.security.signing import Draft, MessageSigner, PlainSigner
from cardoon.sender import Call, Handle, Revocation
from tests.unit.hands import Hands
from tests.unit.stage import PATIENCE, PLAIN, make_app, succeeded

ROOT = Path(__file__).parents[2]


class TestSending:
    def test_threads_that_send_at_once_are_all_signed_and_stored(self, stage):
        ends = {}

        def send(number):
            try:
                # Label 20 has room for 32 KiB, so the third one cannot be signed.
                headers = b"x" * 40_000 if number == 3 else b""
                ends[number] = stage.send_raw(id=f"t{number}", headers=headers)
            except EncodeError as error:
                ends[number] = error

        threads = [threading.Thread(target=send, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert isinstance(ends.pop(3), EncodeError)
        jobs = stage.consume()
        assert {job.id for job in jobs} == {f"t{number}" for number in ends}
        assert stage.kept(Kept.QUARANTINE) == []

    def test_more_calls_than_a_batch_holds_are_each_believed_by_themselves(self, tmp_path):
        app = make_app(tmp_path, broker_url=f"sqlite:///{tmp_path}/x.db")
        task = app.task(name="shop.pay")(lambda number: number)

        sent = task.send_many((number,) for number in range(600))

        hands = Hands(app.settings, clock=app.clock)
        deliveries = hands.take(limit=1000)
        assert [hands.arguments(delivery) for delivery in deliveries] == [[n] for n in range(600)]
        requests = [hands.open(delivery).request for delivery in deliveries]
        assert requests == [result.request for result in sent]
        hands.close()
        app.close()

    def test_many_are_stored_all_or_none(self, tmp_path):
        app = make_app(tmp_path, broker_url=f"sqlite:///{tmp_path}/x.db")
        task = app.task(name="shop.pay")(lambda number: number)
        task.send_many([(1,)])

        with pytest.raises(EncodeError):
            task.send_many([(number if number != 299 else object(),) for number in range(300)])
        with pytest.raises(EncodeError):  # the signer finds out, in the second of two batches
            app.sender.send(
                [
                    Call("t", f"t{n}", "q", JSON, b"", b"x" * 40_000 if n == 299 else b"")
                    for n in range(300)
                ],
                timeout=5,
            )

        hands = Hands(app.settings, clock=app.clock)
        assert [(depth.queue, depth.ready) for depth in hands.broker.depths()] == [("celery", 1)]
        hands.close()
        app.close()

    def test_nothing_is_nothing(self, stage):
        assert list(stage.client.send([], timeout=1)) == []

    def test_a_revocation_is_signed_and_recorded(self, stage):
        ids = tuple(f"t{number}" for number in range(7))

        stage.client.revoke(Revocation(ids, terminate=True))

        [(_, frame)] = stage.broker.heard(0)
        message = stage.gate.open(frame, kind=Kind.CONTROL, audience=frozenset({"*"}))
        assert message.claims.task == "revoke"
        assert message.signer.name.endswith("client")
        [event] = stage.events()
        assert (event["event"], event["tasks"]) == ("operator.revoke", "t0,t1,t2,t3,t4")

    def test_a_state_can_only_be_told_by_who_runs_the_task(self, stage):
        with pytest.raises(InvalidTaskError, match="only the worker that runs a task"):
            stage.client.update_state("t1", "PROGRESS", JSON, b"{}")

    def test_without_a_result_backend_results_are_kept_nowhere(self, make_stage):
        client = make_stage(results=False).client

        for ask in (
            lambda: client.load([Handle("t1")]),
            lambda: list(client.wait([Handle("t1")], timeout=0)),
            lambda: client.forget(["t1"]),
        ):
            with pytest.raises(ImproperlyConfigured, match="result_backend is not set"):
                ask()

    def test_it_is_closed_twice_as_once(self, tmp_path):
        app = make_app(tmp_path, broker_url=f"sqlite:///{tmp_path}/x.db")
        producer = Producer(app.sender.deployment)

        producer.send([Call("t", "a", "q", JSON, b"")], timeout=5)
        producer.close()
        producer.close()
        app.close()


class Answers:
    """A task that was sent and run, and results of it, true and false, to be put into the store."""

    def __init__(self, stage):
        self.stage = stage
        self.sent = stage.send(1)
        [self.job] = stage.consume()
        self.handle = Handle(self.sent.id, self.sent.request)
        self.worker = stage.deployment.make_signer("auth")

    def draft(self, **changes):
        given = {
            "task": "shop.pay",
            "id": self.sent.id,
            "request": self.stage.held.get(self.job.key).answered,
            "headers": b'{"state":"SUCCESS","worker":"w@h"}',
            "body": encode_body({"result": "forged"}, JSON),
            "kind": Kind.RESULT,
            "audience": (),
            **changes,
        }
        return Draft(**{"codec": JSON, **given})

    def signed(self, signer=None, **changes):
        [signed] = (signer or self.worker).sign([self.draft(**changes)])
        return signed.frame

    def stranger(self):
        """Somebody with a key, whom nobody here knows."""
        folder = self.stage.folder.parent / "stranger"
        paths = ensure_identity(folder, "worker", clock=self.stage.clock)
        private = load_identity(paths.key, paths.certificate)
        return MessageSigner(private, domain="default", clock=self.stage.clock), paths.certificate

    def put(self, frame, *, final=True):
        self.stage.backend.forget([self.sent.id])
        self.stage.backend.store([SealedResult(self.sent.id, frame, final, None)])

    def run(self, value="true"):
        """The worker ends the job, as it should."""
        self.stage.end(self.job, succeeded(value))

    def is_stored(self):
        return bool(self.stage.backend.load([self.sent.id]))

    def refused(self):
        return [(kept.queue, kept.id, kept.reason) for kept in self.stage.kept(Kept.QUARANTINE)]


FORGERIES = {
    "garbage": (lambda a: b"\x00garbage", "malformed"),
    "nothing": (lambda a: b"", "malformed"),
    "unsigned": (lambda a: a.signed(PlainSigner(clock=a.stage.clock, max_age=60)), "unsigned"),
    "changed body": (lambda a: a.signed()[:-3] + b'!"}', "wrong-digest"),
    "longer body": (lambda a: a.signed() + b"\x00", "malformed"),
    "of another deployment": (
        lambda a: a.signed(
            MessageSigner(a.stage.deployment.identity(), domain="other", clock=a.stage.clock)
        ),
        "bad-signature",
    ),
    "a task": (lambda a: a.signed(kind=Kind.TASK, audience=("q:celery",)), "wrong-kind"),
    "of another task": (lambda a: a.signed(id="another"), "wrong-request"),
    "headers that are no object": (lambda a: a.signed(headers=b"[1]"), "bad-claims"),
    "headers that are no JSON": (lambda a: a.signed(headers=b"{" * 20_000), "bad-claims"),
}


class TestResults:
    @pytest.fixture
    def answers(self, stage):
        return Answers(stage)

    @pytest.mark.parametrize("how", ["load", "wait"])
    @pytest.mark.parametrize("forgery", FORGERIES)
    def test_a_forged_one_is_refused_and_makes_room_for_the_true_one(
        self, stage, answers, forgery, how
    ):
        forge, reason = FORGERIES[forgery]
        answers.put(forge(answers))

        if how == "load":
            assert stage.client.load([answers.handle]) == {}
        else:
            assert list(stage.client.wait([answers.handle], timeout=0)) == []

        assert not answers.is_stored()
        assert answers.refused() == [("results", answers.sent.id, reason)]
        event = stage.events()[-1]
        assert (event["kind"], event["task_id"], event["reason"]) == (
            "result",
            answers.sent.id,
            reason,
        )
        answers.run("true")
        assert answers.sent.get(timeout=5) == "true"

    def test_whoever_waits_goes_on_waiting_for_the_true_one(self, stage, answers):
        answers.put(b"garbage")
        found = []
        waiting = threading.Thread(target=lambda: found.append(answers.sent.get(timeout=None)))
        waiting.start()
        deadline = time.monotonic() + PATIENCE
        while answers.is_stored():
            assert time.monotonic() < deadline
            time.sleep(0.002)

        answers.run("true")
        waiting.join(PATIENCE)

        assert found == ["true"]

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"body": b"{"}, "undecodable"),
            ({"body": b"[7]"}, "undecodable"),
            ({"body": b"[" * 100_000}, "undecodable"),
            ({"body": b"junk", "codec": JSON_ZLIB}, "undecodable"),
            ({"body": zlib.compress(bytes(1 << 26)), "codec": JSON_ZLIB}, "decompression-bomb"),
        ],
    )
    def test_one_of_a_worker_that_cannot_be_read_is_told_kept_and_written_down_once(
        self, stage, answers, changes, reason
    ):
        answers.put(answers.signed(**changes))

        for _ in range(2):
            with pytest.raises(RefusedError, match=f"the result of task {answers.sent.id}") as told:
                answers.sent.get(timeout=0)
            assert told.value.reason == reason

        assert answers.sent.state == states.SUCCESS
        assert answers.is_stored()  # for whoever else asks
        assert answers.refused() == [("results", answers.sent.id, reason)]
        events = [one for one in stage.events() if one.get("kind") == "result"]
        assert [(one["task_id"], one["reason"]) for one in events] == [(answers.sent.id, reason)]

    def test_one_that_has_another_in_its_place_by_now_is_not_put_away(self, stage, answers):
        answers.put(answers.signed(body=b"{"))
        assert answers.sent.ready()
        answers.put(answers.signed())

        with pytest.raises(RefusedError, match="undecodable"):
            answers.sent.get(timeout=0)

        assert answers.refused() == []

    def test_one_that_is_gone_by_now_is_told_all_the_same(self, stage, answers):
        answers.put(answers.signed(body=b"{"))
        assert answers.sent.ready()
        stage.backend.forget([answers.sent.id])

        with pytest.raises(RefusedError, match="undecodable"):
            answers.sent.get(timeout=0)

        assert answers.refused() == []

    def test_a_forged_state_is_no_state(self, answers):
        answers.put(b"garbage", final=False)

        assert answers.sent.state == states.PENDING
        assert not answers.is_stored()

    def test_one_of_an_unknown_signer_is_looked_at_again(self, stage, answers):
        signer, certificate = answers.stranger()
        answers.put(answers.signed(signer))

        assert stage.client.load([answers.handle]) == {}
        stage.clock.advance(SECOND_LOOK - 0.5)
        assert stage.client.load([answers.handle]) == {}
        assert answers.is_stored()

        known = stage.folder / "trusted" / "new.pem"
        known.write_bytes(certificate.read_bytes())
        known.chmod(0o600)
        stage.clock.advance(1)
        assert stage.client.load([answers.handle])[answers.sent.id].worker == "w@h"
        assert answers.refused() == []

    def test_one_of_a_signer_who_stays_unknown_is_refused(self, stage, answers):
        signer, _ = answers.stranger()
        answers.put(answers.signed(signer))

        assert stage.client.load([answers.handle]) == {}
        assert answers.refused() == []
        stage.clock.advance(SECOND_LOOK)
        assert stage.client.load([answers.handle]) == {}

        assert answers.refused() == [("results", answers.sent.id, "unknown-signer")]
        assert not answers.is_stored()
        assert stage.event_names()[-1] == "message.signer_unknown"

    def test_the_answer_to_another_send_of_the_id_stays_for_its_sender(self, stage, answers):
        again = stage.send(2, task_id=answers.sent.id)  # dropped as a copy: the first one is held
        assert again.request != answers.sent.request
        answers.run("true")

        assert again.state == states.PENDING
        assert stage.client.load([Handle(again.id, again.request)]) == {}
        assert list(stage.client.wait([Handle(again.id, again.request)], timeout=0)) == []

        assert answers.refused() == []
        assert answers.sent.get(timeout=5) == "true"

    def test_by_its_id_alone_any_true_answer_is_taken(self, stage, answers):
        answers.run("true")

        assert stage.app.AsyncResult(answers.sent.id).get(timeout=5) == "true"

    def test_a_result_says_what_its_claims_say(self, stage, answers):
        stage.clock.advance(3)
        answers.run()

        report = stage.client.load([answers.handle])[answers.sent.id]

        assert (report.task, report.state, report.worker) == ("shop.pay", "SUCCESS", "cardoon@here")
        assert (report.done_at, report.retries) == (stage.clock.now(), 0)

    def test_what_headers_leave_out_is_unknown(self, stage, answers):
        answers.put(answers.signed(headers=b'{"done":"soon"}'))

        report = stage.client.load([answers.handle])[answers.sent.id]
        assert (report.state, report.worker, report.done_at) == ("PENDING", "", None)

    def test_one_forged_result_does_not_hide_the_others(self, stage, answers):
        others = [stage.send(number) for number in range(3)]
        for job in stage.consume():
            stage.end(job, succeeded(job.id))
        answers.put(b"garbage")
        handles = [Handle(one.id, one.request) for one in (answers.sent, *others)]

        assert set(stage.client.load(handles)) == {one.id for one in others}
        answers.put(b"garbage")
        waited = set()
        for report in stage.client.wait(handles, timeout=0):
            waited.add(report.task_id)
        assert waited <= {one.id for one in others}
        assert [one.get(timeout=5) for one in others] == [one.id for one in others]

    def test_a_signed_result_is_refused_where_only_plain_ones_are_accepted(self, make_stage):
        answers = Answers(make_stage(settings=PLAIN))
        signer, _ = answers.stranger()
        answers.put(answers.signed(signer))

        assert answers.sent.state == states.PENDING
        assert answers.refused() == [("results", answers.sent.id, "content-not-accepted")]

    def test_two_hundred_are_awaited_at_once_on_a_file(self, tmp_path):
        app = make_app(tmp_path, broker_url=f"sqlite:///{tmp_path}/x.db")
        task = app.task(name="shop.pay")(lambda number: number)
        hands = Hands(app.settings, clock=app.clock)

        async def ask(number):
            return await (await task.adelay(number))

        async def scenario():
            return await asyncio.gather(*(ask(number) for number in range(200)))

        with hands.answering(lambda number: number * 2):
            found = asyncio.run(asyncio.wait_for(scenario(), PATIENCE))

        assert found == [number * 2 for number in range(200)]
        assert threading.active_count() < 20
        hands.close()
        app.close()


def test_a_child_of_a_process_that_has_sent_sends_and_awaits_on_its_own(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import asyncio, os, signal, threading
        from cardoon import Cardoon
        from tests.unit.hands import Hands

        signal.alarm(30)
        app = Cardoon("shop")
        task = app.task(name="shop.pay")(lambda number: number)
        waiting = threading.Event()

        async def ask(number, **options):
            return await (await task.aapply_async((number,), **options))

        async def ask_all(numbers):
            return await asyncio.gather(*(ask(number) for number in numbers))

        async def wait_for_ever():
            never = asyncio.ensure_future(ask(0, queue="nowhere"))
            assert await ask(1) == 2
            waiting.set()
            await never

        with Hands(app.settings).answering(lambda number: number * 2):
            # Somebody waits at the moment of the fork, with a thread that the child does not have.
            threading.Thread(target=asyncio.run, args=(wait_for_ever(),), daemon=True).start()
            assert waiting.wait(20)
            assert task.delay(3).get(timeout=20) == 6
            mine = app.sender
            pid = os.fork()
            if pid == 0:
                assert app.sender is not mine
                assert asyncio.run(ask_all([4, 5])) == [8, 10]
                assert task.delay(6).get(timeout=20) == 12
                os._exit(7)
            assert app.sender is mine
            assert asyncio.run(ask_all([7, 8])) == [14, 16]
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        print("both went on", flush=True)
        os._exit(0)
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "both went on\n"), done.stderr


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_headers_are_utf_8_and_nothing_else(encoding):
    written = '{"shadow": "a name"}'

    with pytest.raises(RefusedError) as refused:
        parse_headers(written.encode(encoding))

    assert refused.value.reason is Refusal.BAD_CLAIMS
    assert parse_headers(written.encode()) == {"shadow": "a name"}


@pytest.mark.parametrize(
    "content", [[], {}, {"result": 7}, {"result": [7]}, {"result": [{"id": "a"}]}, {"result": [{}]}]
)
def test_a_saved_group_that_says_nothing_of_a_group_is_refused(stage, content):
    stage.client.save_group("g1", JSON, encode_body(content, JSON))

    with pytest.raises(RefusedError, match="undecodable"):
        GroupResult.restore("g1", app=stage.app)
