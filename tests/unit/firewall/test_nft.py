"""Asking nft: whatever it says, or does not say, is told in one line and in time."""

from __future__ import annotations

import pytest

from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.firewall import nft as asking
from cardoon.firewall.judging import Verdict, judge
from cardoon.firewall.nft import Nft

EMPTY = '{"nftables": [{"metainfo": {}}, {"table": {"family": "inet", "name": "cardoon"}}]}'


@pytest.fixture
def program(tmp_path):
    """Makes an nft that does as a script says."""

    def make(script, deadline=30.0):
        path = tmp_path / "nft"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return Nft(path, deadline=deadline)

    return make


def test_a_table_is_read(program):
    nft = program(f"[ \"$*\" = '-j list table inet cardoon' ] && echo '{EMPTY}'")

    assert nft.table().chains == {}


def test_no_table_is_told_from_no_answer(program):
    nft = program("echo 'Error: No such file or directory' >&2; exit 1")

    assert nft.table() is None


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            "echo 'Operation not permitted (you must be root)' >&2; exit 1",
            "may not be asked by this user",
        ),
        ("echo 'a\nb' >&2; exit 3", "nft says: a b"),
        ("exit 3", "exit code 3"),
        ("echo '{}'", "no table"),
        ("echo", "no table"),
        ("yes", "more than"),
        ("kill -9 $$", "exit code -9"),
    ],
)
def test_every_other_answer_is_an_error(program, monkeypatch, script, told):
    monkeypatch.setattr(asking, "MAX_BYTES", 100_000)

    with pytest.raises(OperationalError, match=told):
        program(script).table()


def test_one_that_hangs_is_given_up_with_all_that_it_has_started(program, tmp_path):
    held = tmp_path / "held"
    nft = program(f"mkfifo {held}; cat {held} & cat {held}", deadline=0.05)

    with pytest.raises(OperationalError, match="no answer within"):
        nft.table()


def test_one_that_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(OperationalError, match="No such file"):
        Nft(tmp_path / "nft").table()

    monkeypatch.setattr(asking, "PLACES", (str(tmp_path / "nft"),))
    with pytest.raises(OperationalError, match="install nftables"):
        Nft().table()


def test_one_on_the_path_is_not_taken(program, tmp_path, monkeypatch):
    program("touch ran")
    monkeypatch.setattr(asking, "PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(OperationalError, match="install nftables"):
        Nft().table()


def test_it_is_given_no_environment_of_ours(program, monkeypatch):
    monkeypatch.setenv("BROKER_PASSWORD", "secret")
    nft = program("env >&2; exit 1")

    with pytest.raises(OperationalError) as caught:
        nft.table()
    assert "secret" not in str(caught.value)


def test_rules_are_given_on_standard_input(program, tmp_path):
    nft = program(f"cat > {tmp_path}/given")

    nft.load("table inet cardoon {}")

    assert (tmp_path / "given").read_text() == "table inet cardoon {}"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo 'syntax error' >&2; exit 1", ImproperlyConfigured),
        ("echo 'Operation not permitted' >&2; exit 1", OperationalError),
    ],
)
def test_rules_that_are_not_loaded_are_an_error(program, script, error):
    with pytest.raises(error):
        program(script).load("table inet cardoon {}" * 10_000)


def test_what_cannot_be_checked_is_never_well(program):
    def make():
        raise OperationalError("broker.example cannot be looked up")

    finding = judge(make, program(f"echo '{EMPTY}'"))

    assert finding.verdict is Verdict.UNKNOWN
    assert "broker.example" in finding.describe()
