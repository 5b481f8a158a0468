"""Entries that are kept in a store that somebody else writes: forged, moved, put back, and by whom one may not.

The store is the attacker's; readers are an app that looks, and the source that a beat has its entries from.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardoon import Cardoon
from cardoon.beat.kept import POLL_SECONDS, KeptSource
from cardoon.entries import (
    ENTRY,
    ENTRY_PREFIX,
    PAUSE_PREFIX,
    RECORDS,
    entry_draft,
    pause_draft,
    removal_draft,
)
from cardoon.entry_book import recording_of
from cardoon.exceptions import OperationalError, ScheduleError
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON
from cardoon.schedules import schedule
from cardoon.scheduling import open_book
from cardoon.security.signing import Draft, PlainSigner
from cardoon.testing import FakeClock
from cardoon.timetable import PeriodicTask
from tests.security.actors import DAY, ed25519_key, make_person, pin

ONE, TWO = ENTRY_PREFIX + "one", ENTRY_PREFIX + "two"
PAUSED = PAUSE_PREFIX + "one"
CLOSE = PeriodicTask(task="shop.close", schedule=schedule(60), args=("monday",))
ALICE = make_person("alice", ends=3650 * DAY)
MALLORY = make_person("mallory", key=ed25519_key(66), ends=3650 * DAY)
POLICY = """
version = 1
[role.client]
ids = ["subject:CN=client"]
[role.alice]
ids = ["subject:CN=alice"]

[[allow]]
role = ["client", "alice"]
action = "schedule"
task = "shop.*"
[[allow]]
role = "client"
action = "send"
task = "shop.*"
[[allow]]
role = "alice"
action = "send"
task = "shop.close"
queue = "celery"
"""


class Stand:
    """An app, its store as an attacker has it, and what a beat would send."""

    def __init__(self, folder, **more):
        self.clock = FakeClock()
        self.folder = folder / "state"
        self.app = Cardoon(
            "shop",
            set_as_current=False,
            clock=self.clock,
            broker_url="memory://",
            state_directory=str(self.folder),
            **more,
        )
        self.store = recording_of(*self.app.sender.stores)
        self.deployment = self.app.sender.deployment
        self.book = open_book(self.app, self.app.sender)
        self.source = KeptSource(
            self.book, lambda: self.app.settings.beat_schedule, clock=self.clock
        )
        pin(self.folder / "trusted", ALICE)
        self.clock.advance(10)

    def sent(self):
        """What a beat sends by now."""
        self.clock.advance(POLL_SECONDS)
        return {name for name, one in self.source.entries().items() if not one.paused}

    def refused(self):
        return {key: one.reason for key, one in self.book.read().refused.items()}

    def frame(self, key):
        return self.store.records(RECORDS)[key].frame

    def put(self, key, frame, revision=None):
        """Put a record there; of which revision is the attacker's choice."""
        present = self.store.records(RECORDS).get(key)
        if revision is not None:
            if present is not None:
                assert self.store.drop_record(RECORDS, key, revision=present.revision)
            for number in range(revision):
                assert self.store.put_record(RECORDS, key, frame, revision=number)
        else:
            number = 0 if present is None else present.revision
            assert self.store.put_record(RECORDS, key, frame, revision=number)

    def sign(self, draft, person=ALICE, **options):
        signer = person.signer(
            self.clock, **{"domain": self.app.settings.security_domain, **options}
        )
        [signed] = signer.sign([draft])
        return signed.frame

    def audited(self):
        path = self.folder / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def make_stand(tmp_path):
    made = []

    def make(policy=None, **more):
        if policy is not None:
            path = tmp_path / "policy.toml"
            path.write_text(policy)
            path.chmod(0o600)
            more["security_policy"] = str(path)
        made.append(Stand(tmp_path, **more))
        return made[-1]

    yield make
    for one in made:
        one.app.close()


@pytest.fixture
def stand(make_stand):
    return make_stand()


def entry(name="one", revision=1, made=CLOSE):
    return entry_draft(name, made, revision=revision, seal=None)


def test_what_somebody_trusted_has_signed_is_sent(stand):
    stand.put(ONE, stand.sign(entry()))

    assert stand.sent() == {"one"}
    assert stand.source.entries()["one"].args == ("monday",)
    assert stand.app.schedules.get("one").signed.signer == "CN=alice"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda stand: stand.sign(entry(), MALLORY), "unknown-signer"),
        (lambda stand: stand.sign(entry(), domain="other"), "bad-signature"),
        (lambda stand: b"", "malformed"),
        (lambda stand: b"\x00" * 100, "malformed"),
        (lambda stand: stand.sign(entry())[:-1], "malformed"),
        (lambda stand: stand.sign(entry()).replace(b"monday", b"sunday"), "wrong-digest"),
        (
            lambda stand: PlainSigner(clock=stand.clock).sign([entry()])[0].frame,
            "content-not-accepted|unsigned",
        ),
        (lambda stand: stand.sign(entry()._replace(kind=Kind.KEYSET)), "wrong-kind"),
        (
            lambda stand: stand.sign(entry()._replace(kind=Kind.CONTROL, lifetime=60)),
            "wrong-kind",
        ),
        (
            lambda stand: stand.sign(
                entry()._replace(kind=Kind.TASK, audience=("q:celery", ENTRY), retries=0)
            ),
            "wrong-kind",
        ),
        (lambda stand: stand.sign(entry()._replace(audience=())), "wrong-audience"),
        (lambda stand: stand.sign(entry()._replace(audience=("tick",))), "wrong-audience"),
        (lambda stand: stand.sign(entry("two")), "wrong-request"),
        (lambda stand: stand.sign(entry(revision=2)), "replayed"),
        (lambda stand: stand.sign(entry()._replace(headers=b"")), "replayed"),
        (lambda stand: stand.sign(entry()._replace(headers=b'{"revision":true}')), "replayed"),
        (lambda stand: stand.sign(entry()._replace(headers=b'{"revision":1}')), "bad-claims"),
        (
            lambda stand: stand.sign(entry()._replace(headers=b'{"revision":1,"removed":1}')),
            "bad-claims",
        ),
        (lambda stand: stand.sign(entry()._replace(body=b"[1]")), "undecodable"),
        (lambda stand: stand.sign(entry()._replace(body=b"{")), "undecodable"),
        (lambda stand: stand.sign(entry()._replace(codec="application/x-yaml")), "codec-not"),
        (
            lambda stand: stand.sign(pause_draft("one", "shop.close", paused=True, revision=1)),
            "wrong-audience",
        ),
    ],
)
def test_what_is_no_true_entry_is_not_sent_but_shown_and_written_down_once(stand, make, reason):
    stand.put(TWO, stand.sign(entry("two")))
    stand.put(ONE, make(stand))

    assert stand.sent() == stand.sent() == {"two"}
    [found] = stand.refused().values()
    assert found.startswith(tuple(reason.split("|")))
    assert stand.source.refusals == 1
    written = [one for one in stand.audited() if one.get("kind") == "schedule"]
    assert [(one["record"], one["reason"]) for one in written] == [(ONE, found)]
    with pytest.raises(ScheduleError, match="its record is refused"):
        stand.app.schedules.get("one")


@pytest.mark.parametrize(
    "told",
    [
        {"due": {"type": "interval", "seconds": 0.001}},
        {"due": {"type": "interval", "seconds": float("nan")}},
        {"due": {"type": "interval", "seconds": [1]}},
        {"due": {"type": "crontab", "minute": {"a": 1}}},
        {"due": {"type": "crontab", "day_of_month": "31", "month_of_year": "2"}},
        {"due": {"type": "crontab", "tz": 7}},
        {"due": {"type": "solar", "event": "sunset", "lat": float("nan"), "lon": 0}},
        {"due": {"type": "pickle"}},
        {"due": {}},
        {"options": {"link": [{"task": "bank.pay"}]}},
        {"options": {"task_id": "known"}},
        {"options": {"nonsense": 1}},
        {"options": {"countdown": "soon"}},
        {"options": {"queue": {"name": "x"}}},
        {"tz": "../../etc/passwd"},
        {"tz": 3},
        {"catch_up": ["all"]},
        {"overlap": {}},
        {"more": 1},
    ],
)
def test_what_somebody_trusted_writes_wrongly_is_refused_and_stops_nobody(stand, told):
    usual = json.loads(entry().headers)
    headers = json.dumps({**usual, **told}).encode()
    stand.put(ONE, stand.sign(entry()._replace(headers=headers)))
    stand.put(TWO, stand.sign(entry("two")))

    assert stand.sent() == {"two"}
    assert stand.refused() == {ONE: "bad-claims"}


def test_a_record_is_good_under_its_own_name_only(stand):
    stand.app.schedules.add("one", 60, "shop.close")
    stand.put(TWO, stand.frame(ONE))
    stand.put(PAUSED, stand.frame(ONE))
    stand.put("elsewhere", stand.frame(ONE))

    assert stand.sent() == {"one"}
    assert stand.refused() == {
        TWO: "wrong-request",
        PAUSED: "wrong-audience",
        "elsewhere": "malformed",
    }


def test_an_earlier_record_that_is_put_back_is_refused(stand):
    stand.app.schedules.add("one", 60, "shop.close", ("monday",))
    earlier = stand.frame(ONE)
    stand.app.schedules.add("one", 60, "shop.close", ("tuesday",), replace=True)
    stand.put(ONE, earlier)

    assert stand.sent() == set()
    assert stand.refused() == {ONE: "replayed"}
    assert stand.app.schedules.add("one", 60, "shop.close", replace=True).signed.revision == 4


def test_an_entry_that_was_removed_does_not_come_back(stand):
    stand.app.schedules.add("one", 60, "shop.close")
    earlier = stand.frame(ONE)
    stand.app.schedules.remove("one")
    stand.put(ONE, earlier)

    assert stand.sent() == set()
    assert stand.refused() == {ONE: "replayed"}


def test_who_has_seen_the_later_record_notices_a_store_that_was_turned_back(stand):
    stand.app.schedules.add("one", 60, "shop.close", ("monday",))
    earlier = stand.frame(ONE)
    stand.app.schedules.remove("one")
    assert stand.sent() == set()

    stand.put(ONE, earlier, revision=1)  # with the store's own count turned back as well

    assert stand.sent() == set()
    assert stand.refused() == {ONE: "replayed"}


def test_a_pause_holds_though_its_record_is_taken_away_or_turned_back(make_stand):
    stand = make_stand(beat_schedule={"own": {"task": "shop.close", "schedule": 5}})
    stand.app.schedules.add("one", 60, "shop.close")
    stand.app.schedules.pause("one")
    stand.app.schedules.resume("one")
    resumed = stand.frame(PAUSED)
    stand.app.schedules.pause("one")
    stand.app.schedules.pause("own")
    assert stand.sent() == set()

    for key in (PAUSED, PAUSE_PREFIX + "own"):
        record = stand.store.records(RECORDS)[key]
        assert stand.store.drop_record(RECORDS, key, revision=record.revision)
    assert stand.sent() == set()
    assert stand.source.entries()["own"].paused
    stand.put(PAUSED, resumed, revision=2)
    assert stand.sent() == set()
    assert stand.refused() == {PAUSED: "replayed", PAUSE_PREFIX + "own": "replayed"}


def test_a_pause_counts_only_from_who_may_schedule_that_task(make_stand):
    stand = make_stand(POLICY)
    stand.app.schedules.add("one", 60, "shop.open")
    stand.put(PAUSED, stand.sign(pause_draft("one", "bank.pay", paused=True, revision=1)))
    assert stand.refused() == {PAUSED: "denied"}
    assert stand.sent() == {"one"}

    stand.put(PAUSED, stand.sign(pause_draft("one", "shop.close", paused=True, revision=2)))

    assert stand.sent() == {"one"}  # that pause is of another task


def test_who_may_schedule_but_not_send_a_task_has_a_beat_send_nothing(make_stand):
    stand = make_stand(POLICY)
    other = PeriodicTask(task="shop.open", schedule=schedule(60))
    elsewhere = PeriodicTask(task="shop.close", schedule=schedule(60), options={"queue": "fast"})
    stand.put(ONE, stand.sign(entry(made=other)))
    stand.put(TWO, stand.sign(entry("two", made=elsewhere)))
    stand.put(ENTRY_PREFIX + "three", stand.sign(entry("three")))

    assert stand.sent() == {"three"}
    assert stand.refused() == {ONE: "denied", TWO: "denied"}


def test_tasks_of_our_own_are_scheduled_by_no_wildcard(make_stand):
    stand = make_stand(POLICY.replace('"shop.*"', '"**"'))
    for number, task in enumerate(("cardoon.accumulate", "cardoon.map")):
        made = PeriodicTask(task=task, schedule=schedule(60))
        stand.put(f"{ENTRY_PREFIX}{number}", stand.sign(entry(str(number), made=made)))

    assert stand.sent() == set()
    assert set(stand.refused().values()) == {"denied"}


def test_nobody_but_who_may_removes_an_entry(make_stand):
    stand = make_stand(POLICY)
    stand.app.schedules.add("one", 60, "shop.close")
    stand.put(ONE, stand.sign(removal_draft("one", "bank.pay", revision=2)))

    assert stand.refused() == {ONE: "denied"}


def test_an_entry_ends_with_the_trust_in_who_has_signed_it(stand):
    stand.put(ONE, stand.sign(entry()))
    assert stand.sent() == {"one"}

    for path in (stand.folder / "trusted").glob("*.pem"):
        if path.read_bytes() == ALICE.pem:
            path.unlink()
    stand.clock.advance(10)

    assert stand.sent() == set()
    assert stand.refused() == {ONE: "unknown-signer"}


def test_an_entry_ends_with_the_certificate_of_who_has_signed_it(stand):
    brief = make_person("brief", ends=DAY)
    pin(stand.folder / "trusted", ALICE, brief)
    stand.clock.advance(10)
    stand.put(ONE, stand.sign(entry(), brief))
    assert stand.sent() == {"one"}

    stand.clock.advance(2 * DAY)

    assert stand.sent() == set()
    assert set(stand.refused().values()) <= {"certificate-expired", "expired"}


def test_where_everything_must_be_sealed_an_entry_in_the_clear_is_refused(make_stand):
    stand = make_stand(security_encrypt="body", security_require_encryption=True)
    stand.app.schedules.add("sealed", 60, "shop.close", ("to-nobody-else",))
    stand.put(ONE, stand.sign(entry()))

    assert b"to-nobody-else" not in stand.frame(ENTRY_PREFIX + "sealed")
    assert stand.sent() == {"sealed"}
    assert stand.source.entries()["sealed"].args == ("to-nobody-else",)
    assert stand.refused() == {ONE: "not-encrypted"}


def test_who_cannot_open_the_arguments_sees_the_entry_and_does_not_send_it(make_stand, caplog):
    stand = make_stand(security_encrypt="body")
    stand.app.schedules.add("sealed", 60, "shop.close", ("to-nobody-else",))
    for path in (stand.folder / "keyset").glob("*.key"):
        path.unlink()
    with Cardoon(
        "shop",
        set_as_current=False,
        clock=stand.clock,
        broker_url="memory://",
        state_directory=str(stand.folder),
    ) as other:
        store = recording_of(*other.sender.stores)
        store.put_record(
            RECORDS, ENTRY_PREFIX + "sealed", stand.frame(ENTRY_PREFIX + "sealed"), revision=0
        )
        book = open_book(other, other.sender)
        source = KeptSource(book, lambda: other.settings.beat_schedule, clock=stand.clock)

        found = other.schedules.get("sealed")

        assert (found.schedule, found.args, bool(found.unreadable)) == (schedule(60), (), True)
        assert source.entries() == {}
        assert "give beats the private keys" in caplog.text
        for refused in (other.schedules.run_now, other.schedules.renew):
            with pytest.raises(ScheduleError, match="its arguments are sealed to others"):
                refused("sealed")


def test_a_store_that_does_not_answer_changes_nothing(stand, monkeypatch, caplog):
    stand.app.schedules.add("one", 60, "shop.close")
    assert stand.sent() == {"one"}
    before = stand.source.revision()

    def fail(kind):
        raise OperationalError("store: it does not answer")

    monkeypatch.setattr(type(stand.store), "records", lambda self, kind: fail(kind))

    assert stand.sent() == {"one"}
    assert stand.source.revision() == before
    assert "those of before go on: store: it does not answer" in caplog.text


def test_a_beat_notices_changes_within_its_poll_and_only_those(stand):
    stand.app.schedules.add("one", 60, "shop.close")
    assert stand.sent() == {"one"}
    before = stand.source.revision()

    stand.app.schedules.pause("one")
    assert stand.source.revision() == before
    assert stand.sent() == set()
    paused = stand.source.revision()
    assert paused != before
    assert stand.sent() == set()
    assert stand.source.revision() == paused


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=400), place=st.sampled_from([ONE, PAUSED, "", "x", ENTRY_PREFIX]))
def test_no_bytes_at_all_stop_who_reads(stand, content, place):
    whole = stand.sign(entry())
    cut = whole[: len(content)] + content + whole[len(content) :]
    for key, frame in ((place or "y", content), (TWO, cut)):
        stand.put(key, frame, revision=1)

    assert stand.sent() == set()
    assert len(stand.refused()) >= 2 - (not content)


def test_an_entry_of_a_draft_for_another_kind_is_no_message_of_that_kind(stand):
    """The other way round: a record is neither a task nor a command."""
    frame = stand.sign(entry())
    gate = stand.deployment.make_gate(("auth",))

    for kind in set(Kind) - {Kind.BEAT}:
        with pytest.raises(Exception, match="wrong-kind"):
            gate.open(frame, kind=kind)
    assert isinstance(entry(), Draft)
    assert entry().codec == JSON
