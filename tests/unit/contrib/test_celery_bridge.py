"""The bridge's fence and readers, without servers: what passes, and what is refused and why."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import uuid
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardoon import Cardoon
from cardoon.contrib.celery import Bridge, CeleryTasks
from cardoon.contrib.celery.fence import Fence
from cardoon.contrib.celery.journal import Journal, Owed
from cardoon.contrib.celery.reading import Reader
from cardoon.contrib.celery.signed import AuthReader
from cardoon.contrib.celery.source import Received
from cardoon.exceptions import (
    CardoonError,
    ImproperlyConfigured,
    InvalidTaskError,
    RefusedError,
)
from cardoon.message.protocol import SESSION_BYTES
from cardoon.testing import FakeClock
from tests.servers.rsa_pair import make_rsa_pair

FENCE = Fence(queues={"celery": "ours"}, tasks=("shop.*", "billing.charge"))
HEADERS = {"task": "shop.add", "id": "one", "lang": "py"}


def message(body=([1, 2], {}, {}), *, headers=None, **parts):
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"content_type": "application/json", "content_encoding": "utf-8", **parts}
    return Received(queue="celery", body=encoded, headers={**HEADERS, **(headers or {})}, **told)


def read(received, fence=FENCE, max_bytes=10_000):
    return Reader(fence, max_bytes=max_bytes).read(received)


def reason(received, **options):
    with pytest.raises(RefusedError) as refused:
        read(received, **options)
    return refused.value.reason.value


class TestFence:
    def test_it_has_no_default(self):
        app = Cardoon("shop", broker_url="memory://", set_as_current=False)

        with pytest.raises(ImproperlyConfigured, match="no queues"):
            Fence.of(app.settings)
        with pytest.raises(ImproperlyConfigured, match="no tasks"):
            Fence.of(app.settings, queues={"celery": "ours"})

    def test_the_setting_has_it_and_what_is_given_wins(self):
        app = Cardoon("shop", broker_url="memory://", set_as_current=False)
        app.conf.unsafe_celery_bridge = {"queues": ["celery"], "tasks": "shop.*"}

        fence = Fence.of(app.settings, tasks=("billing.*",))

        assert fence.queues == {"celery": "celery"}
        assert fence.tasks == ("billing.*",)

    @pytest.mark.parametrize(
        "value", [{"task": ["x"]}, {"queues": 3}, {"digest": "md5"}, "celery", {"tasks": [1]}]
    )
    def test_a_wrong_setting_is_an_error(self, value):
        app = Cardoon("shop", broker_url="memory://", set_as_current=False)

        with pytest.raises(ImproperlyConfigured, match="unsafe_celery_bridge"):
            app.conf.unsafe_celery_bridge = value

    @pytest.mark.parametrize("name", ["private.secret", "SHOP.add", "shopadd", "billing.charges"])
    def test_what_no_name_or_glob_matches_is_refused(self, name):
        assert reason(message(headers={"task": name})) == "denied"

    def test_built_ins_match_no_glob(self):
        everything = Fence(queues={"celery": "ours"}, tasks=("*",))

        assert (
            reason(message(headers={"task": "celery.chord_unlock"}), fence=everything) == "denied"
        )


class TestReading:
    def test_a_call_is_read_with_what_it_asks_for(self):
        asked = read(
            message(
                [
                    [1],
                    {"y": 2},
                    {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
                ],
                headers={
                    "eta": "2030-01-01T12:00:00+02:00",
                    "expires": "2030-01-02T00:00:00",
                    "timelimit": [30, 20],
                    "retries": 2,
                    "stamped_headers": ["tenant"],
                    "stamps": {"tenant": "acme"},
                    "shadow": "adding",
                    "group": "g1",
                    "trace": "abc",
                    "x-death": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)],
                },
                properties={"priority": 12, "reply_to": "q", "correlation_id": "c"},
            )
        )

        assert (asked.task, asked.id, asked.args, asked.kwargs) == (
            "shop.add",
            "one",
            [1],
            {"y": 2},
        )
        assert asked.queue == asked.options["queue"] == "ours"
        assert asked.options["eta"].timestamp() == 1893492000
        assert asked.options["priority"] == 9
        assert (asked.options["time_limit"], asked.options["soft_time_limit"]) == (30, 20)
        assert asked.options["stamps"] == {"tenant": "acme"}
        origin = {"queue": "celery", "signed_by": None}
        assert asked.options["headers"] == {"trace": "abc", "celery": origin}
        assert (asked.reply_to, asked.correlation_id) == ("q", "c")
        assert len(asked.session) == SESSION_BYTES

    def test_a_copy_is_known_and_a_retry_is_none(self):
        first, copy = read(message()), read(message())
        again = read(message(headers={"retries": 1}))

        assert first.session == copy.session != again.session

    def test_kombus_own_types_arrive(self):
        pytest.importorskip("kombu")
        from kombu.utils.json import dumps  # noqa: PLC0415

        values = [
            dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.date(2026, 1, 1), dt.time(1, 2),
            Decimal("1.50"), uuid.UUID(int=7), b"text", b"\xff\x00",
        ]  # fmt: skip

        assert read(message(dumps([values, {}, {}]).encode())).args == values

    @pytest.mark.parametrize(
        ("parts", "expected"),
        [
            ({"content_type": "application/x-python-serialize"}, "content-not-accepted"),
            ({"content_type": "application/x-yaml"}, "content-not-accepted"),
            ({"content_type": "application/data"}, "content-not-accepted"),
            ({"content_encoding": "utf-7"}, "content-not-accepted"),
            ({"headers": {"compression": "application/zstd"}}, "content-not-accepted"),
            ({"headers": {"compression": ["x"]}}, "content-not-accepted"),
            ({"headers": {"compression": "application/x-gzip"}}, "undecodable"),
            ({"headers": {"id": None}}, "bad-claims"),
            ({"headers": {"id": "x\n"}}, "bad-claims"),
            ({"headers": {"id": "x" * 129}}, "bad-claims"),
            ({"headers": {"task": 7}}, "bad-claims"),
            ({"headers": {"eta": "tomorrow"}}, "bad-claims"),
            ({"headers": {"eta": 5}}, "bad-claims"),
            ({"headers": {"retries": -1}}, "bad-claims"),
            ({"headers": {"retries": "many"}}, "bad-claims"),
            ({"headers": {"timelimit": 5}}, "bad-claims"),
            ({"headers": {"stamps": []  , "stamped_headers": "x"}}, "bad-claims"),
            ({"headers": {"mine": {1, 2}}}, "bad-claims"),
            ({"headers": {"mine": "x" * 20_000}}, "too-large"),
            ({"body": {"args": []}}, "bad-claims"),
            ({"body": [[], {}]}, "bad-claims"),
            ({"body": [{}, [], {}]}, "bad-claims"),
            ({"body": [[], {}, {"chain": [{"task": "shop.add"}]}]}, "bad-claims"),
            ({"body": [[], {}, {"callbacks": [{"task": "shop.add"}]}]}, "bad-claims"),
            ({"body": [[], {}, {"errbacks": [{"task": "shop.add"}]}]}, "bad-claims"),
            ({"body": [[], {}, {"chord": {"task": "shop.add"}}]}, "bad-claims"),
            ({"body": b"[[NaN], {}, {}]"}, "undecodable"),
            ({"body": b'[[{"a": 1, "a": 2}], {}, {}]'}, "undecodable"),
            ({"body": b'[[{"__type__": "os.system", "__value__": "x"}], {}, {}]'}, "undecodable"),
            ({"body": b"[" * 5_000}, "undecodable"),
            ({"body": b"\xff"}, "undecodable"),
            ({"body": b" " * 10_001}, "too-large"),
            ({"problem": "no message"}, "malformed"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_refused(self, parts, expected):
        assert reason(message(**parts)) == expected

    @given(
        body=st.binary(max_size=50) | st.sampled_from([b"[[1], {}, {}]", b'{"task": "shop.add"}']),
        headers=st.dictionaries(
            st.sampled_from(
                sorted({*HEADERS, "eta", "retries", "timelimit", "stamps", "compression"})
            ),
            st.none()
            | st.integers()
            | st.text("aé\n0", max_size=9)
            | st.just([1, 2])
            | st.just(b"x"),
        ),
        content_type=st.sampled_from(["application/json", "application/data", ""]),
    )
    def test_whatever_comes_ends_in_a_call_or_a_refusal(self, body, headers, content_type):
        received = Received(
            queue="celery", body=body, headers=headers, content_type=content_type,
            content_encoding="utf-8",
        )  # fmt: skip
        with contextlib.suppress(RefusedError):
            assert read(received).task


class Signed:
    """A key, and the certificate in a file."""

    def __init__(self, folder, name, **options):
        self._pair = make_rsa_pair(folder, name, **options)
        self.path = self._pair.certificate

    def frame(self, value, *, digest="sha256"):
        from celery.security.certificate import Certificate  # noqa: PLC0415
        from celery.security.key import PrivateKey  # noqa: PLC0415
        from celery.security.serialization import SecureSerializer  # noqa: PLC0415

        key = PrivateKey(self._pair.key.read_bytes())
        made = SecureSerializer(key, Certificate(self.path.read_bytes()), digest=digest)
        return made.serialize(value).encode()


class TestAuth:
    @pytest.fixture(autouse=True)
    def _celery(self):
        pytest.importorskip("celery.security")

    @pytest.fixture
    def shop(self, tmp_path):
        return Signed(tmp_path, "shop")

    def test_celerys_own_frames_are_read(self, shop):
        reader = AuthReader([str(shop.path)], digest="sha256")

        found = reader.read(shop.frame([[1], {}, {}]))

        assert json.loads(found.body) == [[1], {}, {}]
        assert found.signer.startswith("shop ")

    def refusal(self, reader, frame):
        with pytest.raises(RefusedError) as refused:
            reader.read(frame)
        return refused.value.reason.value

    def test_whoever_is_not_trusted_and_whatever_was_changed_is_refused(self, shop, tmp_path):
        reader = AuthReader([str(shop.path)], digest="sha256")
        frame = shop.frame([[1], {}, {}])
        inner = base64.b64decode(frame)

        assert self.refusal(reader, Signed(tmp_path, "stranger").frame([])) == "unknown-signer"
        changed = base64.b64encode(inner.replace(b"[[1]", b"[[2]"))
        assert self.refusal(reader, changed) == "bad-signature"
        assert self.refusal(reader, shop.frame([], digest="sha512")) == "bad-signature"
        pickled = base64.b64encode(
            inner.replace(b"application/json", b"application/x-python-serialize")
        )
        assert self.refusal(reader, pickled) == "codec-not-accepted"
        assert self.refusal(reader, b"!" + frame) == "malformed"
        assert self.refusal(reader, base64.b64encode(b"a\x00\x01b")) == "malformed"

    @settings(deadline=None)  # a key is made for the first of them
    @given(frame=st.binary(max_size=300))
    def test_whatever_comes_is_refused(self, frame, tmp_path_factory):
        reader = _reader(tmp_path_factory)

        assert self.refusal(reader, base64.b64encode(frame))
        assert self.refusal(reader, frame)

    def test_a_bad_set_of_certificates_is_an_error_at_once(self, tmp_path):
        old, small = Signed(tmp_path, "old", days=-1), Signed(tmp_path, "small", bits=1024)
        (tmp_path / "none.pem").write_text("no certificate")

        for path, said in ((old.path, "expired"), (small.path, "2048"), ("none.pem", "PEM")):
            with pytest.raises(ImproperlyConfigured, match=said):
                AuthReader([str(tmp_path / path)], digest="sha256")
        with pytest.raises(ImproperlyConfigured, match="no certificates"):
            AuthReader([str(tmp_path / "*.crt")], digest="sha256")

    def test_plain_json_is_refused_where_auth_is_asked_for(self, shop):
        fence = Fence(queues={"celery": "ours"}, tasks=("*",), certificates=(str(shop.path),))

        assert reason(message(), fence=fence) == "unsigned"


_READERS = []


def _reader(tmp_path_factory):
    if not _READERS:
        made = Signed(tmp_path_factory.mktemp("auth"), "shop")
        _READERS.append(AuthReader([str(made.path)], digest="sha256"))
    return _READERS[0]


class TestJournal:
    def test_what_is_owed_survives_until_it_is_told_or_its_time_is_over(self, tmp_path):
        clock = FakeClock()
        journal = Journal(tmp_path / "bridge.db", clock=clock)
        now = clock.now()
        journal.add([(Owed("a", "reply", "c"), now + 10), (Owed("b"), now + 100)])
        journal.add([(Owed("c"), now + 100)])
        journal.close()

        journal = Journal(tmp_path / "bridge.db", clock=clock)
        assert journal.some(behind="", limit=2) == [Owed("a", "reply", "c"), Owed("b")]
        assert journal.some(behind="b", limit=2) == [Owed("c")]
        journal.remove(["b"])
        clock.advance(50)
        assert journal.some(behind="", limit=9) == [Owed("c")]
        journal.close()


class TestStart:
    """What is not configured is an error at once, and no server is asked."""

    @pytest.fixture
    def app(self, tmp_path):
        made = Cardoon("shop", state_directory=str(tmp_path / ".cardoon"), set_as_current=False)
        yield made
        made.close()

    @pytest.mark.parametrize(
        ("url", "settings", "said"),
        [
            ("", {}, "celery_broker_url is not set"),
            ("redis://elsewhere/0", {}, "plain text to elsewhere"),
            ("redis://localhost/zero", {}, "a database of Redis has a number"),
            ("redis://localhost", {"task_create_missing_queues": False}, "ours"),
            (
                "redis://localhost",
                {"task_serializer": "json", "accept_content": ["json"]},
                "task_serializer",
            ),
        ],
    )
    def test_a_bridge_that_cannot_work_does_not_begin(self, app, url, settings, said):
        pytest.importorskip("redis")
        app.conf.update(settings)

        with pytest.raises(CardoonError, match=said):
            Bridge(app, FENCE, broker_url=url)

    def test_a_queue_without_a_proper_name_is_an_error(self):
        with pytest.raises(ImproperlyConfigured, match="queue"):
            Fence(queues={"celery": "a\nb"}, tasks=("shop.*",))

    def test_calls_to_celery_need_an_address_when_they_are_made_and_not_before(self, app):
        tasks = CeleryTasks(app)

        with pytest.raises(ImproperlyConfigured, match="celery_broker_url"):
            tasks.send_task("old.multiply", (1, 2))
        with pytest.raises(InvalidTaskError, match="'chain'"):
            tasks.send_task("old.multiply", (1, 2), chain=[])
        with pytest.raises(ImproperlyConfigured, match="auth needs"):
            CeleryTasks(app, key="shop.key")

    def test_what_is_withheld_from_task_processes_is_not_taken_for_an_address(
        self, app, monkeypatch
    ):
        monkeypatch.setenv("CELERY_BROKER", "withheld:CELERY_BROKER")
        app.conf.celery_broker_url = "env:CELERY_BROKER"

        with pytest.raises(ImproperlyConfigured, match="worker_pass_environment"):
            CeleryTasks(app).send_task("old.multiply", (1, 2))
