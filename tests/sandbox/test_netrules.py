"""Which addresses a task may have, by its list and by what its names mean."""

from __future__ import annotations

import ipaddress

import pytest

from cardoon.sandbox.netrules import (
    MAX_LISTED,
    NetworkRules,
    Refused,
    Target,
    host_names,
    is_metadata,
    parse_ip,
)
from cardoon.sandbox.relaying import foreign_addresses, inside_addresses

ip = ipaddress.ip_address


def test_a_listed_name_is_seen_at_an_address_of_ours_for_all_its_ports() -> None:
    network = ["db.internal:5432", "DB.internal:5433", "api:443", "192.0.2.7:80"]

    assert host_names(network) == {"db.internal": "127.64.0.1", "api": "127.64.0.2"}
    assert inside_addresses(network) == [
        ("127.64.0.1", 5432),
        ("127.64.0.1", 5433),
        ("127.64.0.2", 443),
        ("192.0.2.7", 80),
    ]
    assert foreign_addresses(network) == ["192.0.2.7"]
    rules = NetworkRules(network)
    assert rules.judge(ip("127.64.0.1"), 5433) == Target("db.internal", 5433)
    assert isinstance(rules.judge(ip("127.64.0.1"), 443), Refused)
    assert isinstance(rules.judge(ip("127.64.0.3"), 443), Refused)


def test_ipv4_in_ipv6_is_ipv4() -> None:
    rules = NetworkRules(["192.0.2.7:80"])

    assert rules.judge(ip("::ffff:192.0.2.7"), 80) == Target("192.0.2.7", 80)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "::1", "0.0.0.0", "169.254.1.1", "fe80::1", "224.0.0.1", "100.100.100.200"),
        *("fd00:ec2::254", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "::"),
    ],
)
def test_a_name_never_leads_to_a_special_address(address: str) -> None:
    rules = NetworkRules(["db.internal:80"])

    refused = rules.allows(Target("db.internal", 80), ip(address), set())

    assert refused is not None
    assert "has to be listed as such" in refused.text


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "fe80::1"])
def test_a_special_address_is_reached_where_it_is_listed_itself(address: str) -> None:
    text = f"[{address}]:80" if ":" in address else f"{address}:80"
    rules = NetworkRules([text])
    target = rules.judge(ip(address), 80)

    assert isinstance(target, Target)
    assert rules.allows(target, ip(address), set()) is None


def test_a_name_that_means_the_workers_own_server_is_refused() -> None:
    rules = NetworkRules(["db.internal:6379"], [("192.0.2.1", 6379), ("Redis.internal", 6379)])

    by_address = rules.allows(Target("db.internal", 6379), ip("192.0.2.1"), set())
    by_name = rules.allows(Target("db.internal", 6379), ip("192.0.2.2"), {("192.0.2.2", 6379)})
    elsewhere = rules.allows(Target("db.internal", 6380), ip("192.0.2.1"), set())

    assert by_address is not None
    assert by_name is not None
    assert elsewhere is None


def test_the_workers_own_server_is_reached_where_it_is_listed_by_its_own_name() -> None:
    rules = NetworkRules(["redis.internal:6379"], [("Redis.internal", 6379)])

    assert (
        rules.allows(Target("redis.internal", 6379), ip("192.0.2.2"), {("192.0.2.2", 6379)}) is None
    )


def test_a_list_is_bounded() -> None:
    with pytest.raises(ValueError, match="too many"):
        NetworkRules([f"192.0.2.1:{port}" for port in range(1, MAX_LISTED + 2)])


def test_what_is_listed_has_its_port_and_no_other() -> None:
    rules = NetworkRules(["192.0.2.7:80", "[2001:db8::1]:443"])

    assert rules.judge(ip("2001:db8::1"), 443) == Target("2001:db8::1", 443)
    for address, port in (("192.0.2.7", 443), ("192.0.2.8", 80), ("2001:db8::1", 80)):
        refused = rules.judge(ip(address), port)
        assert isinstance(refused, Refused)
        assert refused.why == "not listed"


def test_no_network_is_none() -> None:
    assert NetworkRules(None).judge(ip("192.0.2.7"), 80) == Refused("192.0.2.7:80", "no network")


def test_loopback_is_loopback_and_no_server_of_the_worker() -> None:
    rules = NetworkRules("loopback", [("127.0.0.1", 6379), ("localhost", 5432)])

    assert rules.judge(ip("127.0.0.1"), 80) == Target("127.0.0.1", 80)
    assert isinstance(rules.judge(ip("192.0.2.7"), 80), Refused)
    assert isinstance(rules.judge(ip("127.0.0.1"), 6379), Refused)
    named = rules.judge(ip("127.0.0.1"), 5432)
    assert named == Target("127.0.0.1", 5432)
    refused = rules.allows(named, ip("127.0.0.1"), {("127.0.0.1", 5432)})
    assert refused is not None
    assert refused.why == "a server of the worker's own"
    assert rules.allows(Target("127.0.0.1", 80), ip("127.0.0.1"), set()) is None
    assert rules.allows(Target("127.0.0.1", 80), ip("192.0.2.7"), set()) is not None


def test_any_is_all_but_metadata() -> None:
    rules = NetworkRules("any", [("192.0.2.7", 6379)])

    assert rules.judge(ip("192.0.2.7"), 6379) == Target("192.0.2.7", 6379)
    assert rules.allows(Target("192.0.2.7", 6379), ip("192.0.2.7"), set()) is None
    for address in ("169.254.169.254", "169.254.170.2", "fd20:ce::254", "192.0.0.192"):
        refused = rules.judge(ip(address), 80)
        assert isinstance(refused, Refused)
        assert refused.why == "metadata of the cloud"
        assert rules.allows(Target(address, 80), ip(address), set()) is not None


def test_ipv4_behind_a_translator_is_not_what_is_listed() -> None:
    assert is_metadata(ip("64:ff9b::a9fe:a9fe"))
    assert not is_metadata(ip("64:ff9b::c000:207"))
    assert isinstance(NetworkRules(["192.0.2.7:80"]).judge(ip("64:ff9b::c000:207"), 80), Refused)


def test_an_address_is_told_as_it_is_listed() -> None:
    assert Target("2001:db8::1", 443).text == "[2001:db8::1]:443"
    assert Target("db.internal", 443).text == "db.internal:443"
    assert Refused("db.internal:443", "not listed").text == "db.internal:443 (not listed)"


def test_a_scope_is_passed_on_and_does_not_make_another_address() -> None:
    rules = NetworkRules(["[fe80::1]:80"])

    assert rules.judge(ip("fe80::1%3"), 80, 3) == Target("fe80::1", 80, 3)
    assert rules.allows(Target("fe80::1", 80, 3), ip("fe80::1%3"), set()) is None


def test_words_and_nothing_have_no_names_and_a_list_may_be_full() -> None:
    assert host_names(None) == host_names("any") == {}
    assert parse_ip("db.internal") is None
    full = [f"192.0.2.1:{port}" for port in range(1, MAX_LISTED + 1)]
    assert len(NetworkRules(full).targets) == MAX_LISTED
    assert NetworkRules("any").targets == ()


def test_an_own_server_is_known_in_any_spelling_of_its_address() -> None:
    rules = NetworkRules(["a:1", "b:1"], [("2001:DB8:0::1", 1), ("::ffff:192.0.2.1", 1)])

    assert rules.allows(Target("a", 1), ip("2001:db8::1"), set()) is not None
    assert rules.allows(Target("b", 1), ip("192.0.2.1"), set()) is not None
