"""Syslog against real servers: rsyslogd and syslog-ng understand every record, and lose none.

`make test-detection` sends more (CARDOON_TEST_THOROUGH=1), and holds `log()` to its bound in time.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import time

import pytest

from cardoon.audit import AuditLog
from cardoon.clock import SystemClock
from cardoon.config import Conf
from cardoon.syslog.catalogue import EVENTS
from cardoon.syslog.handler import SyslogHandler
from cardoon.syslog.service import Syslog
from tests.detection.load import BOUND, Load
from tests.servers.ground import Authority
from tests.servers.syslog import Rsyslog, SyslogNg

IS_THOROUGH = bool(os.environ.get("CARDOON_TEST_THOROUGH"))
SEVERITIES = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]
WAYS = ["udp", "tcp", "tls", "unix"]
KINDS = {"rsyslog": Rsyslog, "syslog-ng": SyslogNg}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("authority"))
    made = {name: kind(tmp_path_factory.mktemp(name), authority) for name, kind in KINDS.items()}
    for one in made.values():
        one.start()
    yield made
    for one in made.values():
        one.stop()


@pytest.fixture(params=KINDS)
def server(request, servers):
    return servers[request.param]


@pytest.fixture
def own_server(request, tmp_path):
    """One that a test may kill."""
    made = KINDS[request.param](tmp_path / "server", Authority(tmp_path / "authority"))
    made.start()
    yield made
    made.stop()


def begin(server, way, **settings):
    conf = Conf({})
    conf.update(syslog_address=server.address(way), syslog_tls=server.tls_files, **settings)
    syslog = Syslog(conf.settings(), clock=SystemClock())
    audit = AuditLog(None, clock=SystemClock(), source="worker")
    syslog.start(audit)
    return syslog, audit


def past_pytest(name):
    """A logger that pytest does not listen to: it keeps every record, for the collector and for xdist."""
    logger = logging.getLogger(name)
    logger.propagate = False
    logger.handlers = [one for one in logging.root.handlers if isinstance(one, SyslogHandler)]
    assert logger.handlers
    return logger


def stream_of(received, marker):
    """The records of the stream that has a record with this marker."""
    ids = {one.sd.get("id") for one in received if one.sd.get("marker") == marker}
    return [one for one in received if one.sd.get("id") in ids]


def numbers(received):
    return {int(one.sd["seq"]) for one in received}


@pytest.mark.parametrize("way", WAYS)
def test_every_event_comes_as_the_catalogue_has_it(server, way):
    syslog, audit = begin(server, way)
    marker = f"every {way}"
    for name in EVENTS:
        audit.record(name, marker=marker, task='shop."add"]\\', count=3)
        if way == "udp":
            time.sleep(0.0005)  # as fast as records come, so that a receiver's buffer holds them

    assert syslog.close(), syslog.senders[0].failure
    found = server.wait_for(lambda all_: len(stream_of(all_, marker)) >= len(EVENTS))

    found = stream_of(found, marker)
    assert [one.msgid for one in found] == list(EVENTS)
    for one in found:
        event = EVENTS[one.msgid]
        assert (one.facility, one.app, one.pid) == ("authpriv", "cardoon", str(os.getpid()))
        assert one.severity == SEVERITIES[event.severity]
        assert one.text == event.title
        assert one.sd["event"] == one.msgid
        assert one.sd["task"] == 'shop."add"]\\'
    assert numbers(found) == set(range(1, len(EVENTS) + 1))


NASTY = [
    "\n", "\r\n", "\0", "<0>1 2020-01-01T00:00:00Z evilhost su - - - ", "<0>Jan  1 00:00:00 evilhost su: ",
    '"]', "]", "\\", '\\"', "[cardoon@32473 ", "\ufeff", "\u2028", "\u202e", "\ud800", "\x1b[2J", "\x85",
    "999 ", "0 ", "ü", "\U0001f512", "x" * 9000, " ", "%s", "%n", "\x7f", "\u0000\n<0>",
]  # fmt: skip


@pytest.mark.parametrize("way", ["tcp", "tls"])
def test_no_text_makes_a_second_record(server, way):
    count = 10_000 if IS_THOROUGH and way == "tcp" else 400
    chance = random.Random(7)
    syslog, audit = begin(server, way, syslog_queue_size=100_000)
    marker = f"nasty {way}"
    logger = past_pytest("shop.nasty")
    before = len(server.lines())
    for number in range(count):
        text = "".join(chance.choices(NASTY, k=chance.randint(1, 6)))
        name = "".join(chance.choices(NASTY, k=2)) if number % 7 == 0 else "detail"
        if number % 2:
            audit.record("message.malformed", marker=marker, number=number, **{name: text})
        else:
            logger.warning("%s", text, extra={"task_id": text, "task_name": name})

    assert syslog.close(30), syslog.senders[0].failure
    server.wait_for(lambda all_: len(all_) >= before + count)
    found = stream_of(server.received(), marker)

    assert len(server.lines()) == before + count
    assert len(found) == count
    assert {one.app for one in found} == {"cardoon"}
    assert {one.severity for one in found} == {"warning"}
    assert {one.facility for one in found} == {"authpriv", "daemon"}
    assert "evilhost" not in {one.host for one in found}


@pytest.mark.parametrize("way", ["tcp", "tls"])
def test_a_process_that_ends_right_after_logging_loses_nothing(server, way):
    code = """
import json, logging, sys
from cardoon.audit import AuditLog
from cardoon.clock import SystemClock
from cardoon.config import Conf
from cardoon.syslog.service import Syslog
conf = Conf({})
conf.update(json.loads(sys.argv[1]))
audit = AuditLog(None, clock=SystemClock(), source="worker")
Syslog(conf.settings(), clock=SystemClock()).start(audit)
audit.record("worker.start", marker=sys.argv[2])
for number in range(499):
    logging.getLogger("shop").warning("number %d", number)
"""
    settings = {"syslog_address": server.address(way), "syslog_tls": server.tls_files}
    marker = f"ends {way}"
    subprocess.run(
        [sys.executable, "-c", code, json.dumps(settings), marker], check=True, timeout=60
    )

    found = server.wait_for(lambda all_: len(stream_of(all_, marker)) >= 500, 5)
    assert numbers(stream_of(found, marker)) == set(range(1, 501))


@pytest.fixture
def begin_load():
    """Has a process log to a server, as fast as it can."""
    begun = []

    def begin_load(server, way, marker):
        settings = {
            "syslog_address": server.address(way),
            "syslog_tls": server.tls_files,
            "syslog_queue_size": 100_000,
        }
        begun.append(Load(settings, marker))
        return begun[-1]

    yield begin_load
    for one in begun:
        one.stop()


def report(load, what):
    """Tell how long the slowest `log()` took, and hold it to its bound; nothing is dropped."""
    slowest, dropped = load.close()
    print(f"\n{what}: {load.count} records, {slowest}")
    assert dropped == 0
    if IS_THOROUGH:
        assert slowest.ours <= BOUND


def all_came(server, marker, count):
    found = server.wait_for(lambda all_: len(numbers(stream_of(all_, marker))) >= count, 30)
    assert numbers(stream_of(found, marker)) == set(range(1, count + 1))
    return len(stream_of(found, marker)) - count


@pytest.mark.parametrize("own_server", KINDS, indirect=True)
@pytest.mark.parametrize("way", ["tcp", "tls"])
def test_a_server_that_is_killed_under_load_has_all_in_the_end(own_server, way, begin_load):
    count = 20_000 if IS_THOROUGH else 2000
    load = begin_load(own_server, way, "killed")
    load.log(count)
    own_server.freeze()
    load.log(count)
    own_server.kill()
    load.log(count)
    own_server.start()
    load.log(10)

    load.begin_to_close()
    twice = all_came(own_server, "killed", load.count)
    report(load, f"killed under load, {way}, {twice} twice")


@pytest.mark.parametrize("way", ["tcp", "tls"])
def test_a_server_that_is_frozen_holds_up_nobody_and_has_all_in_the_end(server, way, begin_load):
    marker = f"frozen {way}"
    load = begin_load(server, way, marker)
    load.log(10)
    with server.frozen():
        load.log(30_000 if IS_THOROUGH else 3000)

    load.begin_to_close()
    assert all_came(server, marker, load.count) == 0
    report(load, f"frozen, {way}")


def test_a_server_with_a_certificate_of_somebody_else_is_told_nothing(server, tmp_path):
    stranger = Authority(tmp_path / "stranger")
    before = len(server.lines())
    conf = Conf({})
    conf.update(
        syslog_address=server.address("tls"),
        syslog_tls={**server.tls_files, "ca": stranger.file},
    )
    syslog = Syslog(conf.settings(), clock=SystemClock())
    audit = AuditLog(None, clock=SystemClock(), source="worker")
    syslog.start(audit)
    audit.record("worker.start")

    assert syslog.close(0.5) is False
    assert "CERTIFICATE_VERIFY_FAILED" in syslog.senders[0].failure
    assert len(server.lines()) == before


def test_a_server_under_another_name_is_told_nothing(server):
    syslog, audit = begin(server, "tls")
    syslog.close()
    conf = Conf({})
    conf.update(
        syslog_address=server.address("tls"),
        syslog_tls={**server.tls_files, "server_name": "logs.example.org"},
    )
    other = Syslog(conf.settings(), clock=SystemClock())
    other.start(audit)
    audit.record("worker.start")

    assert other.close(0.5) is False
    assert "logs.example.org" in other.senders[0].failure


def test_without_a_client_certificate_nothing_is_taken_and_that_is_noticed(server):
    before = len(server.lines())
    conf = Conf({})
    conf.update(syslog_address=server.address("tls"), syslog_tls={"ca": server.tls_files["ca"]})
    syslog = Syslog(conf.settings(), clock=SystemClock())
    audit = AuditLog(None, clock=SystemClock(), source="worker")
    syslog.start(audit)
    audit.record("worker.start")

    assert syslog.close(1.0) is False
    assert len(server.lines()) == before
