"""A worker holds its files against their baseline: when it starts, on a schedule and on changes."""

from __future__ import annotations

import hashlib
import json
import logging
import threading

import pytest

from cardoon.audit import AuditLog
from cardoon.integrity.findings import Change, Finding, Kind
from cardoon.integrity.watching import FileWatch
from cardoon.testing import FakeClock
from cardoon.worker.drift import DriftWatch
from tests.unit.integrity.tree import Tree

PATIENCE = 20.0


class Watched:
    """A tree with a baseline, and what watches it."""

    def __init__(self, folder, **options):
        self.tree = Tree(folder)
        self.tree.make()
        self.clock = FakeClock()
        self.trail = folder / "audit.jsonl"
        self.reacted = threading.Semaphore(0)
        self.watch = DriftWatch(
            self.tree.place,
            interval=60.0,
            react=self.reacted.release,
            audit=AuditLog(self.trail, clock=self.clock, source="worker"),
            clock=self.clock,
            **{"watches": False, **options},
        )

    def events(self):
        lines = self.trail.read_text().splitlines() if self.trail.exists() else []
        return [json.loads(line) for line in lines]

    def names(self):
        return [one["event"] for one in self.events()]

    def change(self):
        self.tree.write("tasks.py", "evil")


@pytest.fixture
def make(tmp_path):
    made = []

    def build(**options):
        made.append(Watched(tmp_path, **options))
        return made[-1]

    yield build
    for one in made:
        one.watch.end()


def test_files_that_are_as_they_were_are_no_news(make):
    watched = make()

    watched.watch.look()

    assert watched.names() == ["integrity.baseline", "integrity.check_ok"]
    assert not watched.reacted.acquire(blocking=False)
    assert watched.watch.serial == 1
    assert watched.watch.checked_at == watched.clock.now()


def test_drift_at_the_start_is_told_before_the_first_look_returns(make, caplog):
    watched = make()
    watched.change()

    with caplog.at_level(logging.CRITICAL):
        watched.watch.look()

    assert watched.reacted.acquire(blocking=False)
    [found] = [one for one in watched.events() if one["event"] == "integrity.drift"]
    assert (found["kind"], found["total"], found["baseline_serial"]) == ("changed", 1, 1)
    assert found["path"].endswith("/app/tasks.py")
    assert "content" in found["detail"]
    assert "files are not what baseline 1 says: changed: " in caplog.text
    assert watched.watch.drift == {"changed": 1}


def loaded(kind):
    return Finding(
        kind, "/srv/shop/evil.py", (Change("content", "no file", "sha256:0"),), "module evil"
    )


@pytest.mark.parametrize("quick", [False, True])
def test_what_runs_and_is_not_as_the_baseline_says_is_drift(make, quick):
    watched = make(find_loaded=lambda _: [loaded(Kind.LOADED)])
    watched.watch.check()
    assert watched.reacted.acquire(blocking=False)

    watched.watch.check(quick=quick)

    assert watched.reacted.acquire(blocking=False)
    [found] = [one for one in watched.events() if one["event"] == "integrity.drift"]
    assert (found["kind"], found["path"], found["total"]) == ("loaded", "/srv/shop/evil.py", 1)
    assert found["detail"] == "module evil, content no file -> sha256:0"
    assert standing(watched) == (1, "drift", 1)


def test_what_a_task_process_alone_has_loaded_is_told_and_nothing_more(make):
    watched = make(find_loaded=lambda _: [loaded(Kind.TASK_LOADED)])

    watched.watch.check()

    assert watched.names() == ["integrity.baseline", "integrity.drift"]
    assert not watched.reacted.acquire(blocking=False)
    assert standing(watched) == (1, "drift", 1)


def test_files_that_have_changed_count_beside_what_a_task_process_has_loaded(make):
    watched = make(find_loaded=lambda _: [loaded(Kind.TASK_LOADED)])
    watched.change()

    watched.watch.check()

    assert watched.reacted.acquire(blocking=False)
    assert watched.watch.drift == {"changed": 1, "task_loaded": 1}


def test_many_files_do_not_hide_what_runs(make):
    watched = make(find_loaded=lambda _: [loaded(Kind.LOADED)])
    for number in range(30):
        watched.tree.write(f"new{number}.py", "")

    watched.watch.check()

    found = [one for one in watched.events() if one["event"] == "integrity.drift"]
    assert len(found) == 20
    assert found[0]["kind"] == "loaded"


def test_who_asks_has_all_files_checked(make):
    watched = make()
    watched.watch.look()
    watched.change()

    watched.watch.request()

    assert watched.reacted.acquire(timeout=PATIENCE)


def standing(watched):
    told = watched.watch.standing
    return told.serial, told.result.value, told.findings


def test_who_asks_learns_which_baseline_counts_and_how_the_last_full_check_ended(make):
    watched = make()
    assert standing(watched) == (0, "unchecked", 0)

    watched.watch.check()

    told = watched.watch.standing
    assert standing(watched) == (1, "ok", 0)
    assert told.digest == hashlib.sha256(watched.tree.baseline.read_bytes()).hexdigest()
    assert told.checked_at == watched.clock.now()


def test_an_incremental_check_makes_the_result_worse_and_never_better(make):
    watched = make()
    watched.watch.check()
    checked_at = watched.watch.standing.checked_at
    added = watched.tree.write("new.py", "")
    watched.clock.advance(5)

    watched.watch.check(quick=True)
    assert standing(watched) == (1, "drift", 1)
    (watched.tree.root / "new.py").unlink()
    watched.watch.check(quick=True)
    assert standing(watched) == (1, "drift", 1)
    assert watched.watch.standing.checked_at == checked_at, added

    watched.watch.check()
    assert standing(watched) == (1, "ok", 0)
    assert watched.watch.standing.checked_at == watched.clock.now()


def test_the_first_check_against_another_baseline_is_a_full_one(make):
    watched = make()
    watched.watch.check()
    watched.clock.advance(5)
    watched.tree.make(serial=2)

    watched.watch.check(quick=True)

    assert standing(watched) == (2, "ok", 0)
    assert watched.watch.standing.checked_at == watched.clock.now()


def test_a_baseline_that_does_not_count_is_no_result(make):
    watched = make()
    watched.watch.check()
    watched.tree.baseline.write_bytes(b"{}\n")

    watched.watch.check()

    assert standing(watched) == (1, "invalid", 0)


def test_a_worker_that_ends_for_the_first_look_begins_no_watching(make):
    begun = []
    watched = make(watches=True, make_watch=begun.append)
    watched.change()
    watched.watch.end()

    watched.watch.look()
    watched.watch.end()

    assert watched.reacted.acquire(blocking=False)
    assert begun == []


def test_a_check_is_due_after_the_interval(make):
    watched = make()
    watched.watch.look()
    watched.change()
    watched.watch.look()
    assert not watched.reacted.acquire(blocking=False), "not due yet"

    watched.clock.advance(60)
    watched.watch.look()

    assert watched.reacted.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("event", ["written", "made", "made in a new folder", "removed", "mode"])
def test_a_change_is_noticed_when_it_happens(make, event):
    watched = make(watches=True)
    watched.watch.look()
    root = watched.tree.root
    match event:
        case "written":
            watched.change()
        case "made":
            watched.tree.write("new.py", "")
        case "made in a new folder":
            watched.tree.write("new/deep/new.py", "")
        case "removed":
            (root / "pkg.py").unlink()
        case "mode":
            (root / "pkg.py").chmod(0o666)

    assert watched.reacted.acquire(timeout=PATIENCE)
    assert "integrity.drift" in watched.names()


def test_a_folder_that_came_later_is_watched(tmp_path):
    tree = Tree(tmp_path)
    watch = FileWatch(tree.rules)
    before = len(watch)
    (tree.root / "new").mkdir()
    assert watch.wait(PATIENCE)
    assert len(watch) == before + 1

    tree.write("new/more.py", "")

    assert watch.wait(PATIENCE)
    watch.close()


def test_what_is_beside_a_root_or_left_out_is_no_change(tmp_path):
    tree = Tree(tmp_path, growing=("**/*.txt",), exclude=("**/empty",))
    watch = FileWatch(tree.rules)

    (tmp_path / "beside").write_text("")
    tree.write("log.txt", "two\n")
    tree.write("empty/file", "")
    assert watch.wait(PATIENCE) is False

    tree.write("tasks.py", "")
    assert watch.wait(PATIENCE)
    watch.close()


def test_watching_that_fails_is_told_and_begins_anew(make):
    broken = iter([True])
    begun = threading.Semaphore(0)

    def make_watch(rules):
        if next(broken, False):
            raise OSError("no space left for watches")
        begun.release()
        return FileWatch(rules)

    watched = make(watches=True, make_watch=make_watch)
    watched.watch.look()
    assert begun.acquire(timeout=PATIENCE)
    watched.change()

    assert watched.reacted.acquire(timeout=PATIENCE)
    [failed] = [one for one in watched.events() if one["event"] == "integrity.watch_failed"]
    assert failed["detail"] == "OSError: no space left for watches"


def test_what_stays_as_it_is_is_told_once_a_day(make):
    watched = make()
    watched.change()
    for _ in range(3):
        watched.watch.check()
    assert watched.names().count("integrity.drift") == 1

    watched.clock.advance(86_400)
    watched.watch.check()
    assert watched.names().count("integrity.drift") == 2

    (watched.tree.root / "new.pth").write_text("")
    watched.watch.check()
    assert watched.names().count("integrity.drift") == 4, "both, for it is another state"


def test_many_findings_do_not_make_many_records(make):
    watched = make()
    for number in range(100):
        watched.tree.write(f"new/{number}", "")

    watched.watch.check()

    assert watched.names().count("integrity.drift") == 20
    assert watched.events()[-1]["total"] == 101
    assert watched.watch.drift["added"] == 101


def test_a_baseline_that_does_not_count_is_drift(make):
    watched = make()
    watched.watch.check()
    watched.tree.baseline.write_bytes(b"x")

    watched.watch.check()

    assert watched.reacted.acquire(blocking=False)
    assert watched.events()[-1]["event"] == "integrity.baseline_invalid"


def test_a_newer_baseline_counts_without_a_restart(make):
    watched = make()
    watched.change()
    watched.watch.check()
    watched.tree.make(serial=2)

    watched.watch.check()

    assert watched.watch.serial == 2
    assert watched.names()[-2:] == ["integrity.baseline", "integrity.check_ok"]
