"""Addresses of syslog servers, as settings have them."""

from __future__ import annotations

import pytest

from cardoon.config import Conf
from cardoon.exceptions import ImproperlyConfigured
from cardoon.syslog_target import Target, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("udp://h", Target(kind="udp", host="h", port=514)),
        ("tcp://h:601", Target(kind="tcp", host="h", port=601)),
        ("tls://h", Target(kind="tls", host="h", port=6514)),
        ("tls://[::1]:99", Target(kind="tls", host="::1", port=99)),
        ("unix:/dev/log", Target(kind="unix", path="/dev/log")),
        ("unix:///dev/log", Target(kind="unix", path="/dev/log")),
    ],
)
def test_an_address_names_a_way_and_a_place(text, target):
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    "text",
    ["", "h:514", "http://h", "tls://", "tls://h:x", "tls://h:70000", "tls://u:p@h", "tls://h/path",
     "tls://h?verify=no", "unix:", "unix:/" + "x" * 200],
)  # fmt: skip
def test_all_else_is_refused(text):
    with pytest.raises(ImproperlyConfigured, match="syslog_address"):
        Conf({}).update(syslog_address=[text])


def test_only_what_stays_on_this_machine_is_local():
    local = [str(one) for one in map(parse_target, (
        "udp://127.0.0.1", "tcp://localhost", "tcp://[::1]:1", "unix:/dev/log", "tcp://10.0.0.1",
    )) if one.is_local]  # fmt: skip

    assert local == ["udp://127.0.0.1:514", "tcp://localhost:514", "tcp://[::1]:1", "unix:/dev/log"]


def test_several_addresses_stand_in_a_list_or_behind_commas():
    conf = Conf({"CARDOON_SYSLOG_ADDRESS": "tls://a, tls://b,tls://a"})

    assert conf.syslog_address == ("tls://a:6514", "tls://b:6514")


def test_a_key_of_tls_that_nobody_knows_is_refused_without_showing_the_others():
    with pytest.raises(ImproperlyConfigured, match="unknown key 'verify'") as caught:
        Conf({}).update(syslog_tls={"key_password": "geheim", "verify": "no"})

    assert "geheim" not in str(caught.value)


def test_the_files_of_tls_are_not_shown():
    conf = Conf({})
    conf.update(syslog_tls={"key_password": "geheim"})

    assert "geheim" not in repr(conf)


@pytest.mark.parametrize(
    ("name", "value"),
    [("syslog_facility", "root"), ("syslog_security_facility", ""), ("syslog_level", "loud"),
     ("syslog_queue_size", 1), ("syslog_fold_seconds", -1), ("syslog_fold_seconds", 3601), ("syslog_spool_bytes", 10), ("syslog_enterprise_number", 0),
     ("syslog_tls", "ca.pem"), ("unsafe_allow_plaintext_syslog", "perhaps")],
)  # fmt: skip
def test_a_setting_with_a_wrong_value_is_named(name, value):
    with pytest.raises(ImproperlyConfigured, match=name):
        Conf({}).update({name: value})
