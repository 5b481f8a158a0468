"""The sender and its courier against a server of sockets: nobody waits, nothing is lost, and forks begin anew."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
import time

import pytest

from cardoon.audit import AuditLog
from cardoon.clock import SystemClock
from cardoon.config import Conf
from cardoon.exceptions import ImproperlyConfigured
from cardoon.syslog.service import Syslog
from tests.servers.syslog import parse_structured

WAIT = 10


class Server:
    """Reads messages with counted octets, one connection at a time."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT)
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def accept(self):
        link, _ = self._listener.accept()
        link.settimeout(WAIT)
        return link.makefile("rb"), link

    def close(self):
        self._listener.close()


def read(file):
    """The next message; None at the end."""
    length = b""
    while (octet := file.read(1)) not in {b" ", b""}:
        length += octet
    return file.read(int(length)).decode() if length else None


def read_all(file):
    return list(iter(lambda: read(file), None))


def told(message):
    return parse_structured(re.search(r"\[.*\]", message)[0])


@pytest.fixture
def server():
    with contextlib.closing(Server()) as made:
        yield made


@pytest.fixture
def begin():
    begun = []

    def start(**settings):
        conf = Conf({})
        conf.update(settings)
        syslog = Syslog(conf.settings(), clock=SystemClock())
        audit = AuditLog(None, clock=SystemClock(), source="worker")
        syslog.start(audit)
        begun.append(syslog)
        return syslog, audit

    yield start
    for one in begun:
        one.close(0)


def test_what_is_recorded_and_what_is_logged_comes_with_its_fields(server, begin):
    syslog, audit = begin(syslog_address=server.address)
    file, link = server.accept()

    audit.record("task.unauthorized", task="shop.add", signer="ab12")
    logging.getLogger("shop").error("no stock of %s", "nuts")
    closing = threading.Thread(target=syslog.close)
    closing.start()
    first, second = read_all(file)
    file.close()
    link.close()

    assert first.startswith("<83>1 ")
    assert " task.unauthorized [" in first
    assert told(first)["task"] == "shop.add"
    assert second.startswith("<27>1 ")
    assert second.endswith("no stock of nuts")
    assert told(second)["logger"] == "shop"
    assert told(first)["id"] == told(second)["id"]
    closing.join(WAIT)


def test_the_end_waits_until_the_server_has_hung_up(server, begin):
    syslog, audit = begin(syslog_address=server.address)
    file, link = server.accept()
    audit.record("worker.stop")
    answers = []
    closing = threading.Thread(target=lambda: answers.append(syslog.close()))
    closing.start()

    assert len(read_all(file)) == 1  # which ends once the sender has said so
    assert not answers
    file.close()
    link.close()
    closing.join(WAIT)
    assert answers == [True]


def test_after_a_reset_all_that_was_sent_comes_again_under_the_same_numbers(server, begin):
    _, audit = begin(syslog_address=server.address)
    file, link = server.accept()
    for number in range(3):
        audit.record("worker.start", number=number)
    first = [told(read(file))["seq"] for _ in range(3)]
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets
    file.close()
    link.close()

    audit.record("worker.start", number=3)
    file, link = server.accept()

    again = [told(read(file))["seq"] for _ in range(4)]
    assert again == [*first, str(int(first[-1]) + 1)]
    file.close()
    link.close()


def test_a_server_that_does_not_read_keeps_nobody_and_what_has_no_room_is_told(server, begin):
    syslog, audit = begin(
        syslog_address=server.address, syslog_queue_size=100, syslog_fold_seconds=0
    )
    file, link = server.accept()
    text = "x" * 500
    while not syslog.senders[0].dropped:
        for _ in range(100):
            audit.record("message.malformed", **{f"field{n}": text for n in range(7)})
    dropped = syslog.senders[0].dropped

    seen, gap = [], None
    while gap is None:
        found = told(read(file))
        gap = found if found["event"] == "audit.gap" else None
        seen.append(int(found["seq"]))

    assert int(gap["count"]) >= dropped
    missing = range(int(gap["first_seq"]), int(gap["last_seq"]) + 1)
    assert not set(missing) & set(seen)
    file.close()
    link.close()


def test_an_end_without_a_server_comes_in_time_and_says_that_something_is_lost(begin):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    syslog, audit = begin(syslog_address=address)
    audit.record("worker.start")

    assert syslog.close(0.2) is False
    assert syslog.close(0.2) is False


def wait_until_kept(spool):
    """Until a record is on the disk, where it goes behind the back of who logs."""
    deadline = time.monotonic() + WAIT
    while not any(one.stat().st_size for one in spool.rglob("*") if one.is_file()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_with_a_spool_the_next_run_sends_what_this_one_could_not(server, begin, tmp_path):
    spool = {"syslog_spool": tmp_path / "spool", "syslog_address": server.address}
    server.close()
    first, audit = begin(**spool)
    audit.record("worker.start", worker="one")
    wait_until_kept(tmp_path / "spool")
    first.close(0.2)
    again = socket.create_server(("127.0.0.1", int(server.address.rpartition(":")[2])))

    second, audit = begin(**spool)
    audit.record("worker.start", worker="two")
    link, _ = again.accept()
    link.settimeout(WAIT)
    file = link.makefile("rb")
    found = [told(read(file)), told(read(file))]

    assert [one["worker"] for one in found] == ["one", "two"]
    assert found[0]["id"] != found[1]["id"]
    closing = threading.Thread(target=second.close)
    closing.start()
    assert read_all(file) == []
    file.close()
    link.close()
    closing.join(WAIT)
    assert list((tmp_path / "spool").iterdir()) == []
    again.close()


def test_a_forked_process_has_a_stream_and_a_connection_of_its_own(server, begin):
    syslog, audit = begin(syslog_address=server.address)
    file, link = server.accept()
    audit.record("worker.start", worker="parent")
    first = told(read(file))

    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            audit.record("worker.start", worker="child")
            syslog.close(5)
        finally:
            os._exit(0)
    other_file, other = server.accept()
    second = told(read(other_file))
    other_file.close()
    other.close()
    os.waitpid(child, 0)
    audit.record("worker.stop", worker="parent")
    third = told(read(file))

    assert [one["worker"] for one in (first, second, third)] == ["parent", "child", "parent"]
    assert first["id"] == third["id"] != second["id"]
    assert (second["seq"], third["seq"]) == ("1", "2")
    file.close()
    link.close()


def test_datagrams_are_sent_one_by_one_and_nobody_need_be_there(begin):
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(WAIT)
        _, audit = begin(syslog_address=f"udp://127.0.0.1:{receiver.getsockname()[1]}")
        audit.record("message.malformed", detail="x" * 5000)
        logging.getLogger("shop").warning("ü" * 5000)

        found = [receiver.recv(70_000) for _ in range(2)]

    assert b" message.malformed " in found[0]
    assert found[1].endswith(b"...[cut]")
    assert max(map(len, found)) <= 2000


def test_what_a_sender_says_of_itself_does_not_come_back_to_it(server, begin):
    syslog, _ = begin(syslog_address=server.address, syslog_level="debug")
    file, link = server.accept()
    logging.getLogger("cardoon.syslog.courier").warning("about myself")
    logging.getLogger("cardoon.worker").warning("about others")

    assert read(file).endswith("about others")
    file.close()
    link.close()
    assert syslog.senders[0].route.name == server.address


def test_a_level_holds_back_what_is_logged_and_no_audit_record(server, begin):
    _, audit = begin(syslog_address=server.address, syslog_level="error")
    file, link = server.accept()
    logging.getLogger("shop").warning("a warning")
    audit.record("audit.checkpoint")
    logging.getLogger("shop").error("an error")

    assert " audit.checkpoint " in read(file)
    assert read(file).endswith("an error")
    file.close()
    link.close()


@pytest.mark.parametrize("address", ["tcp://10.1.2.3", "udp://logs.example.org"])
def test_plain_text_to_another_host_is_refused(begin, address):
    with pytest.raises(ImproperlyConfigured, match="unsafe_allow_plaintext_syslog"):
        begin(syslog_address=address)


def test_plain_text_to_another_host_may_be_allowed_by_name():
    conf = Conf({})
    conf.update(syslog_address="udp://10.1.2.3", unsafe_allow_plaintext_syslog=True)

    assert len(Syslog(conf.settings(), clock=SystemClock()).senders) == 1


def test_files_of_tls_that_are_not_there_are_named(begin, tmp_path):
    with pytest.raises(ImproperlyConfigured, match=r"syslog_tls.*nowhere\.pem"):
        begin(syslog_address="tls://localhost", syslog_tls={"ca": tmp_path / "nowhere.pem"})


def test_what_repeats_comes_at_once_and_again_with_a_count_when_its_window_ends(server, begin):
    _, audit = begin(syslog_address=server.address, syslog_fold_seconds=0.5)
    file, link = server.accept()
    for number in range(20):
        audit.record("message.replay", reason="replayed", task_id=f"t{number}")

    first, second = read(file), read(file)  # without an end of the process

    assert told(first)["task_id"] == "t0"
    assert "times" not in told(first)
    assert (told(second)["times"], told(second)["task_id"]) == ("19", "t19")
    assert told(second)["first"] <= told(second)["last"]
    assert first.partition(">1 ")[0] == second.partition(">1 ")[0] == "<82"
    assert second.endswith("A message was sent a second time, 19 times more")
    assert audit.counts["message.replay"] == 20
    file.close()
    link.close()


def test_a_process_that_ends_tells_first_what_has_repeated(server, begin):
    syslog, audit = begin(syslog_address=server.address, syslog_fold_seconds=3600)
    file, link = server.accept()
    for _ in range(3):
        audit.record("cert.expired", reason="expired")
    closing = threading.Thread(target=syslog.close)
    closing.start()

    assert [told(one).get("times") for one in read_all(file)] == [None, "2"]
    file.close()
    link.close()
    closing.join(WAIT)
