"""Workers testify to their audit logs in the store, and notice a log that is not what it was."""

from __future__ import annotations

import json
import shutil

import pytest

from cardoon import Cardoon
from cardoon.attesting import make_witness
from cardoon.brokers.memory import MemoryBroker
from cardoon.deployment import Deployment
from cardoon.transparency.archive import DISPUTED, KIND, MAX_LOGS, Archive
from cardoon.transparency.testimony import parse_testimony
from cardoon.transparency.verifying import Flaw, verify_log
from cardoon.worker.sealing import AuditKeeper
from cardoon.worker.witnessing import MAX_REFUSED, Witnesses

INTERVAL = 30.0


class Host:
    """A worker's audit log, what signs it, and what testifies to it."""

    def __init__(self, folder, name, store, clock, **settings):
        self.folder = folder / name
        self.folder.mkdir(exist_ok=True)
        self.app = Cardoon("shop", set_as_current=False, state_directory=str(folder / "state"))
        self.app.conf.update(
            security_audit_log=str(self.folder / "audit.jsonl"),
            security_audit_checkpoint_seconds=1,
            **settings,
        )
        self.store, self.clock = store, clock
        self.start()

    def start(self):
        self.deployment = Deployment(self.app.settings, clock=self.clock, role="worker")
        self.audit = self.deployment.audit()
        self.audit.record("worker.start")
        self.witnesses = Witnesses(
            Archive(self.store, make_witness(self.deployment)),
            audit=self.audit,
            clock=self.clock,
            interval=INTERVAL,
            memory=self.folder / "audit.jsonl.seen",
        )
        self.keeper = AuditKeeper(self.deployment, audit=self.audit, clock=self.clock)
        self.look()
        self.look()

    def look(self):
        self.witnesses.look()
        self.keeper.look()

    def run(self, *events):
        """Record these, and let an interval pass."""
        for event in events:
            self.audit.record(event)
        self.clock.advance(1)
        self.keeper.look()
        self.clock.advance(INTERVAL)
        self.witnesses.look()

    def stop(self):
        self.witnesses.end()
        self.audit.close()

    def kill(self):
        self.audit.close()

    def copy(self, place):
        shutil.copytree(self.folder, place)

    def put_back(self, place):
        shutil.rmtree(self.folder)
        shutil.copytree(place, self.folder)

    def rewrite(self, change, *, go_on=()):
        """Write the log anew with all its keys, as who owns the host can."""
        lines = (self.folder / "audit.jsonl").read_bytes().splitlines()
        for file in self.folder.iterdir():
            if not file.name.endswith((".key", ".seen")):
                file.unlink()
        forger = Deployment(self.app.settings, clock=self.clock, role="worker").audit()
        for record in map(json.loads, lines):
            forger.record(change.get(record["event"], record["event"]), time=record["time"])
        for event in go_on:
            forger.record(event)
        forger.checkpoint()
        forger.close()

    def alarms(self, event="audit."):
        found = []
        for line in (self.folder / "audit.jsonl").read_text().splitlines():
            record = json.loads(line)
            if record["event"].startswith(event) and record["event"] != "audit.begin":
                found.append(record)
        return found


@pytest.fixture
def store(clock):
    return MemoryBroker(clock=clock)


@pytest.fixture
def hosts(tmp_path, store, clock):
    made = {}

    def make(name, **settings):
        made[name] = Host(tmp_path, name, store, clock, **settings)
        return made[name]

    yield make
    for host in made.values():
        host.audit.close()
        host.app.close()


@pytest.fixture
def host(hosts):
    return hosts("one")


@pytest.fixture
def peer(hosts, host):
    return hosts("two")


def kept(store, kind=KIND):
    return [parse_testimony(record.frame) for record in store.records(kind).values()]


def test_the_store_has_the_newest_checkpoint_of_each_log(host, peer, store):
    host.run("a", "b")
    assert {one.size for one in kept(store)} == {3, 1}

    host.stop()
    peer.run("c")
    assert {one.size for one in kept(store)} == {3, 2}
    assert host.alarms() == peer.alarms() == []


def test_a_log_that_goes_on_after_a_stop_or_a_kill_is_fine(host, peer):
    for end in (host.stop, host.kill, host.stop):
        host.run("a")
        end()
        host.start()
        peer.run("b")
    assert host.alarms() == peer.alarms() == []


def test_files_that_fill_up_between_two_looks_are_fine(hosts, store):
    host = hosts("small", security_audit_max_bytes=300, security_audit_keep=30)
    for number in range(5):
        host.run(*(f"event.{number}.{one}" for one in range(9)))
    assert host.alarms() == []
    assert next(iter(kept(store))).size > 50


def test_two_processes_that_share_a_log_testify_to_it_in_turn(hosts, store):
    one, two = hosts("shared"), hosts("shared")
    for number in range(4):
        one.run(f"one.{number}")
        two.run(f"two.{number}")
    one.stop()
    two.stop()
    assert one.alarms() == []
    assert [told.size for told in kept(store)] == [10]
    assert len(next(iter(kept(store))).steps) > 5


def test_an_older_copy_with_its_keys_is_named_a_rollback_before_it_signs(host, store, tmp_path):
    host.run("a")
    host.stop()
    host.copy(tmp_path / "yesterday")
    host.start()
    host.run("b", "c")
    host.stop()
    [before] = kept(store)
    host.put_back(tmp_path / "yesterday")
    signed = host.folder.joinpath("audit.jsonl.checkpoints").read_bytes()

    host.deployment = Deployment(host.app.settings, clock=host.clock, role="worker")
    host.start()

    [alarm] = host.alarms()
    assert (alarm["event"], alarm["seen"]) == ("audit.rollback", before.size)
    assert alarm["log"] == before.origin
    assert "the key of epoch" in alarm["detail"]
    assert host.folder.joinpath("audit.jsonl.checkpoints").read_bytes().startswith(signed)
    assert [one.encode() for one in kept(store, DISPUTED)] == [before.encode()]


def test_an_older_copy_of_the_same_epoch_is_named_too(host, store, tmp_path):
    host.run("a")
    host.copy(tmp_path / "yesterday")
    host.run("b", "c")
    host.kill()
    host.put_back(tmp_path / "yesterday")

    host.start()

    [alarm] = host.alarms()
    assert (alarm["event"], alarm["seen"]) == ("audit.rollback", 4)
    assert alarm["detail"] == "2 records were here at the start, and 4 were signed" or (
        alarm["detail"] == "3 records are here, and 4 were signed"
    )


@pytest.mark.parametrize(
    ("old", "alarms", "flaws"),
    [
        (["", ".key", ".checkpoints"], {"audit.gap", "audit.rollback"}, {Flaw.REMOVED}),
        (["", ".checkpoints"], {"audit.gap"}, {Flaw.REMOVED, Flaw.SIGNATURE, Flaw.EPOCH_MISSING}),
        ([""], {"audit.gap"}, {Flaw.REMOVED}),
        (["", ".state"], {"audit.rollback"}, {Flaw.ROOT, Flaw.NOTE}),
        (["", ".checkpoints", ".state"], {"audit.rollback"}, {Flaw.SIGNATURE, Flaw.EPOCH_MISSING}),
        ([".key"], {"audit.rollback"}, {Flaw.SIGNATURE}),
        ([".checkpoints"], set(), {Flaw.SIGNATURE, Flaw.EPOCH_MISSING}),
        ([".state"], set(), set()),  # all that was recorded and signed is there
    ],
)
def test_an_older_copy_of_some_of_its_files_is_noticed(host, tmp_path, old, alarms, flaws):
    host.run("a")
    host.stop()
    host.copy(tmp_path / "yesterday")
    host.start()
    host.run("b", "c")
    host.kill()
    for ending in old:
        file = f"audit.jsonl{ending}"
        shutil.copy2(tmp_path / "yesterday" / file, host.folder / file)

    host.start()
    host.run("d")

    assert {one["event"] for one in host.alarms()} == alarms
    verdict = verify_log(host.folder / "audit.jsonl", witness=make_witness(host.deployment))
    assert {one.flaw for one in verdict.findings} == flaws


def test_a_log_that_was_written_anew_with_all_its_keys_is_named_by_its_worker(host):
    host.run("a", "b")
    host.kill()
    host.rewrite({"a": "nothing"})

    host.start()

    [alarm] = host.alarms()
    assert (alarm["event"], alarm["seen"]) == ("audit.fork", 3)
    assert alarm["detail"] == "not the records that were signed: one of 1 to 2"


def test_a_peer_notices_a_rollback(host, peer, store, tmp_path):
    host.run("a")
    host.copy(tmp_path / "yesterday")
    host.run("b", "c")
    peer.run()
    host.kill()
    host.put_back(tmp_path / "yesterday")
    for name, record in store.records(KIND).items():  # who owns a host can write the store as well
        if parse_testimony(record.frame).size == 4:
            store.drop_record(KIND, name, revision=record.revision)
    host.start()
    host.run()

    peer.run()

    [alarm] = peer.alarms()
    assert (alarm["event"], alarm["seen"], alarm["told"]) == ("audit.rollback", 4, 3)


def test_a_peer_notices_a_fork_of_a_log_that_has_grown_since(host, peer, store):
    host.run("a", "b")
    peer.run()
    host.kill()
    host.rewrite({"a": "nothing"}, go_on=["c", "d"])
    (host.folder / "audit.jsonl.seen").unlink()
    for name, record in store.records(KIND).items():
        if parse_testimony(record.frame).size == 3:
            store.drop_record(KIND, name, revision=record.revision)
    for _ in range(9):
        peer.run()
    host.start()
    assert host.alarms() == []  # its worker knows of nothing

    peer.run()

    [alarm] = peer.alarms()
    assert (alarm["event"], alarm["seen"]) == ("audit.fork", 3)


def test_a_peer_that_was_away_compares_what_both_still_know(host, peer):
    host.run("a")
    peer.run()
    for number in range(60):
        host.run(f"event.{number}")
    peer.run()
    assert peer.alarms() == []

    host.kill()
    host.rewrite({"worker.start": "nothing"}, go_on=["b"])
    (host.folder / "audit.jsonl.seen").unlink()
    host.clock.advance(9 * INTERVAL)
    host.start()
    peer.run()
    assert [one["event"] for one in peer.alarms()] == ["audit.fork"]


def test_a_peer_that_was_started_again_remembers(host, peer, store, tmp_path):
    host.run("a")
    host.copy(tmp_path / "yesterday")
    host.run("b", "c")
    peer.run()
    peer.stop()
    host.kill()
    host.put_back(tmp_path / "yesterday")
    for name, record in store.records(KIND).items():
        store.drop_record(KIND, name, revision=record.revision)
    host.start()
    host.run()

    peer.start()

    assert [one["event"] for one in peer.alarms()] == ["audit.rollback"]


def test_a_store_that_was_emptied_is_told_again_and_nobody_is_alarmed(host, peer, store):
    host.run("a")
    peer.run("b")
    for name, record in store.records(KIND).items():
        store.drop_record(KIND, name, revision=record.revision)
    host.run()
    peer.run()
    assert len(kept(store)) == 2

    for name, record in store.records(KIND).items():
        store.drop_record(KIND, name, revision=record.revision)
    host.stop()
    host.start()
    host.run("c")
    peer.run("d")
    assert host.alarms() == peer.alarms() == []
    assert len(kept(store)) == 2


def test_junk_in_the_store_is_on_record_once_and_stops_nobody(host, peer, store):
    host.run("a")
    peer.run()
    for name, record in store.records(KIND).items():
        store.put_record(KIND, name, b"junk", revision=record.revision)
    store.put_record(KIND, "a name", b"\xff" * 100, revision=0)
    for _ in range(3):
        peer.run("b")

    assert {one["event"] for one in peer.alarms()} == {"audit.testimony_refused"}
    assert len(peer.alarms()) == 3
    host.run("c")
    peer.run()
    assert len(peer.alarms()) == 3


def test_lines_that_were_changed_under_a_worker_are_noticed_by_it(host):
    host.run("a")
    host.audit.record("b")
    log = host.folder / "audit.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"event":"b"', b'"event":"c"'))

    host.run()
    host.run("d")

    assert [one["event"] for one in host.alarms()] == ["audit.chain_broken"]


def test_logs_that_stand_still_give_way(host, store):
    for number in range(MAX_LOGS + 10):
        store.put_record(KIND, f"{number}", b"", revision=0)
    host.run("a")
    assert len(store.records(KIND)) <= MAX_LOGS + 1
    testified = [one.frame for one in store.records(KIND).values() if one.frame]
    assert [parse_testimony(frame).size for frame in testified] == [2]
    assert len(host.alarms("audit.testimony_refused")) == MAX_REFUSED


def test_who_has_no_certificate_for_a_log_does_not_testify(hosts, store, caplog, clock, tmp_path):
    host = hosts("one")
    host.stop()
    host.clock.advance(100)
    before = store.records(KIND)
    host.deployment = Deployment(host.app.settings, clock=clock, role="client")
    audit = host.deployment.audit()
    audit.record("a")
    AuditKeeper(host.deployment, audit=audit, clock=clock).look()
    other = Witnesses(
        Archive(store, make_witness(host.deployment)),
        audit=audit,
        clock=clock,
        interval=INTERVAL,
        memory=tmp_path / "seen",
    )
    other.look()
    other.look()
    audit.close()
    assert store.records(KIND) == before
    assert "another identity's" in caplog.text
