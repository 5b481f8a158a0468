"""The status server: what it answers, and what those cannot do who ask slowly, much or wrongly."""

from __future__ import annotations

import contextlib
import http.client
import socket
import stat
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardoon.exceptions import ImproperlyConfigured
from cardoon.status_address import Address, parse_address
from cardoon.status_server import (
    MAX_CONNECTIONS,
    MAX_HEAD,
    SECONDS,
    Answer,
    StatusServer,
    trusted_only,
)

HERE = Address("127.0.0.1", 0)
PAGES = {
    "/open": lambda question: Answer(200, b"trusted" if question.is_trusted else b"stranger"),
    "/closed": trusted_only(lambda _: Answer(200, b"secret")),
    "/broken": lambda _: 1 / 0,
    "/large": lambda _: Answer(200, b"x" * 8_000_000),
}


@contextlib.contextmanager
def serving(address=HERE, **options):
    server = StatusServer(address, PAGES, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server():
    with serving() as made:
        yield made


def get(server, path="/open", method="GET", **headers):
    line = http.client.HTTPConnection(server.address.host, server.address.port, timeout=10)
    line.request(method, path, headers=headers)
    answer = line.getresponse()
    body = answer.read()
    line.close()
    return answer.status, body


def connect(server):
    return socket.create_connection((server.address.host, server.address.port), timeout=10)


def say(server, data):
    """What is answered to these bytes; empty if the connection is closed without a word."""
    with connect(server) as line:
        found = b""
        with contextlib.suppress(ConnectionError):
            line.sendall(data)
            while received := line.recv(65536):
                found += received
        return found


def test_a_page_is_answered(server):
    assert get(server) == (200, b"trusted")
    assert get(server, "/open?x=1") == (200, b"trusted")
    assert get(server, method="HEAD") == (200, b"")


def test_what_is_no_page_is_not_answered(server):
    assert get(server, "/other")[0] == 404
    assert get(server, "/open/../closed")[0] == 404
    assert get(server, method="POST")[0] == 405
    assert get(server, method="DELETE")[0] == 405


def test_an_error_of_a_page_stays_in_the_log(server, caplog):
    status, body = get(server, "/broken")

    assert (status, body) == (500, b"internal error\n")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"GET /open\r\n\r\n",
        b"GET /open HTTP/9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET /open HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
        b"GET /open HTTP/1.1\r\nA: b\nHost: other\r\n\r\n",
        b"GET  /open HTTP/1.1\r\n\r\n",
    ],
)
def test_a_malformed_request_is_refused(server, data):
    assert say(server, data).startswith(b"HTTP/1.1 400 ")
    assert get(server)[0] == 200


def test_a_head_without_end_is_cut_off(server):
    answer = say(server, b"GET /open HTTP/1.1\r\nA: " + b"x" * MAX_HEAD)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert get(server)[0] == 200


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.binary(max_size=300))
def test_nothing_that_is_sent_stops_it(server, data):
    with connect(server) as line:
        line.sendall(data)

    assert get(server)[0] == 200


def test_those_who_send_nothing_keep_nobody_waiting(server):
    silent = [connect(server) for _ in range(3 * MAX_CONNECTIONS)]

    began = time.monotonic()
    assert get(server)[0] == 200
    assert time.monotonic() - began < SECONDS / 2
    for one in silent:
        one.close()


def test_one_that_sends_a_byte_now_and_then_is_cut_off(server):
    with connect(server) as line:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 3 * SECONDS:
                line.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - began < 2 * SECONDS
    assert get(server)[0] == 200


def test_one_that_does_not_read_is_cut_off_and_others_are_answered_meanwhile(server):
    with connect(server) as line:
        line.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        assert line.recv(10)
        assert get(server)[0] == 200
        time.sleep(SECONDS + 0.5)
        received = 0
        with contextlib.suppress(ConnectionError):
            while some := line.recv(1 << 20):
                received += len(some)
        assert received < 8_000_000


def test_a_page_in_a_browser_cannot_have_its_own_name_lead_here(server):
    assert get(server, Host="evil.example")[0] == 421
    assert get(server, Host=f"evil.example:{server.address.port}")[0] == 421
    for name in ("localhost", "127.0.0.1", f"localhost:{server.address.port}", "[::1]:80"):
        assert get(server, Host=name)[0] == 200


def test_a_token_is_wanted_where_one_is_set():
    with serving(token="open sesame") as server:
        assert get(server) == (200, b"stranger")
        assert get(server, "/closed")[0] == 401
        assert get(server, "/closed", Authorization="Bearer wrong")[0] == 401
        assert get(server, "/closed", Authorization="Basic open sesame")[0] == 401
        assert get(server, "/closed", Authorization="Bearer open sesame") == (200, b"secret")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_an_address_that_others_reach_needs_a_token_or_an_unsafe_word(host):
    with pytest.raises(
        ImproperlyConfigured, match=r"worker_metrics_token.*unsafe_allow_open_metrics"
    ):
        StatusServer(Address(host, 0), PAGES)


def test_an_address_that_others_reach_is_served_with_a_token_or_when_that_is_said():
    for options in ({"token": "x"}, {"open": True}):
        with serving(Address("0.0.0.0", 0), **options) as server:
            assert get(server, Host="pod-7.example")[0] == 200


def test_an_address_in_use_is_an_error_that_names_it(server):
    with pytest.raises(ImproperlyConfigured, match=str(server.address)):
        StatusServer(server.address, PAGES)


def test_a_unix_socket_is_its_owner_s_alone(tmp_path):
    path = str(tmp_path / "status")
    with serving(Address("", 0, path)) as server:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(path)
            line.sendall(b"GET /closed HTTP/1.1\r\nHost: whoever\r\n\r\n")
            assert line.recv(65536).startswith(b"HTTP/1.1 200 OK")
        with pytest.raises(ImproperlyConfigured, match=r"unix:"):
            StatusServer(server.address, PAGES)
    assert not Path(path).exists()


def test_a_socket_that_a_dead_process_left_is_taken_over_and_a_file_is_not(tmp_path):
    left, file = str(tmp_path / "left"), tmp_path / "file"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(left)
    file.write_text("mine")

    with serving(Address("", 0, left)):
        pass
    with pytest.raises(ImproperlyConfigured):
        StatusServer(Address("", 0, str(file)), PAGES)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9464", Address("127.0.0.1", 9464)),
        (":9464", Address("127.0.0.1", 9464)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("[::1]:80", Address("::1", 80)),
        ("unix:/run/x", Address("", 0, "/run/x")),
        ("unix:///run/x", Address("", 0, "/run/x")),
    ],
)
def test_addresses_are_read(text, expected):
    assert parse_address(text) == expected
    assert parse_address(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:x", "host:99999", "unix:", "unix:" + "x" * 200]
)
def test_what_is_no_address_is_an_error(text):
    with pytest.raises(ValueError, match="is not"):
        parse_address(text)
