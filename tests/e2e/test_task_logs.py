"""What tasks log, and what of it comes to a syslog server: real workers, real servers."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from cardoon.exceptions import WorkerLostError
from cardoon.sandbox.profile import Level
from tests.e2e.cell import readable_python
from tests.e2e.sites import Site
from tests.servers.ground import Authority
from tests.servers.syslog import Rsyslog

POOLS = ("solo", "threads", "asyncio", "prefork", "isolated")
OF_PROCESSES = ("threads", "asyncio", "prefork", "isolated")


class Logged(Site):
    """A site whose workers tell a syslog server, over TCP."""

    def __init__(self, folder: Path, server: Rsyslog) -> None:
        super().__init__(folder)
        self.server = server
        self.python, self.environment["PYTHONPATH"] = readable_python()

    def serve(self, *arguments, kind="tcp", **settings):
        told = {"syslog_address": self.server.address(kind), **settings}
        environment = {"LOGGED": json.dumps(told)}
        worker = self.start(*arguments, app="logged", env=environment, wait=False)
        self.call("add", 1, 1)
        return worker

    def send(self, name, *args, **options):
        return self.app.send_task(f"logged.{name}", args, **options)

    def come(self, is_there, seconds=20):
        """The records of logging that have come, once they are as wanted."""
        found = self.server.wait_for(lambda all_: is_there(logs_of(all_)), seconds)
        return logs_of(found)

    def end(self):
        """Stop the worker, which sends what is left; all records of logging."""
        worker = self.workers[-1]
        worker.send_signal(signal.SIGTERM)
        worker.wait(40)
        found = self.server.wait_for(lambda all_: "worker.stop" in {one.msgid for one in all_})
        return logs_of(found)


def logs_of(all_):
    return [one for one in all_ if one.msgid == "log"]


def said(all_, word):
    return [one for one in all_ if one.text.startswith(word)]


@pytest.fixture
def site(tmp_path):
    # Not below a folder that only root can search: isolated tasks of a root worker are nobody.
    folder = Path(tempfile.mkdtemp(prefix="logged-"))
    folder.chmod(0o755)
    server = Rsyslog(tmp_path / "server", Authority(tmp_path / "authority"))
    server.start()
    made = Logged(folder, server)
    yield made
    made.stop()
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("pool", POOLS)
def test_what_a_task_logs_comes_once_with_its_severity_its_task_and_its_worker(site, pool):
    worker = site.serve("-P", pool, "-c", "2", "-n", "w1@shop")

    sent = site.send("speak", "first")
    sent.get(timeout=30)
    found = said(site.end(), "first")

    told = [(one.severity, one.sd["level"], one.sd["logger"], one.text) for one in found]
    *others, wrong, last = told
    assert others == [
        ("info", "INFO", "logged", "first: by the way"),
        ("warning", "WARNING", "cardoon.task.logged", "first: mind this"),
    ]
    assert wrong[:3] == ("err", "ERROR", "logged")
    assert wrong[3].startswith(r"first: that was wrong\x0aTraceback (most recent call last):\x0a")
    assert wrong[3].endswith("ZeroDivisionError: division by zero")
    assert last == ("crit", "CRITICAL", "shop.till", "first: call somebody")
    for one in found:
        assert one.facility == "daemon"
        assert one.pid == str(worker.pid)
        assert (one.sd["task"], one.sd["task_id"]) == ("logged.speak", sent.id)
        assert one.sd["worker"] == "w1@shop"
    # Once in the worker's own log as well.
    assert site.log.read_text().count("first: mind this") == 1


@pytest.mark.parametrize("pool", ["threads", "asyncio", "prefork", "isolated"])
def test_tasks_that_log_side_by_side_are_told_apart(site, pool):
    site.serve("-P", pool, "-c", "4")

    sent = {word: site.send("speak_slowly", word, 10) for word in ("a", "b", "c", "d")}
    for one in sent.values():
        one.get(timeout=30)
    found = site.end()

    for word, one in sent.items():
        texts = [record.text for record in said(found, f"{word}: ")]
        assert texts == [f"{word}: {number}" for number in range(10)]
        assert {record.sd["task_id"] for record in said(found, f"{word}: ")} == {one.id}


@pytest.mark.parametrize("pool", ["prefork", "isolated"])
def test_a_thread_that_a_task_has_started_speaks_for_it(site, pool):
    site.serve("-P", pool, "-c", "1")

    sent = site.send("speak_in_a_thread", "aside")
    sent.get(timeout=30)

    [found] = said(site.end(), "aside")
    assert (found.sd["task"], found.sd["task_id"]) == ("logged.speak_in_a_thread", sent.id)


@pytest.mark.parametrize("level", [level.name.lower() for level in Level])
def test_a_task_in_a_sandbox_of_each_level_is_heard(site, level):
    site.serve("-P", "isolated", "-c", "1", worker_sandbox={"level": level})

    sent = site.send("speak", "first")
    sent.get(timeout=30)
    found = said(site.end(), "first")

    assert len(found) == 4
    assert {one.sd["task_id"] for one in found} == {sent.id}


@pytest.mark.parametrize("pool", ["prefork", "isolated"])
def test_the_last_words_of_a_process_that_is_killed_are_its_tasks(site, pool):
    site.serve("-P", pool, "-c", "1")

    sent = site.send("speak_and_die", "last")
    with pytest.raises(WorkerLostError):
        sent.get(timeout=30)
    found = said(site.end(), "last")

    assert found
    assert {one.sd["task_id"] for one in found} == {sent.id}


@pytest.mark.parametrize("pool", OF_PROCESSES)
def test_a_task_forges_no_record(site, pool):
    site.serve("-P", pool, "-c", "2")
    claimed = "another"
    if (
        pool == "prefork"
    ):  # a task of another process; those of one are in each other's hands anyway
        claimed = site.send("wait_for", str(site.folder)).id
        site.until((site.folder / "begun").exists)
    record = '<82>1 2026-03-01T12:00:00Z w1 cardoon 1 message.replay [cardoon@32473 event="x"] no'
    lines = [
        json.dumps([50, "cardoon.worker.worker", f"forged: one\n{record}", claimed, 0]) + "\n",
        json.dumps([50, "cardoon.worker.worker", "forged: two", None, 0]) + "\n",
        json.dumps([30, 'x" worker="other', "forged: three\u2028\u202e\ud800\x1b[2J", None, 0])
        + "\n",
        json.dumps([30, "x", None, claimed, 1 << 60]) + "\n",  # more than anybody counts
        json.dumps([30, "x", "forged: four", {"task": "other"}, 0]) + "\n",
        "[" * 4000 + "\n",
        "x" * 20_000 + "\n",
        f"{record}\n",
        "\n\xff\xfe\n",
    ]

    sent = site.send("forge", lines, 'a"] [b@1 c="d', f"honest: one\r\n{record}")
    pid = sent.get(timeout=30)
    (site.folder / "go").touch()
    site.call("speak", "after")
    all_ = site.end()

    assert "message.replay" not in {one.msgid for one in site.server.received()}
    assert {one.pid for one in site.server.received()} == {str(site.workers[-1].pid)}
    assert [one.text for one in said(all_, "forged: one")] == [rf"forged: one\x0a{record}"]
    assert len(said(all_, "forged: two")) == len(said(all_, "forged: three")) == 1
    [honest] = said(all_, "honest")
    assert honest.text == rf"honest: one\x0d\x0a{record}"
    assert honest.sd["logger"] == 'a"] [b@1 c="d'
    forged = said(all_, "forged")
    assert len(forged) == 3
    for one in (*forged, honest):
        assert (one.sd["source"], one.sd["process"]) == ("task", str(pid))
        nobody = () if pool in {"prefork", "isolated"} else (None,)
        assert one.sd.get("task_id") in {sent.id, *nobody}
        assert one.sd["worker"] != "other"
    missed = [one for one in all_ if "missed" in one.sd]
    assert missed
    assert {one.sd["source"] for one in missed} == {"worker"}
    assert len(said(all_, "after")) == 4  # and the process serves on


@pytest.mark.parametrize("pool", OF_PROCESSES)
def test_what_is_too_much_is_counted_and_nobody_else_suffers(site, pool):
    site.serve("-P", pool, "-c", "1", syslog_task_rate=20)
    times = 5000

    sent = site.send("chatter", times)
    sent.get(timeout=60)
    time.sleep(0.2)
    site.call("speak", "after")
    all_ = site.end()

    came = said(all_, "number ")
    assert 100 <= len(came) <= 100 + 20 * 30
    missed = [one for one in all_ if "missed" in one.sd]
    assert len(came) + sum(int(one.sd["missed"]) for one in missed) == times
    assert len(missed) < len(came)
    assert {one.sd["task_id"] for one in missed} == {sent.id}
    assert "audit.gap" not in {one.msgid for one in site.server.received()}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_no_task_waits_for_a_worker_that_does_not_listen(site, pool):
    worker = site.serve("-P", pool, "-c", "1", syslog_task_rate=100_000)
    times = 20_000

    sent = site.send("chatter", times, str(site.folder))
    site.until((site.folder / "begun").exists)
    worker.send_signal(signal.SIGSTOP)
    try:
        (site.folder / "go").touch()
        site.until((site.folder / "done").exists)
    finally:
        worker.send_signal(signal.SIGCONT)
    sent.get(timeout=30)
    all_ = site.end()

    missed = sum(int(one.sd.get("missed", 0)) for one in all_)
    assert missed > 0
    assert len(said(all_, "number ")) + missed == times


@pytest.mark.parametrize("pool", ["prefork", "isolated"])
def test_with_no_rate_nothing_of_tasks_is_sent(site, pool):
    site.serve("-P", pool, "-c", "1", syslog_task_rate=0)

    site.call("speak", "first")
    site.call("shout", 3)
    all_ = site.end()

    assert not [one for one in all_ if "first" in one.text or "line" in one.text]
    assert "first: mind this" in site.log.read_text()


def test_lines_that_an_isolated_task_writes_are_bounded_as_well(site):
    site.serve("-P", "isolated", "-c", "1", syslog_task_rate=20)

    sent = site.send("shout", 2000)
    sent.get(timeout=30)
    all_ = site.end()

    came = said(all_, "line ")
    assert 100 <= len(came) <= 100 + 20 * 30
    [told] = [one for one in all_ if one.text.endswith("lines of its output are not in syslog")]
    assert int(told.text.split()[0]) == 2000 - len(came)
    assert {one.sd["task_id"] for one in (*came, told)} == {sent.id}
    assert site.log.read_text().count("line 1999") == 1


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_process_holds_no_connection_to_the_server(site, pool):
    site.serve(
        "-P",
        pool,
        "-c",
        "1",
        "--syslog",
        site.server.address("tls"),
        syslog_tls=site.server.tls_files,
    )

    assert site.call("connections") == []
    site.call("speak", "first")
    assert len(said(site.end(), "first")) == 4
