"""A real worker that tells a syslog server of itself, over TLS; and one whose server is not there."""

from __future__ import annotations

import json
import signal
import socket

import pytest

from cardoon.broker import Outgoing
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.clock import SystemClock
from cardoon.sqlite.database import Database
from tests.e2e.sites import Site
from tests.servers.ground import Authority
from tests.servers.syslog import Rsyslog


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.stop()


def test_a_worker_tells_of_its_start_and_its_end(site, tmp_path):
    server = Rsyslog(tmp_path / "server", Authority(tmp_path / "authority"))
    server.start()
    app = site.folder / "told.py"
    app.write_text(
        "from work import app\n"
        f"app.conf.syslog_tls = {json.dumps(server.tls_files)}\n"
        "app.conf.syslog_level = 'warning'\n"
    )
    try:
        worker = site.start("--syslog", server.address("tls"), "-c", "1", app="told")
        server.wait_for(lambda all_: "worker.start" in {one.msgid for one in all_})
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
        found = server.wait_for(lambda all_: "worker.stop" in {one.msgid for one in all_})
    finally:
        server.stop()

    assert {"worker.start", "worker.stop"} <= {one.msgid for one in found}
    assert {one.pid for one in found} == {str(worker.pid)}
    numbers = [int(one.sd["seq"]) for one in found]
    assert sorted(numbers) == list(range(1, len(found) + 1))
    [start] = [one for one in found if one.msgid == "worker.start"]
    assert (start.facility, start.severity, start.sd["source"]) == ("authpriv", "notice", "worker")
    warnings = [one for one in found if one.msgid == "log"]
    assert "warm shutdown" in warnings[-1].text
    assert warnings[-1].facility == "daemon"


def test_a_worker_that_is_stopped_as_it_starts_ends_although_its_server_takes_nothing(site):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tls://127.0.0.1:{silent.getsockname()[1]}"
        worker = site.start("--syslog", address, "-c", "1", wait=False)
        site.until(lambda: site.log.exists() and site.log.read_text())
        worker.send_signal(signal.SIGTERM)
        worker.wait(40)  # raises if it hangs

    assert worker.returncode in {0, -signal.SIGTERM}


def test_what_is_refused_again_and_again_is_one_message_with_a_count_and_all_of_it_is_on_record(
    site, tmp_path
):
    server = Rsyslog(tmp_path / "server", Authority(tmp_path / "authority"))
    server.start()
    log = site.folder / ".cardoon" / "audit.jsonl"
    try:
        worker = site.start("--syslog", server.address("tcp"), "-P", "solo")
        path = site.folder / ".cardoon" / "cardoon.db"
        broker = SqliteBroker(Database(path, clock=SystemClock()))
        garbage = [Outgoing("celery", f"g{number}", b"garbage") for number in range(300)]
        broker.publish(garbage, timeout=20)
        broker.close()
        site.until(lambda: log.read_text().count('"message.malformed"') == 300)
        server.wait_for(lambda all_: "message.malformed" in {one.msgid for one in all_})
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
        found = server.wait_for(lambda all_: "worker.stop" in {one.msgid for one in all_})
    finally:
        server.stop()

    refused = [one for one in found if one.msgid == "message.malformed"]
    assert sum(int(one.sd.get("times", 1)) for one in refused) == 300
    assert len(refused) <= 4  # two for each window, should the worker be slow
    assert {(one.sd["queue"], one.severity) for one in refused} == {("celery", "warning")}
