"""`cardoon syslog`: which servers have read a test, and what collectors are given."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest
from click.testing import CliRunner

from cardoon.cli.main import cardoon
from cardoon.exceptions import ImproperlyConfigured


def run(*words):
    return CliRunner().invoke(cardoon, ["syslog", *words])


def nowhere():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return f"tcp://127.0.0.1:{taken.getsockname()[1]}"


def test_a_server_that_reads_and_one_that_is_away_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        read = []

        def serve():
            link, _ = listener.accept()
            with link, link.makefile("rb") as file:
                read.append(file.read())

        serving = threading.Thread(target=serve)
        serving.start()
        there, away = f"tcp://127.0.0.1:{listener.getsockname()[1]}", nowhere()
        result = run("test", "--address", there, "--address", away, "--timeout", "0.5")
        serving.join(10)

    assert result.exit_code == 69
    assert f"{there}: read" in result.output
    assert f"{away}: " in result.output
    assert b" syslog.test " in read[0]


def test_over_udp_nobody_tells_whether_it_came(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{receiver.getsockname()[1]}"
        result = run("test", "--address", address, "--json")

    assert result.exit_code == 0
    assert json.loads(result.output) == [{"server": address, "failure": None}]


def test_without_a_server_it_is_said_how_to_name_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ImproperlyConfigured, match="--address URL"):
        CliRunner().invoke(cardoon, ["syslog", "test"], catch_exceptions=False)


def test_receivers_are_written_into_a_folder(tmp_path):
    result = run("receivers", str(tmp_path / "made"))

    assert result.exit_code == 0
    assert {one.name for one in (tmp_path / "made").iterdir()} >= {"rsyslog.conf", "sigma.yml"}
