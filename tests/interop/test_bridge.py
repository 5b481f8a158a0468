"""Celery's clients, and tasks that run here."""

from __future__ import annotations

import collections
import json
import logging
import signal
import subprocess
import sys
import threading
import time

import pytest

from cardoon import Cardoon
from cardoon.clock import SystemClock
from cardoon.contrib.celery import Bridge, Fence
from tests.interop.conftest import DEADLINE

pytestmark = pytest.mark.slow  # each starts processes


def test_over_tls_a_task_runs_here_and_its_result_comes_back(tls_site):
    tls_site.worker()
    tls_site.bridge()
    client = tls_site.client()

    [sent] = client.send("shop.add", 2, 3)

    assert client.get(sent) == {"value": 5}


class TestPlainJson:
    def test_a_task_runs_here_and_its_result_comes_back(self, site):
        site.worker()
        site.bridge()
        client = site.client()

        [sent] = client.send("shop.add", 2, 3)
        [failing] = client.send("shop.fail", "no such luck")

        assert client.get(sent) == {"value": 5}
        assert client.get(failing) == {"raised": "ValueError", "text": "no such luck"}
        assert site.app.AsyncResult(sent).get(timeout=20) == 5

    def test_it_says_where_it_came_from_and_nobody_else_can(self, site):
        site.worker()
        site.bridge()
        client = site.client()

        [sent] = client.send("shop.headers", headers={"celery": "from head office", "trace": "a1"})

        origin = {"queue": site.queue, "signed_by": None}
        assert client.get(sent)["value"] == {"trace": "a1", "celery": origin}

    def test_protocol_1_will_do(self, site):
        site.worker()
        site.bridge()
        client = site.client(PROTOCOL="1")

        [sent] = client.send("shop.add", 20, 3)

        assert client.get(sent) == {"value": 23}

    def test_an_eta_is_honoured_and_the_members_of_a_group_run(self, site):
        site.worker()
        site.bridge()
        client = site.client()
        notes = str(site.folder / "notes")

        begun = time.time()
        [late] = client.send("shop.note", notes, "late", countdown=3)
        members = client("canvas", kind="group", name="shop.add", queue=site.queue)

        assert [client.get(one) for one in members] == [{"value": 3}, {"value": 3}]
        assert client.get(late) == {"value": "late"}
        [line] = site.lines("notes")
        assert float(line.split()[1]) - begun >= 3

    def test_sigterm_ends_it_in_order(self, site):
        client = site.client()
        client.send("shop.add", 1, 1)
        bridge = site.bridge("--json", quiet=True)
        site.until(lambda: any(one["event"] == "bridge.start" for one in site.audit()))
        site.until(site.app.control.purge, "a forwarded message")

        bridge.send_signal(signal.SIGTERM)

        assert bridge.wait(20) == 0
        assert json.loads(bridge.stdout.read()) == {"forwarded": 1, "refused": 0, "returned": 0}
        events = [one["event"] for one in site.audit()]
        assert events.count("bridge.stop") == 1
        [unsafe] = [one for one in site.audit() if one["event"] == "config.unsafe"]
        assert unsafe["setting"] == "unsafe_celery_bridge"
        assert unsafe["source"] == "bridge"


class TestWhatIsRefused:
    def test_it_is_kept_with_the_reason_and_stops_nothing(self, site):
        site.worker()
        client = site.client()
        proof = site.folder / "unpickled"
        client.send("private.secret")
        client.send("celery.ping")
        client("raw", queue=site.queue, body="nothing at all", content_type="text/plain")
        client("raw", queue=site.queue, body="{not json", content_type="application/json")
        told = {"task": "shop.add", "id": "a-yaml", "lang": "py"}
        client(
            "raw",
            queue=site.queue,
            body="[[1],{},{}]",
            content_type="application/x-yaml",
            headers=told,
        )
        pickled = f"cos\nsystem\n(S'touch {proof}'\ntR."
        client("raw", queue=site.queue, body=pickled, content_type="application/x-python-serialize",
               headers=told, encoding="binary")  # fmt: skip
        client("raw", queue=site.queue, body={"text": "x", "times": 9 << 20},
               content_type="application/json", headers=told)  # fmt: skip
        client("raw", queue=site.queue, body={"text": " ", "times": 64 << 20},
               content_type="application/json", headers=told, compression="zlib")  # fmt: skip
        kinds = ["chain", "link", *(["chord"] if site.server.kind == "redis" else [])]
        for kind in kinds:  # on rpc://, Celery itself has no chords
            client("canvas", kind=kind, name="shop.add", queue=site.queue)
        canvases = len(kinds) + kinds.count("chord")  # whose header has two members
        sent = 8 + canvases
        site.bridge()
        [good] = client.send("shop.add", 40, 2)

        assert client.get(good) == {"value": 42}
        found = site.until_refused(sent)
        assert len(found) == sent
        assert collections.Counter(one["reason"] for one in found) == {
            "denied": 2,
            "content-not-accepted": 3,
            "undecodable": 1,
            "too-large": 1,
            "decompression-bomb": 1,
            "bad-claims": canvases,
        }
        assert {one["queue"] for one in found} == {f"celery:{site.queue}"}
        assert not proof.exists()
        refusals = [one for one in site.audit() if one.get("kind") == "celery"]
        assert len(refusals) == sent

    def test_what_is_no_message_of_kombus_stops_nothing(self, site, redis_only):
        site.worker()
        site.bridge()
        client = site.client()
        for entry in (b"\xff\xfe", b"[1, 2]", b'{"body": 1, "properties": {}}', b"{" * 100_000):
            redis_only.lpush(site.queue, entry)

        [good] = client.send("shop.add", 1, 2)

        assert client.get(good) == {"value": 3}
        assert {one["reason"] for one in site.until_refused(4)} == {"malformed"}


class TestAuth:
    def test_a_signed_task_runs_and_a_strangers_or_an_unsigned_one_does_not(self, site, keys):
        site.worker()
        site.bridge("--auth-certificates", str(keys / "shop.pem"))
        shop = site.client(KEYS=str(keys), SIGNER="shop")
        stranger = site.client(KEYS=str(keys), SIGNER="stranger")
        nobody = site.client()

        stranger.send("shop.add", 1, 1)
        nobody.send("shop.add", 1, 1)
        [sent] = shop.send("shop.headers")

        assert shop.get(sent)["value"]["celery"]["signed_by"].startswith("shop ")
        reasons = {one["reason"] for one in site.until_refused(2)}
        assert reasons == {"unknown-signer", "unsigned"}

    def test_a_copy_runs_no_second_time_whatever_id_it_is_given(self, site, keys, redis_only):
        shop = site.client(KEYS=str(keys), SIGNER="shop")
        notes = str(site.folder / "notes")
        [sent] = shop.send("shop.note", notes, "once")
        [entry] = redis_only.lrange(site.queue, 0, -1)
        site.worker()
        site.bridge("--auth-certificates", str(keys / "shop.pem"))
        assert shop.get(sent) == {"value": "once"}

        copy = json.loads(entry)
        copy["headers"]["id"] = "another"
        redis_only.lpush(site.queue, entry, json.dumps(copy))

        assert {one["reason"] for one in site.until_refused(2)} == {"replayed"}
        assert len(site.lines("notes")) == 1


class TestDeath:
    def test_of_500_messages_none_is_lost_and_none_runs_twice(self, site):
        site.worker()
        client = site.client()
        notes = str(site.folder / "notes")
        client.send("shop.note", notes, "first")  # makes the queue
        bridge = site.bridge()
        site.until(lambda: site.lines("notes"), "the first")
        calls = [[notes, f"n{number}"] for number in range(500)]
        client.ask("send_many", name="shop.note", calls=calls, queue=site.queue)

        for _ in range(4):
            before = len(site.lines("notes"))
            site.until(lambda seen=before: len(site.lines("notes")) > min(seen, 490), "progress")
            bridge.kill()
            bridge.wait()
            bridge = site.bridge()
        sent = client.answer()
        site.until(lambda: len(site.lines("notes")) >= 501, "all of them")

        assert len(sent) == 500
        assert client.get(sent[0]) == {"value": "n0"}
        assert client.get(sent[-1]) == {"value": "n499"}
        bridge.send_signal(signal.SIGTERM)
        assert bridge.wait(20) == 0
        ran = collections.Counter(line.split()[0] for line in site.lines("notes"))
        assert len(ran) == 501
        assert set(ran.values()) == {1}

    def test_a_message_that_comes_again_when_its_task_is_done_runs_no_more(self, site, redis_only):
        client = site.client()
        notes = str(site.folder / "notes")
        [sent] = client.send("shop.note", notes, "once")
        [entry] = redis_only.lrange(site.queue, 0, -1)
        site.worker()
        site.bridge()
        assert client.get(sent) == {"value": "once"}

        redis_only.lpush(site.queue, entry)

        [refused] = site.until_refused()
        assert (refused["reason"], refused["id"]) == ("replayed", sent)
        assert len(site.lines("notes")) == 1

    def test_what_a_bridge_held_that_died_is_put_back(self, site, redis_only):
        client = site.client()
        [sent] = client.send("shop.add", 1, 2)
        fence = Fence(queues={site.queue: "from_celery"}, tasks=("shop.*",))
        dead = Bridge(site.app, fence, broker_url=site.server.url)
        assert dead._source.receive(limit=10, timeout=5)
        assert redis_only.llen(site.queue) == 0

        # Its sign of life ends by itself 15 seconds later.
        assert redis_only.delete(f"cardoon.bridge.alive:{dead._source._name}")
        site.worker()
        site.bridge()

        assert client.get(sent) == {"value": 3}
        dead.close()


class Ahead(SystemClock):
    """A clock that goes by years wrong, until somebody puts it right."""

    seconds = 0.0

    def now(self):
        return super().now() + self.seconds


class TestWhatItCannotDoNow:
    """What is the bridge's own fault is no message's: all of them wait, and none is refused."""

    @pytest.fixture
    def bridge(self, site):
        """Runs a bridge in a thread of ours, with these settings and this clock."""
        running = []

        def run(clock=None, **settings):
            app = Cardoon(
                "ours",
                state_directory=str(site.state),
                set_as_current=False,
                clock=clock,
                **settings,
            )
            fence = Fence(queues={site.queue: "from_celery"}, tasks=("shop.*",))
            made = Bridge(app, fence, broker_url=site.server.url)
            thread = threading.Thread(target=made.run)
            thread.start()
            running.append((app, made, thread))
            return made

        yield run
        for app, made, thread in running:
            made.request_stop()
            thread.join(DEADLINE)
            assert not thread.is_alive()
            app.close()

    def watch(self, site, caplog, said, mend):
        """Send while it cannot, mend it, and see that each ran once."""
        client, notes = site.client(), str(site.folder / "notes")
        with caplog.at_level(logging.WARNING, "cardoon"):
            sent = [client.send("shop.note", notes, f"n{number}")[0] for number in range(3)]
            site.until(lambda: caplog.text.count(said) >= 2, said)
        assert (site.lines("notes"), site.refused()) == ([], [])

        mend()

        site.until(lambda: len(site.lines("notes")) >= 3, "those that waited")
        for one in sent:
            site.app.AsyncResult(one).get(timeout=DEADLINE)
        assert sorted(line.split()[0] for line in site.lines("notes")) == ["n0", "n1", "n2"]
        assert site.refused() == []

    def test_while_its_certificate_has_expired_nothing_is_signed_and_nothing_lost(
        self, site, bridge, caplog
    ):
        site.worker()
        clock = Ahead()
        made = bridge(clock)
        site.until(lambda: any(one["event"] == "bridge.start" for one in site.audit()))
        clock.seconds = 100 * 366 * 86400.0

        self.watch(site, caplog, "the bridge cannot sign", lambda: setattr(clock, "seconds", 0.0))

        assert (made.counts.forwarded, made.counts.refused) == (3, 0)

    def test_while_there_is_no_keyset_nothing_goes_in_the_clear_and_nothing_is_lost(
        self, site, bridge, caplog
    ):
        subprocess.run(
            [sys.executable, "-m", "cardoon", "-A", "ours", "keys", "init"],
            cwd=site.folder, env=site.env(), check=True, capture_output=True,
        )  # fmt: skip
        site.worker()
        record = site.state / "keyset" / "keyset.cose"
        made = bridge(security_encrypt="body")
        hidden = record.rename(record.with_name("hidden"))

        self.watch(site, caplog, "nothing can be sealed now", lambda: hidden.rename(record))

        assert (made.counts.forwarded, made.counts.refused) == (3, 0)
