"""A Sandbox is a value that refuses what makes no sense, and says what would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cardoon.exceptions import ImproperlyConfigured
from cardoon.sandbox.profile import MIB, Level, Sandbox, split_address


def test_what_is_written_down_can_be_read_back() -> None:
    made = Sandbox(
        level="strict", tmp="64MiB", network=["Db.internal:5432"], syscalls="net", cpu=2, uid=1000
    )
    assert Sandbox.from_mapping(json.loads(json.dumps(made.to_mapping()))) == made
    assert made.tmp == 64 * MIB
    assert hash(made) == hash(Sandbox.from_mapping(made.to_mapping()))


def test_a_level_can_only_be_raised() -> None:
    assert Sandbox().at_least(Level.STRICT).level is Level.STRICT
    assert Sandbox(level="strict").at_least(Level.CONFINED).level is Level.STRICT


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"level": "stric"}, "level='stric' is no level; use process, confined, strict"),
        ({"redd": []}, "unknown field 'redd'; did you mean 'read'?"),
        ({"read": "/etc"}, "read='/etc' is not a list of texts"),
        ({"read": ["etc"]}, "read='etc' is not an absolute path"),
        ({"write": ["/srv/../etc"]}, "write='/srv/../etc' is not an absolute path"),
        ({"tmp": 5}, "tmp=5 needs level='strict'"),
        ({"tmp": "5 MB"}, "tmp='5 MB' is not a size"),
        ({"memory": True}, "memory=True is not a size"),
        ({"cpu": 0}, "cpu=0 is not between"),
        ({"threads": 1.5}, "threads=1.5 is not a whole number"),
        ({"uid": 0}, "uid=0 is not a whole number between 1"),
        ({"env": ["A=b"]}, "env='A=b' is no name of a variable"),
        ({"env": ["CARDOON_BROKER_URL"]}, "is Cardoon's own"),
        ({"network": "db"}, "network='db' use None, 'loopback', 'any' or"),
        ({"network": [], "syscalls": "net"}, "network=[] names no address"),
        ({"network": ["db:0"], "syscalls": "net"}, "network='db:0' is not HOST:PORT"),
        ({"network": ["db:1"]}, "needs syscalls='net'"),
        ({"syscalls": "all"}, "syscalls='all' is no preset; use compute, net, subprocess"),
        ({"processes": 2}, "processes=2 needs syscalls='subprocess'"),
        ({"syscalls": "subprocess"}, "needs processes"),
        ({"level": "process", "write": ["/srv"]}, "is not held at level 'process'"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        Sandbox.from_mapping(fields)
    assert said in str(caught.value)


def test_addresses() -> None:
    assert split_address("[2001:db8::1]:443") == ("2001:db8::1", 443)
    assert split_address("DB.internal:5432") == ("db.internal", 5432)
